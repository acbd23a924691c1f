"""Errors that lighttpd makes by itself: logged with the method of the client, though the answer is asked
for by GET; and a spool that something else filled."""

import os

import pytest

from framing import check_raw_problem
from rawhttp import RawConnection, raw_request
from samples import MIB, UNKNOWN_ID
from service import running, wait_for

SPOOL_BYTES = 8 * MIB
ORIGIN = "https://app.example"
LARGE = [("Content-Length", 1 << 20)]
PATH = f"/api/files/{UNKNOWN_ID}"


@pytest.fixture(scope="module")
def service():
    for each in running(AUTH_MODE="none", SPOOL_MAX_BYTES=SPOOL_BYTES,
                        ALLOWED_ORIGINS=f"https://first.example, {ORIGIN}"):
        each.expect_5xx = True
        yield each


def send(service, request, method):
    with RawConnection(service) as connection:
        connection.send_as_taken(request)
        return connection.read(method)


def methods_logged(service, answer):
    """{program: method} of the answer's lines, when both have come."""
    trace = answer.header("traceparent").split("-")[1]

    def find():
        found = {line["service.name"]: line["http.request.method"]
                 for line in service.all_log_lines()
                 if line.get("trace.id") == trace}
        return found if len(found) == 2 else None

    return wait_for(find, "a line of the program and one of the gateway", 10)


REFUSED = {
    "413 POST": (raw_request("POST", "/api/files/delete", LARGE), 413, "POST"),
    "413 PUT": (raw_request("PUT", "/api/files/upload/x", [("Content-Length", 1 << 40)]), 413, "PUT"),
    "413 PUT of unknown use": (raw_request("PUT", "/api/files/pipe/x", [("Content-Length", 1 << 40)]),
                               413, "PUT"),
    "413 PATCH": (raw_request("PATCH", PATH, LARGE), 413, "PATCH"),
    "405 DELETE": (raw_request("DELETE", "/api/files/upload", [("Content-Length", 1 << 40)]), 405,
                   "DELETE"),
    "404 OPTIONS": (raw_request("OPTIONS", "/nowhere", LARGE), 404, "OPTIONS"),
    "404 PROPFIND": (raw_request("PROPFIND", "/nowhere", LARGE), 404, "OTHER"),
    "411 POST": (raw_request("POST", "/api/files/upload", [("Content-Length", 0)])
                 .replace(b"Content-Length: 0\r\n", b""), 411, "POST"),
    "411 PUT": (raw_request("PUT", "/api/files/upload/x", [("Transfer-Encoding", "chunked")]), 411,
                "PUT"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_log_has_the_method_of_what_the_gateway_refuses(service, name):
    request, status, method = REFUSED[name]
    answer = send(service, request, method)
    check_raw_problem(answer, status)
    logged = methods_logged(service, answer)
    assert logged.pop("coffer-health") == method, name
    assert logged.popitem()[1] == request.split(b" ")[0].decode()


UNREAD = {
    "400 control character": (raw_request("DELETE", "/%00"), 400),
    "400 body of a GET": (raw_request("GET", "/live", [("Content-Length", 1)]), 400),
    "431": (raw_request("PATCH", "/live", [("X", "x" * 9000)]), 431),
    "501": (raw_request("FOO", "/live"), 501),
    "505": (raw_request("PUT", "/live").replace(b"HTTP/1.1", b"HTTP/9.9"), 505),
}


@pytest.mark.parametrize("name", UNREAD)
def test_of_a_request_that_the_gateway_could_not_read_no_method_is_made_up(service, name):
    request, status = UNREAD[name]
    answer = send(service, request, "GET")
    check_raw_problem(answer, status)
    assert methods_logged(service, answer)["coffer-health"] == ""


def test_the_log_has_the_method_while_a_program_is_away(service):
    sockets = service.runtime_dir / "sockets"
    for method, program in (("PATCH", "files_update"), ("DELETE", "files_delete"),
                            ("HEAD", "files_get"), ("GET", "files_get"), ("OPTIONS", "files_list")):
        path = "/api/files" if method == "OPTIONS" else PATH
        os.rename(sockets / f"{program}-0", sockets / "away")
        try:
            answer = send(service, raw_request(method, path), method)
        finally:
            os.rename(sockets / "away", sockets / f"{program}-0")
        assert answer.status == 503 and answer.header("retry-after"), method
        assert methods_logged(service, answer)["coffer-health"] == method
        wait_for(lambda: send(service, raw_request("OPTIONS", path), "OPTIONS").status == 204,
                 "it is back", 20)


@pytest.fixture
def no_health(service):
    """The program that writes the gateway's errors can't be reached: files in lighttpd/errors do."""
    socket = service.runtime_dir / "sockets" / "health-0"
    os.rename(socket, socket.with_name("away"))
    yield
    os.rename(socket.with_name("away"), socket)
    service.wait_ready()


def test_pages_of_allowed_origins_may_read_static_answers(service, no_health):
    exposed = service.get("/api/files", headers={"Origin": ORIGIN}).headers[
        "Access-Control-Expose-Headers"]
    requests = {name: request for name, (request, _) in UNREAD.items()}
    requests |= {name: request for name, (request, _, _) in REFUSED.items()}
    requests["503"] = raw_request("GET", "/live")
    for name, request in requests.items():
        for origin in (ORIGIN, "https://evil.example", None):
            line = f"Origin: {origin}\r\n".encode() if origin else b""
            answer = send(service, request.replace(b"\r\n", b"\r\n" + line, 1), "GET")
            assert answer.header("content-type") == "application/problem+json", name
            assert "traceId" not in answer.body.decode(), name  # static, and so the same for all
            assert answer.header("vary") == "Origin", name
            told = origin if name not in ("431", "501", "505") else None
            refused_unread = name in UNREAD or name == "411 POST"
            wanted = told if told == ORIGIN else "*" if refused_unread and not told else None
            assert answer.header("access-control-allow-origin") == wanted, (name, origin)
            assert answer.header("access-control-expose-headers") == (exposed if wanted else None)


@pytest.fixture
def full_spool(service):
    """Something else has written to it until nothing was left."""
    pid = service.pids("lighttpd")[0]
    path = f"/proc/{pid}/root{service.runtime_dir}/spool/ballast"
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    yield
    os.unlink(path)


UPLOADS = [("POST", "/api/files/upload"), ("PUT", "/api/files/upload/x"), ("PUT", "/api/files/pipe/x")]


def test_a_spool_that_something_else_filled_is_507(service, full_spool):
    before = service.state()
    for method, path in UPLOADS:
        type_ = [("Content-Type", "multipart/form-data; boundary=b")] if method == "POST" else []
        request = raw_request(method, path, [*type_, ("Content-Length", 4 * MIB)])
        answer = send(service, request + bytes(4 * MIB), method)
        problem = check_raw_problem(answer, 507, "disk_full")
        assert "request bodies" in problem["detail"]
        assert methods_logged(service, answer)["coffer-health"] == method
    assert service.get("/live").status_code == 200
    assert service.state() == before


def test_uploads_are_taken_when_the_spool_is_empty_again(service):
    for _, path in UPLOADS[1:]:
        assert service.put(path, data=bytes(4 * MIB)).status_code == 201
