"""What users of HTTP expect of requests: dates, types, tokens and digests as the RFCs write them, and
errors that name what is wrong."""

import base64
import hashlib

import pytest

from multipart import content_type, file_part, join
from problems import check_problem
from rawhttp import exchange, raw_request
from samples import TEXT, UNKNOWN_ID, sha256_digest, unique

pytestmark = pytest.mark.local("about requests, whatever the stores")

LARGE = bytes(200_000)


# ---- expiresAt ----

@pytest.mark.smoke
@pytest.mark.parametrize("sent,kept", [
    ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
    ("2100-01-01T00:00:00+02:00", "2099-12-31T22:00:00.000Z"),
])
def test_expires_at_to_the_year_9999(service, sent, kept):
    path = service.create(TEXT, "a")["links"]["download"]
    answer = service.patch(path, json={"expiresAt": sent})
    assert answer.status_code == 200 and answer.json()["expiresAt"] == kept
    assert service.get(path + "/meta").json()["expiresAt"] == kept
    assert service.get(path).content == TEXT


def test_expires_at_beyond_it_or_in_the_past(service):
    path = service.create(TEXT, "a")["links"]["download"]
    for value in ("10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "2001-01-01T00:00:00Z", 5):
        problem = check_problem(service.patch(path, json={"expiresAt": value}), 400,
                                "bad_parameter")
        assert problem["details"] == {"field": "expiresAt"}


# ---- mimeType= ----

@pytest.mark.smoke
def test_type_filters_ignore_case(service):
    name = unique("case")
    first = service.create(TEXT, name, mime="Text/X-Case")
    second = service.create(TEXT, name, mime="text/x-case")
    for value in ("text/x-case", "TEXT/X-CASE", "Text/x-Case"):
        query = {"mimeType": value, "prefix": name, "limit": "1"}
        page = service.get("/api/files", params=query).json()
        assert page["total"] == 2 and len(page["files"]) == 1
        # A cursor holds for the same filter in any case.
        cursor = {**query, "mimeType": value.swapcase(), "cursor": page["nextCursor"]}
        rest = service.get("/api/files", params=cursor).json()
        assert {page["files"][0]["id"], rest["files"][0]["id"]} == {first["id"], second["id"]}


# ---- Authorization ----

def test_more_than_one_space_behind_bearer(token_service):
    token = token_service.token("spaces")
    for value in (f"Bearer  {token}", f"bearer    {token}", f"BEARER {token}"):
        answer = token_service.get("/api/files", headers={"Authorization": value})
        assert answer.status_code == 200, value
    for value in ("Bearer", "Bearer   ", f"Bearer{token}", f"Bearer  {token} x", f"Bearer\t{token}"):
        answer = token_service.get("/api/files", headers={"Authorization": value})
        check_problem(answer, 401, "unauthorized")


# ---- Content-Digest ----

@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_parameters_of_digests_are_ignored(service, header):
    right = sha256_digest(TEXT)
    wrong = sha256_digest(b"other")
    other = f"sha-512=:{base64.b64encode(hashlib.sha512(TEXT).digest()).decode()}:"
    for value in (right, f"{right};a=1", f"{right}; a; b=\"x,y;:\"", f'{other};p="a,b", {right};c=?1',
                  f"{right};a=:YQ==:, {other}", f'unknown="a, sha-256=:x:", {right}', f" {right} "):
        answer = service.put("/api/files/upload/d", data=TEXT, headers={header: value.strip()})
        assert answer.status_code == 201, (value, answer.text)
    for value in (f"{wrong};a=1", f'{other};p="a,b", {wrong}; c'):
        answer = service.put("/api/files/upload/d", data=TEXT, headers={header: value})
        check_problem(answer, 422, "digest_mismatch")
    for value in (f"{right}x", f"{right} a=1", right[:-1], "sha-256=YQ==", "sha-256=:YQ==:;a"):
        answer = service.put("/api/files/upload/d", data=TEXT, headers={header: value})
        check_problem(answer, 400, "bad_request")


# ---- bodies whose length is not told ----

@pytest.mark.parametrize("pieces", [
    [b"4\r\nsome\r\n0\r\n\r\n"], [b"4\r\nso", b"me\r\n0\r\n\r\n"], [b"", b"4\r\nsome\r\n", b"0\r\n\r\n"],
    [b"0\r\n\r\n"],
])
def test_chunked_put_is_411_however_its_packets_arrive(service, nothing_stored, pieces):
    head = raw_request("PUT", "/api/files/upload/chunked", [("Transfer-Encoding", "chunked")])
    for _ in range(3):
        answer = exchange(service, None, pieces=[head + pieces[0], *pieces[1:]])
        assert answer.status == 411 and b"/api/files/pipe/" in answer.body, answer


# ---- bodies that are too large ----

@pytest.mark.parametrize("method,path,status,code", [
    ("PUT", "/nothing/here", 404, "not_found"), ("POST", "/api", 404, "not_found"),
    ("POST", "/api/files", 405, "method_not_allowed"), ("PUT", "/api/files", 405, "method_not_allowed"),
    ("POST", f"/api/files/{UNKNOWN_ID}/meta", 405, "method_not_allowed"),
    ("PUT", "/live", 405, "method_not_allowed"),
    ("POST", "/api/files/delete", 413, "file_too_large"),
    ("PATCH", f"/api/files/{UNKNOWN_ID}", 413, "file_too_large"),
])
def test_large_body_where_none_is_taken(service, method, path, status, code):
    answer = service.request(method, path, data=LARGE, headers={"Content-Type": "application/json"})
    check_problem(answer, status, code)
    if status == 405:
        assert "GET" in answer.headers["Allow"]


def test_form_to_the_list(service, nothing_stored):
    for content in (b"small", LARGE):
        answer = service.post("/api/files", data=join([file_part(content)]),
                              headers={"Content-Type": content_type()})
        check_problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_413_has_the_same_limit_from_gateway_and_program(service):
    limit = 52428800
    for path, length in (("/api/files/upload/x", limit + 1), ("/api/files/upload/x", 10 ** 12),
                         ("/api/files/upload", 10 ** 12), ("/api/files/pipe/x", 10 ** 12)):
        answer = exchange(service, raw_request("PUT" if path[-1] == "x" else "POST", path, [
            ("Content-Length", length), ("Content-Type", content_type())]))
        assert answer.status == 413
        assert b'"details":{"limit":%d}' % limit in answer.body, (path, answer.body)
        assert b"larger than 52428800 bytes" in answer.body
    for length in (70_000, 200_000):
        answer = exchange(service, raw_request("POST", "/api/files/delete", [
            ("Content-Type", "application/json")], bytes(length)))
        assert b'"details":{"limit":65536}' in answer.body, answer.body


# ---- JSON ----

@pytest.mark.parametrize("text", ["{}".encode("utf-8-sig"), "{}".encode("utf-16"),
                                  b"\xfe\xff" + "{}".encode("utf-16-be"), b"\xef\xbb\xbf"])
def test_json_with_a_byte_order_mark(service, text):
    path = service.create(TEXT, "a")["links"]["download"]
    json = {"Content-Type": "application/json"}
    for answer in (service.patch(path, data=text, headers=json),
                   service.post("/api/files/delete", data=text, headers=json)):
        assert "byte order mark" in check_problem(answer, 400, "bad_json")["detail"]


# ---- names in paths ----

@pytest.mark.parametrize("segment", [
    "%ff", "a%ffb", "%c0%ae", "%ed%a0%80", "a%c3", "%f4%90%80%80", "%00", "a%00b", "a%0Ab", "%7F", "%1f",
    b"a\xffb", b"caf\xe9", b"caf\xe9s", "%e9", "a%2Fb", "a%2f..%2fb", "a%2F.",
])
@pytest.mark.parametrize("route", ["upload", "pipe"])
def test_names_in_paths_that_are_none(service, nothing_stored, route, segment):
    target = f"/api/files/{route}/".encode() + (segment if isinstance(segment, bytes)
                                                else segment.encode())
    answer = exchange(service, raw_request("PUT", target, body=TEXT))
    assert answer.status == 400 and b'"code":"bad_name"' in answer.body, answer


@pytest.mark.parametrize("segment", ["%zz", "a%4"])
def test_escapes_in_names_that_are_none(service, nothing_stored, segment):
    """On the pipe route lighttpd has made them text before: "%25zz"."""
    answer = exchange(service, raw_request("PUT", f"/api/files/upload/{segment}", body=TEXT))
    assert answer.status == 400 and b'"code":"bad_name"' in answer.body, answer
