"""What every answer carries: request id, trace, problem bodies, Allow, CORS, Host and Origin."""

import re
import time

import pytest

from problems import check_problem
from rawhttp import RawConnection, exchange, raw_request
from samples import TEXT, UNKNOWN_ID
from service import running

pytestmark = pytest.mark.local("about heads of answers, whatever the stores")

TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
PATHS = [
    ("GET", "/live", 200), ("GET", "/ready", 200), ("GET", "/health", 200),
    ("GET", "/api/metrics", 200), ("GET", "/metrics", 200), ("GET", "/api/files", 200),
    ("GET", f"/api/files/{UNKNOWN_ID}", 404), ("GET", "/nowhere", 404), ("GET", "/", 404),
    ("DELETE", "/api/files/upload", 405), ("PUT", "/api/files", 405), ("PATCH", "/live", 405),
    ("POST", "/api/files/delete", 400), ("OPTIONS", "/api/files", 204),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("method", "path", "status"), PATHS)
def test_ids_are_on_every_answer(service, method, path, status):
    body = {"data": "{}", "headers": {"Content-Type": "application/json"}}
    options = body if method in ("POST", "PUT", "PATCH") else {}
    response = service.request(method, path, **options)
    assert response.status_code == status
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", response.headers["X-Request-Id"])
    assert TRACEPARENT.match(response.headers["traceparent"])
    if status >= 400:
        problem = check_problem(response, status)
        assert problem["path"] == path


@pytest.mark.parametrize("path", ["/api/files", f"/api/files/{UNKNOWN_ID}", "/nowhere", "/live"])
def test_request_id_of_the_client(service, path):
    for value in ("abc", "A.b_c-9", "x" * 64):
        answer = service.get(path, headers={"X-Request-Id": value})
        assert answer.headers["X-Request-Id"] == value
    for value in ("x" * 65, "a b", 'a"b', "a/b", "ä".encode(), "a,b", "", "a\tb"):
        answer = service.get(path, headers={"X-Request-Id": value})
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["X-Request-Id"])
        assert answer.headers["X-Request-Id"] != value


@pytest.mark.parametrize("path", ["/api/files", f"/api/files/{UNKNOWN_ID}", "/nowhere"])
def test_trace_is_continued_with_a_span_of_our_own(service, path):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    answer = service.get(path, headers={"traceparent": f"00-{trace}-{span}-01"})
    found = TRACEPARENT.match(answer.headers["traceparent"])
    assert found.group(1) == trace and found.group(2) != span
    assert answer.headers["traceparent"].endswith("-01")


@pytest.mark.parametrize(
    "value",
    ["garbage", "00-" + "0" * 32 + "-b7ad6b7169203331-01",
     "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
     "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
     "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
     "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra"],
)
def test_bad_traceparent_starts_a_new_trace(service, value):
    answer = service.get("/api/files?limit=1", headers={"traceparent": value})
    found = TRACEPARENT.match(answer.headers["traceparent"])
    assert found and found.group(1).lower() not in value.lower()
    assert found.group(1) != "0" * 32


def test_two_requests_have_different_ids(service):
    answers = [service.get("/live") for _ in range(2)]
    for header in ("X-Request-Id", "traceparent"):
        assert answers[0].headers[header] != answers[1].headers[header]


def test_json_answers_are_not_ranged(service):
    for path in ("/api/files", "/health", "/nowhere"):
        whole = service.get(path)
        part = service.get(path, headers={"Range": "bytes=0-1"})
        assert part.status_code == whole.status_code
        assert part.headers["Accept-Ranges"] == "none"
        assert len(part.content) > 2


ALLOWED = {
    "/api/files": {"GET", "HEAD"},
    "/api/files/upload": {"POST"},
    "/api/files/upload/a.txt": {"PUT"},
    "/api/files/pipe/a.txt": {"PUT"},
    "/api/files/delete": {"POST"},
    f"/api/files/{UNKNOWN_ID}": {"GET", "HEAD", "PATCH", "DELETE"},
    f"/api/files/{UNKNOWN_ID}/meta": {"GET", "HEAD"},
    f"/api/files/{UNKNOWN_ID}/download": {"GET", "HEAD"},
    "/live": {"GET", "HEAD"},
    "/ready": {"GET", "HEAD"},
    "/health": {"GET", "HEAD"},
    "/api/health/live": {"GET", "HEAD"},
    "/api/health/ready": {"GET", "HEAD"},
    "/api/health": {"GET", "HEAD"},
    "/api/metrics": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
}


def allow_of(response):
    return {method.strip() for method in response.headers["Allow"].split(",")}


@pytest.mark.parametrize("path", list(ALLOWED))
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_method_not_allowed(service, path, method):
    if method in ALLOWED[path]:
        answer = service.request(method, path, data=b"" if method != "GET" else None)
        assert answer.status_code != 405
        return
    options = {"data": b"x"} if method in ("POST", "PUT", "PATCH") else {}
    answer = service.request(method, path, **options)
    check_problem(answer, 405, "method_not_allowed")
    assert allow_of(answer) == ALLOWED[path] | {"OPTIONS"}


@pytest.mark.parametrize("path", list(ALLOWED))
def test_options(service, path):
    answer = service.options(path)
    assert answer.status_code == 204 and answer.content == b""
    assert allow_of(answer) == ALLOWED[path] | {"OPTIONS"}
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "override", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]
)
def test_method_override_is_ignored(service, override):
    path = f"/api/files/{service.create(TEXT)['id']}"
    assert service.get(path, headers={override: "DELETE"}).content == TEXT
    assert service.post(path + "?_method=DELETE", headers={override: "DELETE"}).status_code == 405
    assert service.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/api", "/api/", "/api/file", "/api/files/", "/api/files/upload/a/b", "/API/files",
             "/api/files/x/y/z", f"/api/files/{UNKNOWN_ID}/other", "/favicon.ico", "/-/error"]
)
def test_unknown_paths_are_problems(service, path):
    answer = service.get(path)
    assert answer.status_code in (400, 404, 405)
    check_problem(answer, answer.status_code)


ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def cors_service():
    yield from running(AUTH_MODE="token", ALLOWED_ORIGINS=f"https://first.example, {ORIGIN}")


def test_cors_for_a_listed_origin(cors_service):
    token = cors_service.token("page")
    answer = cors_service.get("/api/files", token=token, headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Origin" in answer.headers["Vary"]
    exposed = answer.headers["Access-Control-Expose-Headers"].lower()
    assert "etag" in exposed and "x-request-id" in exposed
    refused = cors_service.get("/api/files", headers={"Origin": ORIGIN})
    check_problem(refused, 401, "unauthorized")
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN
    file = cors_service.create(TEXT, token=token, headers={"Origin": ORIGIN})
    got = cors_service.get(f"/api/files/{file['id']}", token=token, headers={"Origin": ORIGIN})
    assert got.content == TEXT
    assert got.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_cors_preflight(cors_service):
    headers = {
        "Origin": ORIGIN, "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    answer = cors_service.options("/api/files/upload/a.txt", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    for name in ("authorization", "content-type", "idempotency-key"):
        assert name in allowed


# What a page may read and send without being told so (Fetch), and what browsers keep to themselves.
READABLE = {"cache-control", "content-language", "content-length", "content-type", "expires",
            "last-modified", "pragma"}
CONNECTION = {"connection", "keep-alive", "transfer-encoding"}
SENT = ("Accept", "Authorization", "Content-Digest", "Content-Disposition", "Content-Encoding",
        "Content-MD5", "Content-Range", "Content-Type", "Idempotency-Key", "If-Match",
        "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Last-Event-ID",
        "Range", "Repr-Digest", "Tus-Resumable", "Upload-Checksum", "Upload-Complete",
        "Upload-Defer-Length", "Upload-Draft-Interop-Version", "Upload-Length", "Upload-Metadata",
        "Upload-Offset", "X-Request-Id", "traceparent", "tracestate")


def listed(answer, name):
    return {each.strip().lower() for each in answer.header(name).split(",")}


def test_pages_may_send_every_header_of_the_contract(cors_service):
    for name in SENT:
        headers = [("Origin", ORIGIN), ("Access-Control-Request-Method", "GET"),
                   ("Access-Control-Request-Headers", name.lower())]
        answer = exchange(cors_service, raw_request("OPTIONS", "/api/files", headers), "OPTIONS")
        assert name.lower() in listed(answer, "access-control-allow-headers"), name


def test_pages_may_read_every_header_that_is_answered(cors_service):
    token = cors_service.token("page")
    file = cors_service.create(TEXT, token=token)
    path = f"/api/files/{file['id']}"
    page = [("Origin", ORIGIN), ("Authorization", f"Bearer {token}")]
    etag = ("If-None-Match", f'"{file["sha256"]}"')
    rows = [
        (raw_request("GET", path, page), 200),
        (raw_request("GET", path, [*page, ("Range", "bytes=0-1")]), 206),
        (raw_request("GET", path, [*page, ("Range", "bytes=999999-")]), 416),
        (raw_request("GET", path, [*page, etag]), 304),
        (raw_request("PUT", "/api/files/upload/x", [*page, ("Idempotency-Key", "k")], b"x"), 201),
        (raw_request("PUT", "/api/files/upload/x", [*page, ("Idempotency-Key", "k")], b"x"), 201),
        (raw_request("GET", path, page[:1]), 401),
        (raw_request("PUT", path, page), 405),
        (raw_request("PUT", "/api/files/upload/x", [*page, ("Content-Encoding", "gzip")], b"x"), 415),
        (raw_request("GET", "/%00", page), 400),
        (raw_request("POST", "/api/files/delete", [*page, ("Content-Length", 1 << 20)]), 413),
        (raw_request("GET", "/", [*page, ("X", "x" * 9000)]), 431),
        (raw_request("FOO", "/", page), 501),
        (raw_request("PUT", "/", [*page, ("Transfer-Encoding", "gzip, chunked")]), 501),
        (raw_request("GET", "/", page).replace(b"HTTP/1.1", b"HTTP/9.9"), 505),
    ]
    for request, status in rows:
        answer = exchange(cors_service, request)
        assert answer.status == status, request[:80]
        assert answer.header("access-control-allow-origin") in (ORIGIN, "*"), request[:80]
        names = {name for name, _ in answer.headers if not name.startswith("access-control-")}
        hidden = names - READABLE - CONNECTION - listed(answer, "access-control-expose-headers")
        assert not hidden, (request[:80], hidden)
    exposed = listed(answer, "access-control-expose-headers")
    assert {"retry-after", "ratelimit", "tus-resumable", "upload-offset", "upload-expires"} <= exposed


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://app.example", "https://app.example.evil.example",
               "https://app.example:444", "null", "*"]
)
def test_no_cors_for_others(cors_service, origin):
    token = cors_service.token("page")
    for answer in (
        cors_service.get("/api/files", token=token, headers={"Origin": origin}),
        cors_service.options("/api/files", headers={"Origin": origin}),
    ):
        assert answer.status_code in (200, 204)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "127.0.0.9"])
def test_loopback_hosts_are_served(service, host):
    for name in (host, f"{host}:{service.port}"):
        assert exchange(service, raw_request("GET", "/api/files", host=name)).status == 200


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/api/health/live",
                                  "/api/health/ready", "/api/health"])
def test_probes_come_with_any_host_or_none(service, path):
    for host in ("10.244.0.5:5921", "coffer:5921", "[fd00::5]:5921", None):
        request = raw_request("GET", path, host=host)
        if host is None:
            request = request.replace(b"HTTP/1.1", b"HTTP/1.0")
        assert exchange(service, request).status == 200, host
    request = raw_request("GET", "/api/files", host=None).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert exchange(service, request).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1",
             "evil.example:5921", "[::2]"]
)
def test_foreign_hosts_are_refused(service, host):
    """A page whose name was rebound to 127.0.0.1 sends its own name as Host."""
    for method, path in (("GET", "/api/files"), ("GET", f"/api/files/{UNKNOWN_ID}"),
                         ("PUT", "/api/files/upload/x")):
        assert exchange(service, raw_request(method, path, host=host, body=b"x" if method == "PUT"
                                             else b"")).status == 403


def test_allowed_hosts(start_service):
    service = start_service(ALLOWED_HOSTS="files.example, other.example:8080")
    for host, status in (
        ("files.example", 200), ("FILES.example", 200), ("files.example:5921", 200),
        ("other.example:8080", 200), ("other.example", 403), ("example", 403), ("localhost", 200),
    ):
        assert exchange(service, raw_request("GET", "/api/files", host=host)).status == status, host


CHANGES = [
    ("POST", "/api/files/upload"), ("PUT", "/api/files/upload/x"), ("PUT", "/api/files/pipe/x"),
    ("POST", "/api/files/delete"), ("PATCH", f"/api/files/{UNKNOWN_ID}"),
    ("DELETE", f"/api/files/{UNKNOWN_ID}"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Origin": "http://127.0.0.1:1"}],
)
def test_cross_site_changes_are_refused(service, method, path, headers):
    before = service.get("/api/files").json()["total"]
    options = {} if method == "DELETE" else {"data": b"{}"}
    check_problem(service.request(method, path, headers=headers, **options), 403, "forbidden")
    assert service.get("/api/files").json()["total"] == before


def test_own_origin_may_change(service):
    for origin in (service.url, f"http://localhost:{service.port}"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin",
                   "Host": origin.removeprefix("http://")}
        assert service.put("/api/files/upload/own", data=TEXT, headers=headers).status_code == 201


def test_listed_origin_may_change_without_login(start_service):
    service = start_service(ALLOWED_ORIGINS=ORIGIN)
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    answer = service.put("/api/files/upload/listed", data=TEXT, headers=headers)
    assert answer.status_code == 201
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_reading_with_a_foreign_origin_gets_no_cors(service):
    answer = service.get("/api/files", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_no_answer_names_the_software_or_a_path(service):
    for path in ("/live", "/nowhere", "/api/files/x"):
        answer = service.get(path)
        assert "lighttpd" not in answer.headers.get("Server", "").lower()
        assert str(service.data_dir) not in answer.text
        assert "X-Sendfile" not in answer.headers


def test_pipelined_requests_are_answered_in_their_order(service):
    requests = [
        raw_request("PUT", "/api/files/upload/one", body=b"1" * 1000),
        raw_request("GET", "/live"),
        raw_request("PUT", "/api/files/pipe/two", body=b"2" * 70_000),
        raw_request("GET", f"/api/files/{UNKNOWN_ID}"),
        raw_request("PUT", "/api/files/upload/three", body=b""),
        raw_request("HEAD", "/api/files"),
        raw_request("PUT", "/api/files/upload/four", body=b"4" * 300_000),
        raw_request("GET", "/health"),
    ]
    with RawConnection(service) as connection:
        connection.send(b"".join(requests))
        answers = [connection.read(request.split()[0].decode()) for request in requests]
    assert [answer.status for answer in answers] == [201, 200, 201, 404, 201, 200, 201, 200]
    for answer, name, size in ((answers[0], b"one", 1000), (answers[2], b"two", 70_000),
                               (answers[4], b"three", 0), (answers[6], b"four", 300_000)):
        assert b'"originalName":"%s"' % name in answer.body
        assert b'"size":%d,' % size in answer.body


EARLY = [
    ("PUT", "/api/files/upload/a%00b", {}, 400),
    ("POST", "/api/files/upload", {"Content-Type": "text/plain"}, 415),
    ("POST", "/api/files/upload", {"Content-Type": "multipart/form-data"}, 400),
    ("PUT", "/api/files/upload/x", {"Origin": "https://evil.example"}, 403),
    ("PUT", "/api/files/upload/x", {"Idempotency-Key": "k" * 256}, 400),
    ("PUT", "/api/files/upload/x", {"Content-MD5": "bad"}, 400),
    ("DELETE", "/api/files/upload/x", {}, 405),
    ("PUT", "/api/files/upload/x", {"Content-Length": "52428801"}, 413),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), EARLY)
@pytest.mark.parametrize("size", [1000, 300_000])
def test_early_answers_keep_or_announce(service, method, path, headers, status, size):
    """An answer given before the body was read says that the connection ends, or it goes on."""
    length = int(headers.get("Content-Length", size))
    headers = [*{**headers, "Content-Length": length}.items()]
    for pause in (0, 0.002, 0.01):
        with RawConnection(service) as connection:
            connection.send(raw_request(method, path, headers))
            time.sleep(pause)
            connection.send_as_taken(b"x" * min(size, length))
            answer = connection.read(method)
            assert answer.status == status
            if answer.header("connection") == "close":
                continue
            assert length == size and connection.send_as_taken(raw_request("GET", "/live"))
            assert connection.read().status == 200, "closed, and not a word about it"
