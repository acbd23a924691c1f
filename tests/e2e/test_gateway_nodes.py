"""The gateway before several nodes (lighttpd/gateway.conf, coffer-serve gateway), with stand-ins for
nodes: what it passes on, what it answers itself, and what it does when a node breaks."""

import os
import signal
import threading
import time

import pytest
import requests

from exchanges import call
from nodes import SETTLE_SECONDS, Gateway, StandIn, stand_in_port
from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import MIB
from service import wait_for

TRACE = "00-81164afd0f5fb1d27136920e69b48ff5-2d7ae0a8f02778cb-01"


@pytest.fixture
def stand_ins():
    """In the gateway's order: of nodes with equally little to do it takes the first."""
    made = [StandIn(name, port)
            for name, port in zip("abc", sorted(stand_in_port() for _ in range(3)), strict=True)]
    yield made
    for each in made:
        each.stop()


@pytest.fixture
def gateway(stand_ins):
    yield from started([node.port for node in stand_ins])


@pytest.fixture(scope="module")
def calm():
    """A gateway and one node that stay as they are; what the node saw is forgotten by each test."""
    node = StandIn()
    for each in started([node.port]):
        each.node = node
        yield each
    node.stop()


@pytest.fixture
def before_node(calm):
    calm.node.seen.clear()
    return calm


def started(ports, **env):
    gateway = Gateway(ports, **env)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


def only(seen):
    assert len(seen) == 1, [each.path for each in seen]
    return seen[0]


# ---- what is passed on ----

def test_client_is_told_to_nodes_and_nothing_it_says_of_itself(before_node):
    lies = {"X-Forwarded-For": "8.8.8.8", "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "https", "X-Forwarded-Port": "1", "X-Forwarded-Server": "x",
            "X-Real-IP": "8.8.8.8", "Forwarded": "for=8.8.8.8", "X-Host": "evil.example"}
    assert before_node.get("/api/files", headers=lies).status_code == 200
    seen = only(before_node.node.seen)
    assert seen.one("X-Forwarded-For") == "127.0.0.1"
    assert seen.one("X-Forwarded-Host") == f"127.0.0.1:{before_node.port}"
    assert seen.one("X-Forwarded-Proto") == "http"
    assert seen.one("Host") == f"127.0.0.1:{before_node.port}"
    for name in ("Forwarded", "X-Real-IP", "X-Forwarded-Port", "X-Forwarded-Server"):
        assert seen.all(name) == [], name
    said = str(seen.headers)
    assert "8.8.8.8" not in said and "evil" not in said


def test_request_id_and_trace_pass_both_ways(before_node):
    answer = before_node.get("/api/files",
                             headers={"X-Request-Id": "mine-1", "traceparent": TRACE})
    seen = only(before_node.node.seen)
    assert seen.one("X-Request-Id") == "mine-1" and seen.one("traceparent") == TRACE
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert answer.headers["traceparent"] == TRACE


def test_nodes_make_the_id_when_the_client_has_none(before_node):
    assert before_node.get("/api/files").headers["X-Request-Id"] == "made-by-node"
    assert only(before_node.node.seen).all("X-Request-Id") == []


@pytest.mark.parametrize("path", ["/api/files/a%2Fb", "/api/files//x", "/api/files/a/../b",
                                  "/api/files?limit=1&sort=%20", "/nowhere", "/"])
def test_targets_reach_a_node_as_they_were_sent(before_node, path):
    with RawConnection(before_node) as connection:
        assert connection.send(raw_request("GET", path)).read().status == 200
    assert only(before_node.node.seen).path == path


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_methods_reach_a_node(before_node, method):
    assert before_node.request(method, "/api/files/x").status_code == 200
    assert only(before_node.node.seen).method == method


def test_form_and_put_stream_to_a_node(before_node):
    """The node is asked before the body is whole."""
    with RawConnection(before_node) as connection:
        head = raw_request("PUT", "/api/files/upload/x", [("Content-Length", "300000")])
        connection.send(head, b"x" * 100_000)
        time.sleep(0.3)
        assert before_node.node.server and not before_node.node.seen
        assert connected_to(before_node.node.port) >= 1, "the gateway waits for the whole body"
        connection.send(b"x" * 200_000)
        assert connection.read().status == 200
    seen = only(before_node.node.seen)
    assert seen.whole and len(seen.body) == 300_000


def connected_to(port):
    """Established connections that end at a local port."""
    wanted = f":{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return sum(1 for row in rows if row[1].endswith(wanted) and row[3] == "01")


def test_a_body_of_unknown_length_goes_on_as_it_comes(before_node):
    """The node judges who sends it before it has come."""
    content = os.urandom(300_000)
    request = raw_request("PUT", "/api/files/pipe/x", [("Transfer-Encoding", "chunked")])
    with RawConnection(before_node) as connection:
        connection.send(request, b"%x\r\n%s\r\n" % (200_000, content[:200_000]))
        wait_for(lambda: connected_to(before_node.node.port) >= 1, "it does not wait for the rest")
        connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (100_000, content[200_000:]))
        assert connection.read("PUT").status == 200
    seen = only(before_node.node.seen)
    assert seen.one("Transfer-Encoding") == "chunked" and seen.all("Content-Length") == []
    assert seen.whole and seen.body == content
    wait_for(lambda: not before_node.spooled(), "the spool is empty again", 5)


# ---- what the gateway answers itself ----

def test_errors_of_the_gateway_are_problems(before_node):
    too_large = {"Content-Length": str(60 * MIB)}
    rows = [
        (413, raw_request("PUT", "/api/files/upload/x", too_large.items())),
        (413, raw_request("POST", "/api/files/delete", [("Content-Length", "200000")])),
        (431, raw_request("GET", "/api/files", [("X-Large", "x" * 9000)])),
        (400, b"GET /api/files HTTP/1.1\r\n\r\n"),
        (501, b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (505, b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"),
    ]
    for status, request in rows:
        with RawConnection(before_node) as connection:
            answer = connection.send(request).read()
        assert answer.status == status, f"{answer.status} for {request[:80]!r}"
        assert answer.header("content-type") == "application/problem+json", request[:80]
        assert answer.header("x-request-id"), request[:80]
    assert not before_node.node.seen


@pytest.mark.parametrize("path", ["/api/metrics", "/-/error", "/-/x"])
def test_the_gateway_shows_no_node_as_itself(before_node, path):
    """A node's counters, picked by chance, would be no metrics of anything."""
    check_problem(before_node.get(path), 404, "not_found")
    assert not before_node.node.seen


def test_live_and_ready_are_the_nodes(gateway, stand_ins):
    assert gateway.get("/ready").status_code == 200
    for node in stand_ins:
        node.behaviour = "unready"
    wait_for(lambda: gateway.get("/ready").status_code == 503, "no node is ready", SETTLE_SECONDS)
    # With all alike none is left out: they answer for themselves.
    time.sleep(5)
    assert sorted(gateway.inside()) == sorted(node.port for node in stand_ins)
    assert gateway.get("/live").status_code == 200


def test_without_any_node_503_within_a_second(stand_ins):
    ports = [stand_in_port(), stand_in_port()]
    for gateway in started(ports):
        for path in ("/live", "/ready", "/health", "/api/files"):
            begun = time.monotonic()
            answer = gateway.get(path, headers={"X-Request-Id": "mine-2"})
            problem = check_problem(answer, 503)
            assert time.monotonic() - begun < 2 and problem["requestId"] == "mine-2"
            assert int(answer.headers["Retry-After"]) > 0
        answer = call(gateway.port, "PUT", "/api/files/upload/x", b"x" * 300_000)
        assert answer.status == 503, answer
        late = StandIn("late", ports[0])
        wait_for(lambda: gateway.get("/api/files").status_code == 200, "the node is taken", 10)
        late.stop()


def test_names_stand_for_their_addresses(stand_ins):
    gateway = Gateway([], GATEWAY_NODES=f"localhost:{stand_ins[0].port},no-such-name.invalid")
    try:
        gateway.start()
        assert gateway.inside() == [stand_ins[0].port]
        assert gateway.get("/api/files").text == "a"
    finally:
        gateway.close()


# ---- balancing, and nodes that break ----

def names(gateway, count, method="GET"):
    """Who answered that many requests, one after the other."""
    path, body = "/api/files", None
    if method == "PUT":
        path, body = "/api/files/upload/x", b"x" * 100_000
    answers = [call(gateway.port, method, path, body, timeout=20) for _ in range(count)]
    assert all(answer.status == 200 for answer in answers), [str(a) for a in answers]
    return [answer.body.decode() for answer in answers]


def test_requests_at_once_are_spread(gateway, stand_ins):
    for node in stand_ins:
        node.hang()
    threads = [threading.Thread(target=call, args=(gateway.port, "GET", "/api/files"))
               for _ in range(9)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    for node in stand_ins:
        node.recover()
    for thread in threads:
        thread.join()
    assert [len(node.seen) for node in stand_ins] == [3, 3, 3]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_node_that_refuses_is_not_noticed_and_comes_back(gateway, stand_ins, method):
    stand_ins[0].stop()
    assert "a" not in names(gateway, 20, method)
    stand_ins[0].start()
    wait_for(lambda: "a" in names(gateway, 1, method), "it gets requests again", 5)
    # lighttpd did that by itself: no new list.
    assert len(gateway.inside()) == 3


@pytest.mark.parametrize("method, path, body", [
    ("GET", "/api/files", None), ("PUT", "/api/files/upload/x", b"x" * 100_000),
    ("PUT", "/api/files/pipe/x", b"x" * 100_000), ("POST", "/api/files/delete", b"{}")])
def test_what_was_sent_is_never_sent_twice(gateway, stand_ins, method, path, body):
    for node in stand_ins:
        node.behaviour = "reset"
    answer = call(gateway.port, method, path, body, {"X-Request-Id": "mine-3"})
    assert answer.status == 503, answer
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["requestId"] == "mine-3" and answer.json()["status"] == 503
    assert sum(len(node.seen) for node in stand_ins) == 1


def test_a_nodes_own_failure_goes_through(gateway, stand_ins):
    stand_ins[0].behaviour = "fail"
    answer = call(gateway.port, "GET", "/api/files")
    assert (answer.status, answer.body) == (500, b"a") and "retry-after" not in answer.headers


def test_a_node_that_hangs_is_left_out_and_comes_back(gateway, stand_ins):
    ports = [node.port for node in stand_ins]
    stand_ins[0].hang()
    gateway.wait_inside(ports[1:])
    # The old lighttpd takes connections until the new one is up.
    wait_for(lambda: call(gateway.port, "GET", "/api/files", timeout=2).status == 200,
             "the change is made", 10)
    begun = time.monotonic()
    assert "a" not in names(gateway, 20) + names(gateway, 10, "PUT")
    assert time.monotonic() - begun < 10
    stand_ins[0].recover()
    gateway.wait_inside(ports)
    wait_for(lambda: "a" in names(gateway, 1), "it gets requests again", 5)


def test_a_node_that_is_not_ready_is_left_out(gateway, stand_ins):
    ports = [node.port for node in stand_ins]
    stand_ins[1].behaviour = "unready"
    gateway.wait_inside([ports[0], ports[2]])
    stand_ins[1].recover()
    gateway.wait_inside(ports)


def test_a_change_of_nodes_cuts_nothing(gateway, stand_ins):
    """An upload and a download that began before go on after it, longer than STOP_GRACE_SECONDS
    would let them; new connections are taken all the while."""
    failures, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            answer = call(gateway.port, "GET", "/api/files")
            if answer.status != 200:
                failures.append(str(answer))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with RawConnection(gateway) as connection:
            head = raw_request("PUT", "/api/files/upload/x", [("Content-Length", "200000")])
            connection.send(head, b"x" * 100_000)
            hung = stand_ins[2]
            hung.behaviour = "unready"
            gateway.wait_inside([stand_ins[0].port, stand_ins[1].port])
            hung.recover()
            gateway.wait_inside([node.port for node in stand_ins])
            time.sleep(2)
            connection.send(b"x" * 100_000)
            assert connection.read().status == 200
    finally:
        stop.set()
        asking.join()
    assert not failures, failures[:3]


def test_the_health_program_of_the_gateway_comes_back(gateway):
    gateway.kill("health")
    wait_for(lambda: call(gateway.port, "GET", "/-/x").status == 404, "it is back", 10)
    keeper = int((gateway.runtime_dir / "errors.pid").read_text())
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: (gateway.runtime_dir / "errors.pid").read_text().strip() not in
             ("", str(keeper)), "its keeper is back", 10)
    wait_for(lambda: call(gateway.port, "GET", "/-/x").status == 404, "it is back", 10)


# ---- slow readers ----

def test_slow_readers_fill_no_spool(stand_ins):
    """What a node sends waits at the node while a client does not read."""
    content = os.urandom(40 * MIB)
    node = stand_ins[0]
    node.send = lambda handler, status, body, send=node.send: send(
        handler, status, content if handler.path == "/api/files/x" else body)
    for gateway in started([node.port], SPOOL_MAX_BYTES="512M"):
        readers = [RawConnection(gateway, receive_buffer=65536) for _ in range(2)]
        for reader in readers:
            reader.send(raw_request("GET", "/api/files/x"))
        time.sleep(3)
        assert spool_bytes(gateway) < 2 * 24 * MIB, "all of it went to the spool"
        for reader in readers:
            answer = reader.read()
            assert answer.complete and answer.body == content
            reader.close()


def spool_bytes(gateway):
    """Bytes on the gateway's spool, deleted files included."""
    pid = int((gateway.runtime_dir / "lighttpd.pid").read_text())
    stat = os.statvfs(f"/proc/{pid}/root{gateway.runtime_dir}/spool")
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


# ---- start and stop ----

def test_stop_lets_requests_end(gateway, stand_ins):
    answers = []
    for node in stand_ins:
        node.hang()
    thread = threading.Thread(
        target=lambda: answers.append(call(gateway.port, "GET", "/api/files")))
    thread.start()
    time.sleep(0.5)
    gateway.process.send_signal(signal.SIGINT)
    time.sleep(1)
    with pytest.raises(requests.ConnectionError):
        requests.get(gateway.url, timeout=5)
    for node in stand_ins:
        node.recover()
    thread.join()
    assert answers[0].status == 200, answers
    assert gateway.process.wait(timeout=20) == 0
    wait_for(lambda: not gateway.all_pids(), "nothing is left", 5)
    gateway.expect_unclean = True


def test_a_stop_during_a_change_of_nodes_does_not_wait(stand_ins):
    """A lighttpd that is just started anew is ended by the stop before it has told its old self."""
    took = []
    for number in range(8):
        for gateway in started([stand_ins[0].port]):
            os.kill(int((gateway.runtime_dir / "lighttpd.pid").read_text()), signal.SIGUSR1)
            time.sleep(number / 1000)
            began = time.monotonic()
            gateway.stop()
            took.append(time.monotonic() - began)
    assert max(took) < 10, took


def test_stop_does_not_wait_for_ever(stand_ins):
    for gateway in started([stand_ins[0].port], STOP_GRACE_SECONDS=2):
        stand_ins[0].hang()
        thread = threading.Thread(target=call, args=(gateway.port, "GET", "/api/files"))
        thread.start()
        time.sleep(0.5)
        begun = time.monotonic()
        gateway.stop()
        assert 1.5 < time.monotonic() - begun < 15
        thread.join()


def test_a_killed_launcher_leaves_nothing(gateway):
    gateway.expect_unclean = True
    gateway.all_pids()
    gateway.process.kill()
    wait_for(lambda: not gateway.pids("lighttpd"), "lighttpd ends", 40)
    wait_for(lambda: not gateway.all_pids(), "all end", 40)


def test_a_gateway_needs_no_store_and_passes_no_secret_on(stand_ins):
    secrets = {"S3_SECRET_KEY": "hunter2", "S3_ACCESS_KEY": "hunter3",
               "MONGODB_URI": "mongodb://hunter4"}
    for gateway in started([stand_ins[0].port], NODE_MODE="cluster", STORAGE_DRIVER="s3",
                           METADATA_DRIVER="mongodb", S3_ENDPOINT="http://127.0.0.1:1", **secrets):
        assert gateway.get("/api/files").status_code == 200
        for pid, (line, environment) in gateway.environments().items():
            if pid != gateway.process.pid:  # it was given them
                assert b"hunter" not in line + environment.replace(b"\0", b" ") or \
                    b"coffer-serve" in line, (pid, line)
        assert not (gateway.data_dir / "objects").exists()
