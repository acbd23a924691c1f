"""HTTP framing that is wrong or odd, rows 33 to 47: one test per row, named by its number."""

import json
import time

import pytest

from framing import check_raw_problem, upload_head
from multipart import encode_multipart
from rawhttp import RawConnection, exchange, raw_request
from samples import random_bytes, sha256, unique
from service import wait_for

pytestmark = pytest.mark.local("about what lighttpd and the programs take for a request")


def request_in_pieces(service, *pieces, method="GET"):
    return exchange(service, b"", method, pieces=pieces)


# ---- row 33 ----

@pytest.mark.parametrize("headers", [[("X-Long", "a" * 9000)],
                                     [(f"X-H{n}", "b" * 90) for n in range(200)]])
def test_row_33_headers_above_8_kib(service, headers):
    check_raw_problem(exchange(service, raw_request("GET", "/live", headers)), 431,
                      "headers_too_large")


def test_row_33_uri_above_8_kib(service):
    response = exchange(service, raw_request("GET", "/api/files/" + "a" * 9000))
    check_raw_problem(response, 431, "headers_too_large")


# ---- row 34 ----

@pytest.mark.parametrize("request_bytes", [
    pytest.param(raw_request("GET", "/live", host=None), id="no-host"),
    pytest.param(raw_request("GET", "/live", [("Host", "localhost")]), id="two-hosts"),
    pytest.param(b"GET /live HTTP/1.1\nHost: 127.0.0.1\n\n", id="bare-lf"),
    pytest.param(raw_request("GET", "/live", [("X-A", b"a\0b")]), id="nul-in-header"),
    pytest.param(raw_request("GET", "/live", [("X-A ", "a")]), id="space-before-colon"),
    pytest.param(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n X-Fold: a\r\n\r\n", id="folded"),
])
def test_row_34_malformed_heads(service, request_bytes):
    check_raw_problem(exchange(service, request_bytes), 400)


def test_row_34_tls_on_the_plain_port(service):
    hello = bytes.fromhex("16030100a5010000a10303") + bytes(154) + b"\r\n\r\n"
    response = exchange(service, hello)
    assert response.status in (0, 400), "a TLS hello is no request"
    assert service.get("/live").status_code == 200


# ---- row 35 ----

def test_row_35_http_9_9(service):
    check_raw_problem(exchange(service, b"GET /live HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n"), 505,
                      "http_version")


# ---- row 36 ----

@pytest.mark.parametrize("path", ["/api/files/upload", "/api/files/delete"])
def test_row_36_post_without_length(service, path):
    request = raw_request("POST", path, [("Content-Type", "application/json")], length=False)
    check_raw_problem(exchange(service, request), 411, "length_required")


def test_row_36_put_without_length_names_the_pipe(service):
    before = service.state()
    request = raw_request("PUT", "/api/files/upload/a.txt", length=False)
    problem = check_raw_problem(exchange(service, request), 411, "length_required")
    assert "/api/files/pipe/" in problem["detail"]
    assert service.state() == before


def test_row_36_patch_without_length(service):
    made = service.create()
    request = raw_request("PATCH", f"/api/files/{made['id']}",
                          [("Content-Type", "application/merge-patch+json")], length=False)
    response = exchange(service, request)
    check_raw_problem(response, response.status)
    assert response.status in (400, 411)


# ---- row 37 ----

@pytest.mark.parametrize("values", [("-1",), ("+5",), ("5x",), ("",), ("18446744073709551616",),
                                    ("9223372036854775808",), ("5", "5"), ("5", "6"), ("5, 5",)])
def test_row_37_bad_content_length(service, values):
    before = service.state()
    request = raw_request("PUT", "/api/files/upload/a.txt",
                          [("Content-Length", value) for value in values], b"hello", length=False)
    response = exchange(service, request)
    # An empty value is no length at all, which has a status of its own.
    status = response.status if values == ("",) and response.status == 411 else 400
    check_raw_problem(response, status)
    assert service.state() == before


# ---- row 38 ----

def test_row_38_length_and_transfer_encoding(service):
    before = service.state()
    request = raw_request("PUT", "/api/files/pipe/a.txt",
                          [("Content-Length", 5), ("Transfer-Encoding", "chunked")],
                          b"5\r\nhello\r\n0\r\n\r\n")
    check_raw_problem(exchange(service, request), 400)
    assert service.state() == before


@pytest.mark.parametrize("chunks", [b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
                                    b"10000000000000000\r\nhello\r\n0\r\n\r\n",
                                    b"5\r\nhelloXX0\r\n\r\n"])
def test_row_38_bad_chunks(service, chunks):
    before = service.state()
    request = raw_request("PUT", "/api/files/pipe/a.txt", [("Transfer-Encoding", "chunked")],
                          chunks)
    check_raw_problem(exchange(service, request), 400)
    assert service.state() == before


def test_row_38_gzip_chunked(service):
    request = raw_request("PUT", "/api/files/pipe/a.txt",
                          [("Transfer-Encoding", "gzip, chunked")], b"0\r\n\r\n")
    check_raw_problem(exchange(service, request), 501, "not_implemented")


# ---- row 39 ----

@pytest.mark.smoke
@pytest.mark.parametrize("route", ["upload", "pipe"])
def test_row_39_body_ends_early(service, route):
    before = service.state()
    head = raw_request("PUT", f"/api/files/{route}/a.txt", [("Content-Length", 1000)])
    with RawConnection(service) as connection:
        connection.send(head, b"x" * 500).half_close()
        response = connection.read("PUT")
        assert connection.ended(), "the connection stays open"
    assert response.status in (0, 400, 408), response
    wait_for(lambda: service.state() == before, "nothing stored")


def test_row_39_body_goes_idle(impatient):
    before = impatient.state()
    started = time.monotonic()
    with RawConnection(impatient) as connection:
        connection.send(upload_head("a.txt", 1000), b"x" * 500)
        response = connection.read("PUT")
        assert connection.ended(), "the connection stays open"
    assert time.monotonic() - started < 12
    assert response.status in (0, 408), response
    if response.status:
        check_raw_problem(response, 408, "request_timeout")
    wait_for(lambda: impatient.state() == before, "nothing stored")


# ---- row 40 ----

def test_row_40_length_smaller_than_the_body(service):
    name = unique()
    with RawConnection(service, timeout=5) as connection:
        connection.send(upload_head(name, 5), b"hello" + b"\x01rest of it, no request\r\n\r\n")
        first = connection.read("PUT")
        second = connection.read()
    assert first.status == 201
    made = json.loads(first.body)
    assert (made["size"], made["sha256"]) == (5, sha256(b"hello"))
    assert second.status in (0, 400), "the rest was taken for a request"


def test_row_40_multipart_cut_by_its_length(service):
    before = service.state()
    body, kind = encode_multipart([], b"content" * 100, "a.txt")
    head = raw_request("POST", "/api/files/upload", [("Content-Type", kind),
                                                     ("Content-Length", len(body) - 40)])
    with RawConnection(service, timeout=5) as connection:
        connection.send(head + body).half_close()
        first = connection.read("POST")
        second = connection.read()
    check_raw_problem(first, 400, "bad_multipart")
    assert second.status in (0, 400)
    assert service.state() == before


# ---- row 41 ----

@pytest.mark.smoke
def test_row_41_chunked_by_the_pipe_route(service):
    content = random_bytes(300_000, seed=41)
    sizes = [1, 7, 4096, 100_000, len(content)]
    pieces, at = [], 0
    for size in sizes:
        piece = content[at:at + size]
        pieces.append(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece))
        at += len(piece)
    pieces.append(b"0\r\nX-Trailer: t\r\n\r\n")
    head = raw_request("PUT", f"/api/files/pipe/{unique()}", [("Transfer-Encoding", "chunked")])
    response = request_in_pieces(service, head, *pieces, method="PUT")
    assert response.status == 201, response
    made = json.loads(response.body)
    assert (made["size"], made["sha256"]) == (len(content), sha256(content))


def test_row_41_chunked_by_the_streaming_route(service):
    """Its length is not known before its end: 411, unless the whole of it came with the head."""
    head = raw_request("PUT", f"/api/files/upload/{unique()}", [("Transfer-Encoding", "chunked")])
    with RawConnection(service) as connection:
        connection.send(head, b"5\r\nhello\r\n")
        problem = check_raw_problem(connection.read("PUT"), 411, "length_required")
    assert "/api/files/pipe/" in problem["detail"]
    response = exchange(service, head + b"5\r\nhello\r\n0\r\n\r\n")
    assert response.status in (201, 411)
    assert response.status == 411 or json.loads(response.body)["sha256"] == sha256(b"hello")


# ---- row 42 ----

@pytest.mark.smoke
@pytest.mark.parametrize("way", ["put", "form", "pipe"])
@pytest.mark.parametrize("end", ["reset", "close", "half_close"])
def test_row_42_client_goes_away_mid_upload(service, way, end):
    before = service.state()
    content = random_bytes(400_000, seed=42)
    if way == "form":
        body, kind = encode_multipart([], content, "a.bin")
        head = raw_request("POST", "/api/files/upload", [("Content-Type", kind),
                                                         ("Content-Length", len(body))])
    else:
        body, route = content, {"put": "upload", "pipe": "pipe"}[way]
        head = raw_request("PUT", f"/api/files/{route}/a.bin", [("Content-Length", len(body))])
    with RawConnection(service) as connection:
        connection.send(head, body[:200_000])
        getattr(connection, end)()
        if end == "half_close":
            assert connection.read("PUT").status in (0, 400, 408)
    service.wait_idle()
    wait_for(lambda: service.state() == before, "no bytes, no row")


# ---- row 43 ----

def test_row_43_get_with_a_body(service):
    request = raw_request("GET", "/live", [("Content-Length", 5)], b"hello")
    check_raw_problem(exchange(service, request), 400)


def test_row_43_delete_with_a_body_keeps_the_connection_in_step(service):
    made = service.create()
    with RawConnection(service, timeout=5) as connection:
        connection.send(raw_request("DELETE", f"/api/files/{made['id']}",
                                    [("Content-Length", 5)], b"hello"))
        first = connection.read("DELETE")
        assert first.status in (200, 400), first
        if not first.closed:
            connection.send(raw_request("GET", "/live"))
            assert connection.read().status in (0, 200)
    there = service.get(f"/api/files/{made['id']}").status_code
    assert there == (404 if first.status == 200 else 200)


# ---- row 44 ----

def test_row_44_two_authorizations(token_service):
    token = token_service.token("alice")
    for values in ((token, token), (token, "x"), ("x", token)):
        request = raw_request("GET", "/api/files",
                              [("Authorization", f"Bearer {value}") for value in values])
        check_raw_problem(exchange(token_service, request), 401, "unauthorized")


def test_row_44_two_idempotency_keys(service):
    before = service.state()
    for values in (("k1", "k2"), ("k1", "k1")):
        request = raw_request("PUT", "/api/files/upload/a.txt",
                              [("Idempotency-Key", value) for value in values], b"hello")
        check_raw_problem(exchange(service, request), 400, "bad_request")
    assert service.state() == before


# ---- row 45 ----

@pytest.mark.parametrize("names", [("X_Api_Key", "X-Api-Key"), ("X-Request-Id", "X_Request_Id"),
                                   ("If_Match", "If-Match")])
def test_row_45_names_that_become_one(service, names):
    request = raw_request("GET", "/api/files", [(name, "a") for name in names])
    check_raw_problem(exchange(service, request), 400, "bad_request")


def test_row_45_underscore_does_not_make_an_authorization(token_service):
    token = token_service.token("alice")
    request = raw_request("GET", "/api/files", [("Authorization", "Bearer nonsense"),
                                                ("authorization_", f"Bearer {token}")])
    assert exchange(token_service, request).status in (400, 401)


def test_row_45_forwarded_addresses_are_not_believed(start_service):
    service = start_service(METRICS_ALLOW="203.0.113.7", AUTH_MODE="token")
    for name in ("X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP"):
        value = "for=203.0.113.7" if name == "Forwarded" else "203.0.113.7"
        request = raw_request("GET", "/api/metrics", [(name, value)])
        assert exchange(service, request).status in (401, 403)


# ---- rows 46, 47 ----

def test_row_46_proxy_header_changes_nothing(service):
    request = raw_request("GET", "/api/files", [("Proxy", "http://203.0.113.7:1/")])
    assert exchange(service, request).status == 200


def test_row_47_unknown_expectation_is_ignored(service):
    request = raw_request("PUT", f"/api/files/upload/{unique()}", [("Expect", "banana")], b"hello")
    assert exchange(service, request, "PUT").status == 201
