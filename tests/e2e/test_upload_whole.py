"""A part of a file, or an encoded form of it, never becomes the file (RFC 9110 §14.5, §8.4)."""

import gzip

import pytest

from forms import FILE, refused, stored
from multipart import content_type, file_part, join, part
from problems import check_problem
from samples import TEXT, unique

pytestmark = pytest.mark.local("stores nothing")

ROUTES = ("/api/files/upload/part.bin", "/api/files/pipe/part.bin")
RANGES = ("bytes 6-10/11", "bytes 0-4/5", "bytes 0-4/*", "bytes */11", "lines 1-2/3", "garbage")
CODINGS = ("gzip", "GZIP", "br", "identity, gzip", "gzip, identity", "aws-chunked", "x-gzip,",
           "identityx")


@pytest.mark.parametrize("path", ROUTES)
def test_put_with_a_content_range(service, nothing_stored, path):
    for value in RANGES:
        answer = service.put(path, data=b"world", headers={"Content-Range": value})
        check_problem(answer, 400, "bad_request")
        assert "Content-Range" in answer.json()["detail"]


def test_pipe_of_unknown_length_with_a_content_range(service, nothing_stored):
    answer = service.put(ROUTES[1], data=iter([b"wor", b"ld"]),
                         headers={"Content-Range": "bytes 6-10/11"})
    check_problem(answer, 400, "bad_request")


def test_form_with_a_content_range(service, nothing_stored):
    """As chunked uploaders of browsers send it: a header of the request, or of the file's part."""
    body = join([file_part(b"world")])
    answer = service.post("/api/files/upload", data=body, headers={
        "Content-Type": content_type(), "Content-Range": "bytes 6-10/11"})
    check_problem(answer, 400, "bad_request")
    for name in ("Content-Range", "content-range"):
        refused(service, join([part([FILE.format("a"), f"{name}: bytes 6-10/11"], b"world")]))


@pytest.mark.parametrize("path", ROUTES)
def test_put_with_a_content_encoding(service, nothing_stored, path):
    for coding in CODINGS:
        answer = service.put(path, data=gzip.compress(TEXT), headers={"Content-Encoding": coding})
        check_problem(answer, 415, "unsupported_media_type")
        assert answer.headers["Accept-Encoding"] == "identity"


def test_form_with_a_content_encoding(service, nothing_stored):
    packed = gzip.compress(TEXT)
    answer = service.post("/api/files/upload", data=join([file_part(packed)]), headers={
        "Content-Type": content_type(), "Content-Encoding": "gzip"})
    check_problem(answer, 415, "unsupported_media_type")
    refused(service, join([part([FILE.format("a"), "Content-Encoding: gzip"], packed)]),
            status=415, code="unsupported_media_type")


def test_json_with_a_content_encoding(service, nothing_stored):
    packed = gzip.compress(b'{"ids":[]}')
    answer = service.post("/api/files/delete", data=packed, headers={
        "Content-Type": "application/json", "Content-Encoding": "gzip"})
    check_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["identity", "IDENTITY", "identity , identity", ""])
def test_identity_is_no_encoding(service, coding):
    name = unique()
    answer = service.put(f"/api/files/upload/{name}", data=TEXT,
                         headers={"Content-Encoding": coding})
    assert answer.status_code == 201
    found = stored(service, join([part([FILE.format(name), f"Content-Encoding: {coding}"], TEXT)]))
    for file in (answer.json(), found):
        assert service.get(file["links"]["download"]).content == TEXT
        assert service.delete(file["links"]["download"]).status_code == 200


def test_401_comes_first(token_service):
    answer = token_service.put(ROUTES[0], data=b"x", headers={"Content-Range": "bytes 6-10/11"})
    check_problem(answer, 401, "unauthorized")
