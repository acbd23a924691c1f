"""Methods and paths that are odd, rows 48 to 52: one test per row, named by its number."""

import json

import pytest

from framing import check_raw_problem
from rawhttp import RawConnection, exchange, raw_request
from samples import random_bytes, unique

pytestmark = pytest.mark.local("about what lighttpd and the programs take for a request")

# ---- row 48 ----

ROUTES = {
    "/api/files": {"GET", "HEAD", "OPTIONS"},
    "/api/files/upload": {"POST", "OPTIONS"},
    "/api/files/upload/a.txt": {"PUT", "OPTIONS"},
    "/api/files/pipe/a.txt": {"PUT", "OPTIONS"},
    "/api/files/delete": {"POST", "OPTIONS"},
    "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77": {"GET", "HEAD", "PATCH", "DELETE",
                                                        "OPTIONS"},
    "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/meta": {"GET", "HEAD", "OPTIONS"},
    "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/download": {"GET", "HEAD", "OPTIONS"},
    "/live": {"GET", "HEAD", "OPTIONS"},
    "/ready": {"GET", "HEAD", "OPTIONS"},
    "/health": {"GET", "HEAD", "OPTIONS"},
    "/api/health": {"GET", "HEAD", "OPTIONS"},
    "/api/metrics": {"GET", "HEAD", "OPTIONS"},
    "/metrics": {"GET", "HEAD", "OPTIONS"},
}


def allowed(response):
    return {name.strip() for name in response.header("allow").split(",")}


@pytest.mark.parametrize("path", ROUTES)
def test_row_48_methods_a_route_does_not_know(service, path):
    for method in ("TRACE", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        if method in ROUTES[path]:
            continue
        response = exchange(service, raw_request(method, path), method)
        assert response.status == 405, f"{method} {path}: {response}"
        assert allowed(response) == ROUTES[path], f"{method} {path}"
        if method != "HEAD":
            check_raw_problem(response, 405, "method_not_allowed")
    assert b"TRACE" not in response.body


@pytest.mark.parametrize("path", ROUTES)
def test_row_48_options(service, path):
    response = exchange(service, raw_request("OPTIONS", path), "OPTIONS")
    assert (response.status, allowed(response)) == (204, ROUTES[path])
    assert response.header("access-control-allow-origin") is None


def test_row_48_cors_for_listed_origins_only(start_service):
    service = start_service(ALLOWED_ORIGINS="https://app.example,https://two.example")
    for origin, listed in (("https://app.example", True), ("https://two.example", True),
                           ("https://app.example.evil", False), ("null", False)):
        headers = [("Origin", origin), ("Access-Control-Request-Method", "PUT")]
        for method in ("OPTIONS", "GET"):
            response = exchange(service, raw_request(method, "/api/files", headers), method)
            assert response.status == (204 if method == "OPTIONS" else 200)
            assert response.header("access-control-allow-origin") == (origin if listed else None)
            assert "Origin" in response.header("vary")


@pytest.mark.parametrize("request_bytes, status", [
    (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"CONNECT /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (raw_request("FOO", "/live"), 501),
])
def test_row_48_connect_and_unknown_methods(service, request_bytes, status):
    response = exchange(service, request_bytes)
    # CONNECT to a path is refused where its method is known, too.
    if request_bytes.startswith(b"CONNECT") and response.status == 405:
        status = 405
    check_raw_problem(response, status)


# ---- row 49 ----

def test_row_49_get_on_a_change(service):
    for path in ("/api/files/delete", "/api/files/upload", "/api/files/upload/a"):
        check_raw_problem(exchange(service, raw_request("GET", path)), 405, "method_not_allowed")


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_row_49_override_headers_are_ignored(service, header):
    made = service.create()
    path = f"/api/files/{made['id']}"
    assert exchange(service, raw_request("GET", path, [(header, "DELETE")])).status == 200
    assert exchange(service, raw_request("POST", path, [(header, "DELETE")])).status == 405
    assert service.get(path).status_code == 200


def test_row_49_method_parameter_is_ignored(service):
    made = service.create()
    path = f"/api/files/{made['id']}"
    assert exchange(service, raw_request("GET", path + "?_method=DELETE")).status in (200, 400)
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    request = raw_request("POST", path, form, b"_method=DELETE")
    assert exchange(service, request).status == 405
    assert service.get(path).status_code == 200


# ---- row 50 ----

VOLATILE = {"date", "x-request-id", "traceparent", "connection", "server"}


@pytest.mark.smoke
@pytest.mark.parametrize("path, status", [
    ("/api/files/{id}", 200), ("/api/files/{id}/download", 200), ("/api/files/{id}/meta", 200),
    ("/api/files/{id}?inline=1", 200), ("/api/files?limit=1&prefix={name}", 200), ("/live", 200),
    ("/ready", 200), ("/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77", 404),
    ("/api/files/not-an-id", 400), ("/api/files?limit=0", 400), ("/nothing/here", 404),
])
def test_row_50_head_is_get_without_the_body(service, path, status):
    name = unique()
    made = service.create(random_bytes(5000, seed=50), name)
    path = path.format(id=made["id"], name=name)
    # One request id for both, so that problem bodies are as long.
    ids = [("X-Request-Id", "row-50")]
    whole = exchange(service, raw_request("GET", path, ids))
    with RawConnection(service, timeout=5) as connection:
        connection.send(raw_request("HEAD", path, [*ids, ("Connection", "close")]))
        head = connection.read("HEAD")
        assert connection.ended() and connection.pending == b"", "HEAD has a body"
    assert (head.status, whole.status) == (status, status)

    def compared(response):
        return {k: v for k, v in response.headers if k not in VOLATILE}

    # The gateway streams answers whose length it does not know yet; a length given must agree.
    ours, theirs = compared(head), compared(whole)
    ours.pop("transfer-encoding", None), theirs.pop("transfer-encoding", None)
    if "content-length" in ours:
        assert int(ours.pop("content-length")) == len(whole.body)
    else:
        assert not path.startswith(f"/api/files/{made['id']}"), "HEAD without Content-Length"
    theirs.pop("content-length", None)
    assert ours == theirs


# ---- row 51 ----

@pytest.mark.parametrize("path", [b"/api/files/%00", b"/api/files/a%0d%0aX-Evil:%201",
                                  b"/api/files/a\x01b", b"/api/files/a\x7fb", b"/api/files/%ff",
                                  b"/api/files/%c0%ae%c0%ae/", b"/%c0%ae%c0%ae/etc/passwd",
                                  b"/api/files/%1b%5b31m", b"/live%00"])
def test_row_51_bytes_that_no_path_has(service, path):
    response = exchange(service, raw_request("GET", path))
    check_raw_problem(response, 400)
    assert not response.header("x-evil")


@pytest.mark.parametrize("query", [b"prefix=%00", b"prefix=a%00b", b"prefix=%ff",
                                   b"prefix=%c0%ae", b"prefix=%zz", b"prefix=%", b"prefix=%4",
                                   b"%00=1", b"prefix=%ed%a0%80"])
def test_row_51_bytes_that_no_query_has(service, query):
    response = exchange(service, raw_request("GET", b"/api/files?" + query))
    # The gateway refuses some of them before a program sees them.
    assert check_raw_problem(response, 400)["code"] in ("bad_parameter", "bad_request")


# ---- row 52 ----

@pytest.mark.parametrize("path", [
    "/api/files/%zz", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77%2Fmeta",
    "/api/files/0199c0de%2D7d1a-7c3e-9a55-5b1f6a1d2e7%zz", "/api/files/%252e%252e",
    "/api/files/..%2f..%2fetc%2fpasswd", "/api/files/%2e%2e/%2e%2e/etc/passwd",
    "/api/files/../../etc/passwd", "/api/files//", "/api//files/x",
    "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77;x=1",
    "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1"
    "d2e77/meta/", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/meta/x", "/live/", "/live/x",
    "/-/error", "/-/error/x", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77\\meta",
])
def test_row_52_odd_paths(service, path):
    response = exchange(service, raw_request("GET", path))
    assert response.status in (400, 404), response
    check_raw_problem(response, response.status)
    assert b"root:" not in response.body


def test_row_52_odd_spellings_of_a_real_file(service):
    made = service.create()
    for path in (f"/api/files/{made['id']}/", f"/api/files/{made['id']};x=1",
                 f"/api/files/{made['id']}%20", f"/api/files/%20{made['id']}",
                 f"/api/files/{made['id'].upper()}", f"/api/files/{made['id']}%2Fmeta"):
        response = exchange(service, raw_request("GET", path))
        # %2F may be the slash it stands for (the gateway decodes it); then it is /meta.
        if path.endswith("%2Fmeta") and response.status == 200:
            assert json.loads(response.body)["id"] == made["id"]
            continue
        assert response.status in (400, 404), f"{path}: {response}"
