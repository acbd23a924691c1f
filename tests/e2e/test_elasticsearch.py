"""Logs in Elasticsearch: a real one, the installer of its templates, and the shipper."""

import http.server
import itertools
import json
import os
import queue
import signal
import subprocess
import threading
import time

import pytest

import elasticsearch
from elasticsearch import Elasticsearch, Shipper, ids
from faultproxy import FaultProxy
from samples import UNKNOWN_ID, unique
from service import open_service, wait_for

pytestmark = [
    pytest.mark.local("about log files and what ships them, whatever stores there are"),
    pytest.mark.timeout(400),  # Elasticsearch starts slowly on a busy machine
]

EVERYTHING = {"match_all": {}}
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def store():
    with Elasticsearch() as server:
        made = server.install_templates()
        assert made.returncode == 0, made.stderr
        yield server


@pytest.fixture
def environment(store):
    """A name of an installation that no other test uses: its data stream, empty."""
    return f"test{next(NUMBERS)}"


def line(environment, number, **fields):
    return json.dumps({"@timestamp": "2030-01-02T03:04:05.678Z", "log.level": "info",
                       "message": f"line {number}", "service.environment": environment,
                       "event.id": f"{environment}-{number:06}", **fields})


def append(path, lines):
    with path.open("a") as file:
        file.write("".join(each + "\n" for each in lines))


def all_arrive(store, environment, wanted, seconds=60):
    """Waits until as many lines are there, then each must be, once."""
    name = f"logs-coffer-{environment}*"
    try:
        wait_for(lambda: store.count(name) >= len(wanted), f"{len(wanted)} lines in {name}",
                 seconds, 0.5)
    except AssertionError as error:
        found = set(ids(store.find(name, EVERYTHING)))
        missing = [number for number, each in enumerate(wanted) if each not in found]
        raise AssertionError(f"{error}: {len(missing)} are missing, by their place in the log: "
                             f"{missing[:20]} … {missing[-5:]}") from None
    assert ids(store.find(name, EVERYTHING)) == sorted(wanted)


# ---- a service's logs ----

def every_line(service):
    """Of all files that the log was written to."""
    files = [service.log_file, *service.log_file.parent.glob(service.log_file.name + ".*")]
    return [json.loads(text) for path in files for text in path.read_text().splitlines()]


class Load:
    """Clients that upload, read, change, list and delete, and make mistakes, until the end."""

    def __init__(self, service):
        self.service, self.ended, self.failures = service, threading.Event(), []
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(3)]

    def client(self):
        try:
            while not self.ended.wait(0.2):
                self.requests()
        except Exception as error:  # told by the thread that waits
            self.failures.append(error)

    def requests(self):
        file = self.service.create(unique().encode(), "na\"me\u00e9.txt")
        path = f"/api/files/{file['id']}"
        for method, target in (
                ("GET", path), ("HEAD", path), ("GET", path + "/meta"), ("GET", "/api/files"),
                ("GET", f"/api/files/{UNKNOWN_ID}"), ("GET", "/no%22where%0A"), ("DELETE", path),
                ("PUT", "/api/files"), ("GET", "/live")):
            self.service.request(method, target)
        self.service.patch(path, json={"name": "other"})

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures


def rotate(service):
    service.log_file.rename(service.log_file.with_name(f"{service.log_file.name}.1"))
    service.process.send_signal(signal.SIGHUP)
    wait_for(service.log_file.exists, "a new log file", 10)


def test_every_line_arrives_and_none_twice(store, environment):
    """Under a mixed load: Elasticsearch is killed and comes back, meanwhile the log is rotated, and
    the shipper and its sender are killed, too."""
    service = open_service(ENVIRONMENT=environment, AUTH_MODE="none")
    shipper = Shipper(store, service.log_file)
    try:
        service.start()
        shipper.start()
        with Load(service):
            wait_for(lambda: store.count(f"logs-coffer-{environment}") > 100, "lines arrive", 30,
                     0.2)
            store.kill()
            time.sleep(1)
            rotate(service)
            time.sleep(0.5)
            for pid in shipper.senders():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
            shipper.kill()
            time.sleep(0.5)
            shipper.start()
            store.start()
            time.sleep(1)
        service.stop()
        lines = every_line(service)
        assert len(lines) > 300
        all_arrive(store, environment, [each["event.id"] for each in lines])
        assert shipper.refused() == []
        found_by_queries(store, environment, lines)
    finally:
        if shipper.process:
            shipper.kill()
        service.close()


def found_by_queries(store, environment, lines):
    """By what the specification names, and by ECS names; in the stream and by logs-*."""
    here = {"term": {"service.environment": environment}}
    some = next(each for each in lines if each.get("http.response.status_code") == 404)
    for field in ("level", "log.level", "trace_id", "trace.id", "service", "service.name",
                  "http.response.status_code", "http.route", "url.path", "client.ip"):
        wanted = ids(each for each in lines if each.get(field) == some[field])
        for indices in (f"logs-coffer-{environment}", "logs-*"):
            found = store.find(indices, {"bool": {"filter": [here, {"term": {field:
                                                                            some[field]}}]}})
            assert ids(found) == wanted, f"{field}={some[field]} in {indices}"
    assert store.find("logs-*", {"bool": {"filter": [here, {"match": {"message": "started"}}]}})
    sent = {each["event.id"]: each for each in lines}
    for each in store.find(f"logs-coffer-{environment}", here):
        assert each == sent[each["event.id"]]


def test_rotation_loses_nothing(store, environment, tmp_path):
    """Programs write to the renamed file until they get SIGHUP, with the shipper there or not."""
    log, renamed = tmp_path / "coffer.ndjson", tmp_path / "coffer.ndjson.1"
    lines = [line(environment, number) for number in range(600)]
    wanted = [json.loads(each)["event.id"] for each in lines]
    append(log, lines[:100])
    with Shipper(store, log) as shipper:
        all_arrive(store, environment, wanted[:100])
        log.rename(renamed)
        time.sleep(0.5)
        append(renamed, lines[100:200])
        append(log, lines[200:300])
        all_arrive(store, environment, wanted[:300])
        shipper.stop()
        append(log, lines[300:400])
        renamed.rename(tmp_path / "coffer.ndjson.2")
        log.rename(renamed)
        append(renamed, lines[400:500])
        append(log, lines[500:])
        (tmp_path / "coffer.ndjson.3.gz").write_bytes(b"\x1f\x8b\ncompressed\n")
        shipper.start()
        all_arrive(store, environment, wanted)
        assert shipper.refused() == []


# ---- what Elasticsearch, or what stands before it, answers ----

def test_a_kill_while_a_new_file_begins_loses_nothing(store, environment, tmp_path):
    """Past its first 512 bytes rsyslog keeps a position, also of lines that are not handed on yet."""
    log = tmp_path / "coffer.ndjson"
    lines = [line(environment, number) for number in range(100)]
    wanted = [json.loads(each)["event.id"] for each in lines]
    append(log, lines[:50])
    with Shipper(store, log) as shipper:
        all_arrive(store, environment, wanted[:50])
        senders = shipper.senders()
        for pid in senders:
            os.kill(pid, signal.SIGSTOP)
        log.rename(tmp_path / "coffer.ndjson.1")
        log.touch()
        time.sleep(0.5)  # until rsyslog has opened it
        shipper.process.send_signal(signal.SIGSTOP)
        append(log, lines[50:])  # all read at once, and none handed on
        shipper.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        for pid in senders:
            os.kill(pid, signal.SIGKILL)
        shipper.kill()
        shipper.start()
        all_arrive(store, environment, wanted)


def test_refused_lines_are_kept_and_the_others_pass(store, environment, tmp_path):
    log = tmp_path / "coffer.ndjson"
    good = [line(environment, number) for number in range(50)]
    bad = [line(environment, 100, **{"@timestamp": "yesterday"}), '{"cut": "off', "no JSON",
           '["a list"]', "[" * 5000, json.dumps({"service.environment": environment})]
    append(log, [*good[:20], *bad[:3], *good[20:40], *bad[3:], *good[40:]])
    with Shipper(store, log) as shipper:
        all_arrive(store, environment, [json.loads(each)["event.id"] for each in good])
        wait_for(lambda: len(shipper.refused()) >= len(bad), "refused lines kept", 20)
        refused = shipper.refused()
        assert sorted(each["line"] for each in refused) == sorted(bad)
        reasons = {each["line"]: each["reason"] for each in refused}
        assert "document_parsing_exception" in reasons[bad[0]]
        assert "not JSON" in reasons[bad[1]]
        assert " refused, see " in shipper.read("send.log")


def test_fields_of_other_types_are_not_refused(store, environment, tmp_path):
    log = tmp_path / "coffer.ndjson"
    odd = [
        {"http.response.status_code": "none"}, {"event.duration": 1.5}, {"client.ip": "unix:"},
        {"service": {"name": "deep"}}, {"message": ["a", "b"]}, {"url.path": "/" + "x" * 8000},
        {"new.field": 1}, {"new.field": "text"}, {"new.field": {"deeper": True}},
        {f"many.{number}": number for number in range(400)},
        {f"more.{number}": str(number) for number in range(900)},
        {"user.name": "\u0000\ud83d\ude00"}]
    lines = [line(environment, number, **fields) for number, fields in enumerate(odd)]
    append(log, lines)
    with Shipper(store, log) as shipper:
        all_arrive(store, environment, [json.loads(each)["event.id"] for each in lines])
        assert shipper.refused() == []


def test_answers_of_a_bad_day(store, environment, tmp_path):
    """Lines are sent again until they are there; none is doubled by a reply that was lost."""
    log = tmp_path / "coffer.ndjson"
    lines = [line(environment, number) for number in range(200)]
    append(log, lines)
    with FaultProxy(store.endpoint) as proxy:
        faults = [proxy.lost_reply(times=1), proxy.status(503, times=1),
                  proxy.truncate(10, times=1), proxy.status(401, times=1)]
        proxy.refuse()
        with Shipper(store, log, url=proxy.endpoint) as shipper:
            wait_for(lambda: shipper.queued() == log.stat().st_size, "all are in the queue", 20)
            wait_for(lambda: "waiting: " in shipper.read("send.log"), "trouble is told", 20)
            proxy.accept()
            wait_for(lambda: "sending again" in shipper.read("send.log"), "its end is told", 60)
            all_arrive(store, environment, [json.loads(each)["event.id"] for each in lines])
            assert [fault.hits for fault in faults] == [1, 1, 1, 1]
            assert shipper.refused() == []


def test_a_request_too_large_is_sent_in_parts(store, environment, tmp_path):
    log = tmp_path / "coffer.ndjson"
    lines = [line(environment, number) for number in range(200)]
    append(log, lines[:1])
    with FaultProxy(store.endpoint) as proxy:
        proxy.refuse()
        with Shipper(store, log, url=proxy.endpoint) as shipper:
            wait_for(lambda: "waiting: " in shipper.read("send.log"), "one was tried", 20)
            append(log, lines[1:])
            wait_for(lambda: shipper.queued() == log.stat().st_size, "all are in the queue", 20)
            too_large = proxy.status(413, skip=1, times=2)
            proxy.accept()
            all_arrive(store, environment, [json.loads(each)["event.id"] for each in lines])
            assert too_large.hits == 2
            assert shipper.refused() == []


def test_a_full_queue_waits_in_the_log(store, environment, tmp_path):
    log = tmp_path / "coffer.ndjson"
    lines = [line(environment, number, pad="x" * 1000) for number in range(4000)]
    append(log, lines)
    with FaultProxy(store.endpoint) as proxy:
        proxy.refuse()
        shipper = Shipper(store, log, url=proxy.endpoint)
        shipper.environment["SHIPPING_QUEUE_BYTES"] = "1048576"
        with shipper:
            wait_for(lambda: shipper.queued() > 1000000, "the queue is full", 20)
            shipper.stop()  # within the wait of rsyslog for room
            assert shipper.queued() <= 1048576
            shipper.start()
            proxy.accept()
            all_arrive(store, environment, [json.loads(each)["event.id"] for each in lines])
            wait_for(lambda: shipper.queued() == 0, "the queue is empty", 10)


# ---- the installer ----

def test_the_installer_twice_is_the_same_state(store):
    before = store.state()
    again = store.install_templates()
    assert again.returncode == 0 and again.stderr == ""
    assert store.state() == before
    templates = before["index_template"]["index_template"]
    assert templates["logs-coffer"]["index_patterns"] == ["logs-coffer-*"]
    assert templates["logs-coffer"]["priority"] == 501


def test_retention_is_that_of_the_environment(store):
    """A data stream is made by its first line."""
    for name, days in (("development", "7d"), ("production", "30d"), ("production-2", "30d"),
                       ("staging", "7d")):
        status, answer = store.request("POST", f"/logs-coffer-{name}/_doc",
                                       {"@timestamp": "2030-01-02T03:04:05Z"})
        assert status == 201, answer
        stream = store.state()["data_stream"]["data_stream"][f"logs-coffer-{name}"]
        assert stream["lifecycle"] == {"enabled": True, "data_retention": days}


@pytest.mark.parametrize("code, said, settings", [
    (75, "Connection refused", {"ELASTICSEARCH_URL": "http://127.0.0.1:1"}),
    (2, "ELASTICSEARCH_URL is not like", {"ELASTICSEARCH_URL": "elastic:9200"}),
    (2, "set ELASTICSEARCH_USER", {"ELASTICSEARCH_URL": "http://me:secret@127.0.0.1:1"}),
    (2, "belong together", {"ELASTICSEARCH_USER": "me"}),
    (2, "both set", {"ELASTICSEARCH_API_KEY": "a", "ELASTICSEARCH_API_KEY_FILE": "/b"}),
    (2, "No such file", {"ELASTICSEARCH_PASSWORD_FILE": "/nowhere"}),
])
def test_errors_of_the_installer_are_clear(store, code, said, settings):
    made = store.install_templates(**settings)
    assert made.returncode == code and said in made.stderr, made
    assert "Traceback" not in made.stderr and "secret" not in made.stderr
    assert made.stderr.count("\n") == 1


@pytest.mark.parametrize("status, code, said", [(401, 1, "credentials"), (503, 75, "503")])
def test_an_answer_that_refuses_is_told(store, status, code, said):
    with FaultProxy(store.endpoint) as proxy:
        proxy.status(status)
        made = store.install_templates(ELASTICSEARCH_URL=proxy.endpoint)
        assert made.returncode == code and said in made.stderr, made


def test_the_installer_waits(store):
    with FaultProxy(store.endpoint) as proxy:
        proxy.status(503, times=2)
        made = store.install_templates("--wait", "20", ELASTICSEARCH_URL=proxy.endpoint)
        assert made.returncode == 0 and "waiting: " in made.stderr, made


def test_credentials_are_sent_and_not_shown(store, environment, tmp_path):
    """From a file named in a settings file, by the shipper; no process has them as an argument."""
    secret = unique("api-key")
    (tmp_path / "key").write_text(secret + "\n")
    settings = tmp_path / "settings"
    log = tmp_path / "coffer.ndjson"
    append(log, [line(environment, 1)])
    with Listener() as listener:
        settings.write_text(f"# where to\nELASTICSEARCH_URL='{listener.endpoint}'\n"
                            f"ELASTICSEARCH_API_KEY_FILE={tmp_path}/key\n")
        with Shipper(store, log, arguments=["--env-file", settings]) as shipper:
            head = listener.heads.get(timeout=20)
            assert f"Authorization: ApiKey {secret}" in head
            for pid in (shipper.process.pid, *shipper.senders()):
                with open(f"/proc/{pid}/cmdline") as file:
                    assert secret not in file.read()
            for path in shipper.folder.iterdir():
                assert secret not in path.read_text(errors="replace"), path


class Listener(http.server.ThreadingHTTPServer):
    """Keeps the heads of requests, as an Elasticsearch without login does not look at them."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.heads = queue.Queue()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.heads.put(str(self.headers))
            self.send_error(503)

        def log_message(self, *_):
            pass

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


@pytest.mark.parametrize("program", ["install", "ship"])
def test_help(program):
    said = subprocess.run([elasticsearch.FOLDER / program, "--help"], capture_output=True,
                          text=True, check=True).stdout
    for word in ("ELASTICSEARCH_URL", "ELASTICSEARCH_API_KEY_FILE", "--env-file", "usage: "):
        assert word in said
