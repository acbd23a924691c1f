"""Error reports in a real tracker: what failed is told there, equal faults are one issue, nothing
that is secret leaves, and what can't be told now is kept or counted. Where faults come from, crashes,
and what reporting costs (F25) are test_report_crash.py's."""

import functools
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest

from bugsink import Bugsink
from faultproxy import FaultProxy
from samples import TEXT, UNKNOWN_ID
from service import Service, read_proc, wait_for

PROGRAMS = ("files_upload", "files_get", "files_list", "files_delete", "files_update", "health",
            "metrics", "access_log")
CODES = ("metadata_unavailable", "storage_unavailable", "internal")


@pytest.fixture(scope="module")
def tracker():
    with Bugsink() as tracker:
        yield tracker


@pytest.fixture
def project(tracker):
    return tracker.project()


@pytest.fixture
def reporting(start_service, project):
    """reporting(**env): a service that reports to the project, and may fail."""

    def start(**env):
        service = start_service(**{"SENTRY_DSN": project.dsn, "ENVIRONMENT": "testing", **env})
        service.expect_5xx = True
        return service

    return start


@contextmanager
def without_data(service):
    """DATA_DIR is not where it was: whatever is asked for fails."""
    away = service.data_dir.with_name("away")
    service.data_dir.rename(away)
    try:
        yield
    finally:
        away.rename(service.data_dir)


def lose_bytes(service, *files):
    """The bytes of these files are gone, their rows are not."""
    service.expect_damage = True
    for content in files:
        (service.data_dir / service.object_of(content)).unlink()


def counted(service, outcome):
    return service.reports(outcome=outcome)


def wait_counted(service, outcome, count, seconds=20):
    wait_for(lambda: counted(service, outcome) >= count,
             f"{count} {outcome}, but {counted(service, outcome)}", seconds, 0.05)


# ---- what is told ----

def request_failed(service, method, target, options):
    """The answer in a list, when it is a 5xx (which counts as false by itself)."""
    answer = service.request(method, target, **options)
    return [answer] if answer.status_code >= 500 else None


@pytest.mark.local("about DATA_DIR")
def test_each_program_tells_what_failed(reporting, project):
    service = reporting()
    file = service.create(TEXT)
    path = f"/api/files/{file['id']}"
    requests = {
        "files_upload": ("PUT", "/api/files/upload/a-name", "/api/files/upload/:name"),
        "files_get": ("GET", path, "/api/files/:id"),
        "files_list": ("GET", "/api/files", "/api/files"),
        "files_delete": ("DELETE", path, "/api/files/:id"),
        "files_update": ("PATCH", path, "/api/files/:id"),
        "health": ("GET", "/ready", "/ready"),
    }
    answers = {}
    with without_data(service):
        for program, (method, target, _) in requests.items():
            body = {"data": b'{"visibility":"public"}',
                    "headers": {"Content-Type": "application/json"}} if method == "PATCH" else {}
            if method == "PUT":
                body = {"data": TEXT}
            [answers[program]] = wait_for(  # checks of health are cached
                functools.partial(request_failed, service, method, target, body), program)
        events = project.wait_for(len(requests))
    told = {event["tags"]["program"]: event for event in events}
    assert set(told) == set(requests) and len(events) == len(requests)
    assert len({event["issue"] for event in events}) == len(requests)
    for program, (method, _, route) in requests.items():
        event, answer = told[program], answers[program]
        problem = answer.json()
        assert event["level"] == "error" and event["platform"] == "native"
        assert event["logger"] == f"coffer.{program}"
        assert event["environment"] == "testing"
        assert event["release"].startswith("coffer@") and event["server_name"]
        assert event["transaction"] == event["tags"]["route"] == route
        assert event["tags"]["code"] == problem["code"] and problem["code"] in CODES
        assert event["tags"]["status"] == str(answer.status_code)
        assert event["tags"]["operation"]
        assert event["tags"]["request_id"] == answer.headers["X-Request-Id"]
        assert event["contexts"]["trace"]["trace_id"] == problem["traceId"]
        assert event["contexts"]["trace"]["span_id"] == answer.headers["traceparent"].split("-")[2]
        assert event["request"]["method"] == method
        [exception] = event["exception"]["values"]
        assert exception["type"] == problem["code"] and exception["value"]
        assert exception["mechanism"] == {"type": "generic", "handled": True}
    wait_counted(service, "sent", len(requests))  # after the tracker has answered
    assert counted(service, "sent") == len(requests)


@pytest.mark.local("bytes are taken from the folder")
def test_equal_faults_are_one_issue_and_others_another(reporting, project):
    service = reporting()
    contents = [b"first", b"second", b"third"]
    files = [service.create(content)["id"] for content in contents]
    lose_bytes(service, *contents)
    for number in files[:2]:
        assert service.get(f"/api/files/{number}").status_code == 500
    assert service.get(f"/api/files/{files[2]}/download").status_code == 500
    events = project.wait_for(3)
    issues = [event["issue"] for event in events]
    assert issues[0] == issues[1] != issues[2]
    assert events[0]["fingerprint"] == events[1]["fingerprint"]
    # What the requests did on their way.
    for event in events:
        steps = event["breadcrumbs"]["values"]
        assert {"metadata", "storage"} == {step["category"] for step in steps}
        assert steps[0]["message"] == "file_get" and steps[0]["data"]["outcome"] == "ok"
        assert any(step["category"] == "storage" and step["data"]["outcome"] == "not_found"
                   for step in steps), steps


@pytest.mark.local("about DATA_DIR")
def test_nothing_secret_leaves(reporting, project):
    service = reporting(AUTH_MODE="token")
    token = service.token("the-owner-s-name")
    secrets = {"token": token, "owner": "the-owner-s-name", "cookie": "a-cookie-s-value",
               "query": "a-query-s-value", "body": "a-body-s-bytes", "name": "a-file-s-name",
               "dsn": project.key}
    headers = {"Cookie": f"session={secrets['cookie']}", "User-Agent": "a-known-client/1"}
    with without_data(service):
        answers = [
            service.put(f"/api/files/upload/{secrets['name']}", token=token, headers=headers,
                        data=secrets["body"].encode()),
            service.get(f"/api/files?prefix={secrets['query']}", token=token, headers=headers),
        ]
        assert all(answer.status_code >= 500 for answer in answers), answers
        events = project.wait_for(2)
    for event in events:
        text = json.dumps(event)
        assert event["request"]["headers"] == {"User-Agent": "a-known-client/1"}
        assert not [name for name, secret in secrets.items() if secret in text], text
        assert "user" not in event


def test_what_the_client_did_wrong_is_not_told(reporting, project):
    service = reporting()
    assert service.get(f"/api/files/{UNKNOWN_ID}").status_code == 404
    assert service.get("/api/files/wrong").status_code == 400
    assert service.put("/api/files").status_code == 405
    assert service.post("/api/files/upload", data=b"x").status_code == 415
    time.sleep(0.5)
    assert project.events() == []
    assert not service.reports()


def answer_without(service, program, method, target):
    """The gateway's answer while a program is away, or on its way back."""
    for pid in service.pids(program):
        os.kill(pid, signal.SIGKILL)
    return service.request(method, target, data=b"x")


@pytest.mark.core
def test_what_the_gateway_could_not_do_is_told(reporting, project):
    """Nobody but lighttpd knows of it; the name of the file stays here."""
    service = reporting()
    answer = next(answer for answer in (
        answer_without(service, "files_upload", "PUT", "/api/files/upload/a-file-s-name")
        for _ in range(20)) if answer.status_code >= 500)
    [event] = project.wait_for(1)
    assert event["level"] == "error" and event["tags"]["program"] == "health"
    assert event["transaction"] == "/api/files/upload/:name"
    assert event["tags"]["operation"] == "gateway"
    assert event["tags"]["status"] == str(answer.status_code)
    assert event["tags"]["code"] == answer.json()["code"]
    assert event["tags"]["request_id"] == answer.headers["X-Request-Id"]
    assert event["contexts"]["trace"]["trace_id"] == answer.json()["traceId"]
    assert "a-file-s-name" not in json.dumps(event)
    [line] = [line for line in service.log_lines()
              if line.get("http.request.id") == answer.headers["X-Request-Id"]
              and line["service.name"] == "coffer-health"]
    assert line["log.level"] == "error" and line["error.code"] == answer.json()["code"]


# ---- without a tracker ----

def threads(service):
    return {program: len(os.listdir(f"/proc/{pid}/task"))
            for program in PROGRAMS for pid in service.pids(program)}


@pytest.mark.local("bytes are taken from the folder")
def test_without_a_dsn_nothing_is_made(start_service, project):
    services = [start_service(SENTRY_DSN=dsn) for dsn in ("", project.dsn)]
    for service in services:
        service.expect_5xx = True
        service.wait_until_started()
    assert threads(services[0]) == threads(services[1]), "a thread before there is a report"
    for service in services:
        file = service.create(TEXT)
        lose_bytes(service, TEXT)
        assert service.get(f"/api/files/{file['id']}").status_code == 500
    project.wait_for(1)
    told = threads(services[1])
    assert told.pop("files_get") == threads(services[0]).pop("files_get") + 1
    assert not services[0].reports()
    assert not list(services[0].folder.rglob("reports"))


# ---- a tracker that is away, slow, or wants none ----

@pytest.fixture
def proxy(tracker):
    with FaultProxy(tracker.endpoint) as proxy:
        yield proxy


def spooled(service):
    return sorted((service.data_dir / "log" / "reports").glob("*.envelope"))


@pytest.mark.local("bytes are taken from the folder")
def test_kept_while_the_tracker_is_away(reporting, project, proxy):
    """Also when the service is killed meanwhile."""
    proxy.refuse()
    service = reporting(SENTRY_DSN=project.dsn_at(proxy.endpoint))
    file = service.create(TEXT)
    lose_bytes(service, TEXT)
    for _ in range(3):
        assert service.get(f"/api/files/{file['id']}").status_code == 500
    wait_counted(service, "spooled", 3)
    assert len(spooled(service)) == 3
    assert {path.stat().st_mode & 0o777 for path in spooled(service)} == {0o600}
    service.kill_all()
    assert service.start().get(f"/api/files/{file['id']}").status_code == 500
    wait_counted(service, "spooled", 4)
    assert project.events() == []
    proxy.accept()
    events = project.wait_for(4, 30)
    assert len(events) == 4 and len({event["event_id"] for event in events}) == 4
    wait_for(lambda: not spooled(service), "the spool is empty", 5)
    wait_counted(service, "sent", 4)


@pytest.mark.local("bytes are taken from the folder")
def test_a_limit_is_obeyed(reporting, project, proxy):
    proxy.header("X-Sentry-Rate-Limits", "3600:error:key", times=1)
    service = reporting(SENTRY_DSN=project.dsn_at(proxy.endpoint))
    file = service.create(TEXT)
    lose_bytes(service, TEXT)
    for count in range(3):
        assert service.get(f"/api/files/{file['id']}").status_code == 500
        wait_counted(service, "sent", 1)
        wait_counted(service, "dropped_limit", count)
    assert len(project.events()) == 1
    assert proxy.count("POST") == 1 and spooled(service) == []


@pytest.mark.local("bytes are taken from the folder")
def test_429_is_obeyed(reporting, project, proxy):
    proxy.status(429, {"Retry-After": "2"}, times=1)
    service = reporting(SENTRY_DSN=project.dsn_at(proxy.endpoint))
    file = service.create(TEXT)
    lose_bytes(service, TEXT)
    assert service.get(f"/api/files/{file['id']}").status_code == 500
    wait_counted(service, "dropped_limit", 1)
    began = time.monotonic()
    while counted(service, "sent") == 0 and time.monotonic() < began + 20:
        assert service.get(f"/api/files/{file['id']}").status_code == 500
        time.sleep(0.5)
    assert time.monotonic() - began >= 1.5
    assert project.wait_for(1)[0]["tags"]["program"] == "files_get"


@pytest.mark.local("bytes are taken from the folder")
def test_a_storm_of_equal_faults(reporting, project):
    service = reporting()
    file = service.create(TEXT)
    lose_bytes(service, TEXT)
    for _ in range(60):
        assert service.get(f"/api/files/{file['id']}").status_code == 500
    wait_for(lambda: counted(service, "sent") + counted(service, "dropped_limit") == 60,
             "each is sent or counted")
    assert counted(service, "sent") in (10, 20)  # a minute may have ended in between
    assert len(project.events()) == counted(service, "sent")


@pytest.mark.local("bytes are taken from the folder")
def test_a_stop_does_not_wait_for_the_tracker(reporting, project, proxy):
    proxy.silent()
    service = reporting(SENTRY_DSN=project.dsn_at(proxy.endpoint))
    file = service.create(TEXT)
    lose_bytes(service, TEXT)
    assert service.get(f"/api/files/{file['id']}").status_code == 500
    wait_for(lambda: proxy.count("POST") == 1, "the report is under way")
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < 8  # the exchange would take 10 s
    assert len(spooled(service)) == 1
    proxy.clear()
    service.start()
    project.wait_for(1)


# ---- starts ----

@pytest.mark.local("about DATA_DIR")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_failed_start_is_told(project, tmp_path, program):
    """Programs by themselves: coffer-serve would look before it starts them."""
    for fault, env in (("WORKERS", {"WORKERS": "many"}),
                       ("LOG_FILE", {"LOG_FILE": str(tmp_path / "missing" / "log")})):
        before = len(project.events())
        service = Service(SENTRY_DSN=project.dsn, **env)
        try:
            done, seconds = start_alone(service, program, tmp_path)
        finally:
            service.close()
        assert done.returncode == 2 and fault in done.stderr
        assert seconds < 5
        [event] = project.wait_for(before + 1)[before:]
        assert event["level"] == "fatal"
        assert event["tags"]["program"] == program
        [exception] = event["exception"]["values"]
        assert fault in exception["value"]
        assert exception["mechanism"] == {"type": "start", "handled": False}


def start_alone(service, program, folder):
    began = time.monotonic()
    with standard_input(program, folder) as given:
        done = subprocess.run([str(service.binaries / program)], env=service.env, stdin=given,
                              capture_output=True, text=True, timeout=20, check=False)
    return done, time.monotonic() - began


@contextmanager
def standard_input(program, folder):
    """What lighttpd gives a program: a listening socket, or the access log's pipe."""
    if program == "access_log":
        reading, writing = os.pipe()
        try:
            yield reading
        finally:
            os.close(reading)
            os.close(writing)
        return
    path = folder / f"{program}.socket"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener


@pytest.mark.parametrize("dsn", ["somewhere", "https://hidden@", "https://hidden@host",
                                 "ftp://hidden@host/1", "https://hidden@host/1?a=b"])
def test_a_wrong_dsn_refuses_the_start(dsn):
    service = Service(SENTRY_DSN=dsn)
    service.expect_unclean = True
    try:
        service.launch()
        assert service.process.wait(15) > 0
        [line] = service.output().strip().splitlines()
        assert "SENTRY_DSN must be http(s)://KEY@HOST/PROJECT" in line and "hidden" not in line
    finally:
        service.close()


def test_the_dsn_is_shown_to_nobody(reporting, project):
    service = reporting()
    assert "SENTRY_DSN=***" in service.coffer("config").stdout
    for program in PROGRAMS:
        for pid in service.pids(program):
            assert project.key.encode() not in read_proc(pid, "cmdline")
    assert project.key not in service.log_file.read_text()
