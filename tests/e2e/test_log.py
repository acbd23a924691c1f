"""The log: one ECS line a request, joined to its answer by the trace, and free of secrets."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter

import pytest

import backends
from problems import TIME
from samples import TEXT, UNKNOWN_ID, unique
from service import wait_for

pytestmark = pytest.mark.local("about log lines, whatever the stores")

FIRST = [
    "@timestamp", "log.level", "message", "ecs.version", "service.name",
]
REQUEST = {
    "trace.id", "trace_id", "http.request.id", "http.request.method", "http.response.status_code",
    "http.route", "url.path", "event.duration", "event.id", "service", "level", "client.ip",
    "span.id", "host.name", "process.pid", "service.environment",
    "http.request.body.bytes", "http.response.body.bytes",
}


def lines_of(service, answer):
    trace = answer.headers["traceparent"].split("-")[1]
    return [line for line in service.log_lines() if line.get("trace.id") == trace]


@pytest.mark.smoke
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
    assert len(raw) > 1000
    for secret in (token, token[:-1], token.split("_", 2)[2], key, "that-nobody-logs"):
        assert secret not in raw


def test_secrets_that_clients_put_into_the_wrong_place_are_masked(token_service):
    token = token_service.token(unique("misled"))
    secret = token.split("_", 2)[2]
    agents = (f"curl -H 'Authorization: Bearer {token}'", f"x http://me:{secret}@host/?token={secret}")
    answers = [
        token_service.get(f"/api/files/{token}", token=token),
        token_service.get(f"/nowhere%3Ftoken%3D{secret}", token=token),
        token_service.put(f"/api/files/upload/password={secret}", token=token, data=b"x"),
        *(token_service.get("/live", headers={"User-Agent": agent}) for agent in agents),
    ]
    for answer in answers:
        wait_for(lambda: lines_of(token_service, answer), "logged", 5)
    raw = token_service.log_file.read_text()
    assert secret not in raw
    assert "/api/files/coffer_***" in raw and "http://***@host/?token=***" in raw


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


def trace_of(answer):
    return answer.headers["traceparent"].split("-")[1]


def test_successes_are_sampled_by_their_trace(start_service):
    """What goes wrong is always logged; two programs choose the same traces."""
    service = start_service(LOG_SUCCESS_SAMPLE=10)
    good, bad = [], []
    for n in range(400):
        trace = {"traceparent": f"00-{n + 1:032x}-{n + 1:016x}-01"}
        good.append(trace_of(service.get("/live", headers=trace)))
        assert service.get("/api/files?limit=1", headers=trace).status_code == 200
    for _ in range(20):
        answer = service.get("/nowhere")
        assert answer.status_code == 404
        bad.append(trace_of(answer))
    lines = service.log_lines()
    kept = {name: {line["trace.id"] for line in lines if line.get("http.route") == name
                   and line.get("trace.id") in good}
            for name in ("/live", "/api/files")}
    assert kept["/live"] == kept["/api/files"]
    assert 10 < len(kept["/live"]) < 100
    assert set(bad) <= {line.get("trace.id") for line in lines}


def rotate(service, number):
    """As logrotate does: the file is moved away and the launcher gets SIGHUP."""
    moved = service.folder / f"log.{number}"
    service.log_file.rename(moved)
    service.process.send_signal(signal.SIGHUP)
    wait_for(service.log_file.exists, "a new log file", 5)
    return moved


def lines_in(*paths):
    """The programs' lines in these files, each of which ends with a whole one."""
    found = []
    for path in paths:
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b"", f"{path.name} doesn't end with a whole line"
        found += [json.loads(line) for line in lines]
    return [line for line in found if line["service"] != "coffer-gateway"]


def test_rotations_under_load_lose_no_line_and_tear_none(start_service):
    service = start_service()
    file = service.create(TEXT)
    targets = ["/live", "/api/files?limit=1", f"/api/files/{file['id']}", "/nowhere"]
    stop = threading.Event()
    asked = [[] for _ in targets]

    def load(number):
        while not stop.is_set():
            asked[number].append(trace_of(service.get(targets[number])))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(len(targets))]
    for thread in threads:
        thread.start()
    files = []
    try:
        for number in range(8):
            time.sleep(0.2)
            files.append(rotate(service, number))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    service.stop()
    files.append(service.log_file)
    lines = lines_in(*files)
    seen = Counter(line["trace.id"] for line in lines if "trace.id" in line)
    assert all(len(each) > 20 for each in asked)
    assert [trace for each in asked for trace in each if seen[trace] != 1] == []
    assert len({line["event.id"] for line in lines}) == len(lines)
    assert len([path for path in files if path.stat().st_size]) > 4


def test_what_was_answered_is_logged_at_a_stop_and_soon_enough_for_a_kill(start_service):
    service = start_service()
    early = [trace_of(service.get("/live")) for _ in range(50)]
    wait_for(lambda: early[-1] in service.log_file.read_text(), "written by itself", 5)
    service.kill("health")
    late = [trace_of(service.get("/api/files?limit=1")) for _ in range(200)]
    service.stop()
    seen = Counter(line["trace.id"] for line in lines_in(service.log_file) if "trace.id" in line)
    assert [trace for trace in early + late if seen[trace] != 1] == []


def test_a_failed_start_is_in_the_log(start_service):
    service = start_service()
    # A program alone, as lighttpd would start it.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(service.folder / "alone"))
        listener.listen()
        done = subprocess.run([str(service.binaries / "files_list")], check=False, stdin=listener,
                              env={**service.env, "RUNTIME_DIR": str(service.folder / "none")},
                              capture_output=True, cwd=service.folder, timeout=60)
    assert done.returncode == 2, done.stderr
    failed = [line for line in service.log_lines() if line["message"] == "cannot start"]
    assert [line["log.level"] for line in failed] == ["error"]
    assert failed[0]["error.message"] in done.stderr.decode()


def test_rotation_of_a_service_that_nohup_started(start_service):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        service = start_service()
    finally:
        signal.signal(signal.SIGHUP, before)
    rotate(service, 1)
    wait_for(lambda: lines_of(service, service.get("/live")), "written to the new file", 5)


def test_a_rotation_ends_no_program_that_is_just_started(start_service):
    service = start_service()
    service.expect_5xx = True  # programs are killed
    for _ in range(backends.rounds(4, 12)):
        for program in ("files_list", "files_get", "files_update"):
            for pid in service.pids(program):
                os.kill(pid, signal.SIGKILL)
        # lighttpd starts them again once a second.
        for _ in range(10):
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
    ends = Counter(re.findall(r"child signalled: (\d+)", service.gateway_log()))
    assert ends.keys() == {"9"}, ends


def test_rotation(start_service):
    """The file is moved away and the launcher gets SIGHUP, as logrotate does."""
    service = start_service()
    moved = rotate(service, 1)

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
    service.settle_log()
    assert moved.stat().st_size == before and b'"message":"started"' in moved.read_bytes()
