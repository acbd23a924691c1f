"""The log: one ECS line a request, joined to its answer by the trace, and free of secrets."""

import re
import signal

from problems import TIME
from samples import TEXT, UNKNOWN_ID, unique
from service import wait_for

FIRST = [
    "@timestamp", "log.level", "message", "ecs.version", "service.name",
]
REQUEST = {
    "trace.id", "trace_id", "http.request.id", "http.request.method", "http.response.status_code",
    "http.route", "url.path", "event.duration", "event.id", "service", "level", "client.ip",
}


def lines_of(service, answer):
    trace = answer.headers["traceparent"].split("-")[1]
    return [line for line in service.log_lines() if line.get("trace.id") == trace]


def test_one_line_for_each_answer(token_service):
    owner = unique("logged")
    token = token_service.token(owner)
    file = token_service.create(TEXT, token=token)
    path = f"/api/files/{file['id']}"
    cases = [
        ("GET", "/live", "/live", None), ("GET", "/api/files", "/api/files", owner),
        ("GET", path, "/api/files/:id", owner), ("HEAD", path, "/api/files/:id", owner),
        ("GET", path + "/meta", "/api/files/:id/meta", owner),
        ("GET", f"/api/files/{UNKNOWN_ID}", "/api/files/:id", owner),
        ("GET", "/api/files/wrong", "/api/files/:id", owner),
        ("PUT", "/api/files/upload/x", "/api/files/upload/:name", owner),
        ("DELETE", path, "/api/files/:id", owner), ("GET", "/nowhere", "unknown", None),
        ("POST", "/api/files/delete", "/api/files/delete", owner),
    ]
    for method, target, route, user in cases:
        options = {"data": b"{}"} if method in ("PUT", "POST") else {}
        answer = token_service.request(
            method, target + "?secret=query", token=token if user else None, **options
        )
        found = wait_for(lambda: lines_of(token_service, answer), f"{method} {target} logged", 5)
        assert len(found) == 1, found
        line = found[0]
        assert list(line)[:5] == FIRST and set(line) >= REQUEST
        assert TIME.match(line["@timestamp"])
        assert line["service.name"] == line["service"] and line["service"].startswith("coffer-")
        assert line["log.level"] == line["level"]
        assert line["trace.id"] == line["trace_id"]
        assert line["http.request.id"] == answer.headers["X-Request-Id"]
        assert line["http.request.method"] == method
        assert line["http.response.status_code"] == answer.status_code
        assert line["http.route"] == route
        assert line["url.path"] == target
        assert line["client.ip"] == "127.0.0.1"
        assert 0 < line["event.duration"] < 60e9
        assert line.get("user.name") == user
        if answer.status_code >= 400 and method != "HEAD":
            assert line["error.code"] == answer.json()["code"]


def test_sizes_in_the_log_are_what_was_sent(service):
    content = unique().encode() * 1000
    put = service.put("/api/files/upload/sized", data=content)
    path = f"/api/files/{put.json()['id']}"
    cases = [
        (put, len(content), len(put.content)),
        (service.get(path), 0, len(content)),
        (service.get(path, headers={"Range": "bytes=10-19"}), 0, 10),
        (service.head(path), 0, 0),
        (service.get(path, headers={"If-None-Match": "*"}), 0, 0),
    ]
    for answer, received, sent in cases:
        line = wait_for(lambda: lines_of(service, answer), "logged", 5)[0]
        assert line["http.request.body.bytes"] == received
        assert line["http.response.body.bytes"] == sent


def test_event_ids_are_unique_and_no_secret_is_written(token_service):
    token = token_service.token(unique("secret"))
    key = unique("private-key-value")
    token_service.upload(
        b"body-that-nobody-logs", "named", token=token, headers={"Idempotency-Key": key},
        metadata={"k": "metadata-that-nobody-logs"},
    )
    token_service.get("/api/files?prefix=query-that-nobody-logs", token=token)
    token_service.get("/api/files", token=token[:-1] + "!")
    lines = token_service.log_lines()
    ids = [line["event.id"] for line in lines]
    assert len(ids) == len(set(ids)) > 3
    raw = token_service.log_file.read_text()
    for secret in (token, token[:-1], token.split("_", 2)[2], key, "that-nobody-logs"):
        assert secret not in raw


def test_server_errors_are_marked(start_service):
    service = start_service()
    service.expect_5xx = service.expect_damage = True
    content = unique().encode() * 100
    file = service.create(content)
    service.stores.objects.remove(service.object_of(content))
    answer = service.get(f"/api/files/{file['id']}")
    assert answer.status_code == 500
    found = wait_for(lambda: lines_of(service, answer), "logged", 5)
    assert [line["log.level"] for line in found] == ["error"]
    assert not re.search(r"/tmp/|objects/", answer.text)


def test_log_level(start_service):
    service = start_service(LOG_LEVEL="error")
    service.create(TEXT)
    service.get("/nowhere")
    assert service.log_lines() == []


def test_rotation(start_service):
    """The file is moved away and the launcher gets SIGHUP, as logrotate does."""
    service = start_service()
    # All but the admin command and the driver that programs load.
    programs = len([path for path in service.binaries.iterdir() if not path.suffix]) - 1

    def started():
        said = [line["service"] for line in service.log_lines() if line["message"] == "started"]
        return len(set(said)) == programs

    wait_for(started, "every program has started", 10)
    moved = service.folder / "log.1"
    service.log_file.rename(moved)
    service.process.send_signal(signal.SIGHUP)
    wait_for(service.log_file.exists, "a new log file", 5)

    def logged_in_new_file():
        one = f"/api/files/{UNKNOWN_ID}"
        answers = [
            service.get("/live"), service.get("/api/files"), service.get(one),
            service.get("/api/metrics"), service.put("/api/files/upload/x", data=TEXT),
            service.patch(one, json={}), service.delete(one),
        ]
        return all(lines_of(service, answer) for answer in answers)

    wait_for(logged_in_new_file, "every program writes to the new file", 5)
    before = moved.stat().st_size
    service.create(TEXT)
    assert moved.stat().st_size == before and b'"message":"started"' in moved.read_bytes()
