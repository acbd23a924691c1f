"""Sending forms as they stand, for the tests of bad ones."""

import json

from multipart import content_type
from rawhttp import exchange, raw_request

FILE = 'Content-Disposition: form-data; name="file"; filename="{}"'


def send(service, body, kind=None):
    """POSTs a body with a Content-Type given raw; a raw answer."""
    headers = [] if kind is False else [("Content-Type", content_type() if kind is None else kind)]
    return exchange(service, raw_request("POST", "/api/files/upload", headers, body))


def refused(service, body, kind=None, status=400, code="bad_multipart"):
    response = send(service, body, kind)
    assert response.status == status, f"{response.status}, not {status}: {response.body[:300]}"
    assert response.header("content-type").split(";")[0] == "application/problem+json"
    codes = code if isinstance(code, tuple) else (code,)
    assert any(b'"code":"%s"' % each.encode() in response.body for each in codes), response.body
    return response


def stored(service, body, kind=None):
    response = send(service, body, kind)
    assert response.status == 201, f"{response.status}: {response.body[:300]}"
    return json.loads(response.body)
