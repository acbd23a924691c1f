"""`coffer-serve nodes`: a gateway and real nodes on one machine. What is asked of them here hangs on
no store, so they share a folder."""

import signal
import threading
import time

import pytest

from exchanges import call
from history import RECOVERY_SECONDS
from nodes import NodeSet, SetLoad, StandIn
from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes
from service import proc_name, wait_for


@pytest.fixture
def start_set():
    made = []

    def start(count=3, **env):
        made.append(NodeSet(count, **env))
        return made[-1].start()

    yield start
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def calm():
    nodes = NodeSet(3)
    try:
        yield nodes.start()
    finally:
        nodes.close()


def test_what_one_node_took_every_node_gives(calm):
    content = random_bytes(3 * MIB, seed=4)
    made = calm.create(content, "a.bin")
    assert len(calm.nodes()) == 3
    for name in calm.nodes():
        port = int(name.removeprefix("node-"))
        answer = call(port, "GET", f"/api/files/{made['id']}")
        assert answer.status == 200 and answer.body == content
    part = calm.get(f"/api/files/{made['id']}", headers={"Range": "bytes=5-9"})
    assert part.status_code == 206 and part.content == content[5:10]


@pytest.mark.parametrize("way", ["form", "put", "pipe"])
def test_uploads_of_each_way(calm, way):
    content = random_bytes(2 * MIB, seed=5)
    if way == "form":
        answer = calm.upload(content, "x")
    elif way == "put":
        answer = calm.put("/api/files/upload/x", data=content)
    else:
        answer = calm.put("/api/files/pipe/x", data=iter([content[:100], content[100:]]))
    assert answer.status_code == 201, answer.text
    assert calm.get(f"/api/files/{answer.json()['id']}").content == content


def test_names_keep_their_own_characters(calm):
    """As on one machine: the name ends at the last slash that was sent, not at an escaped one."""
    ports = (calm.port, port_of(calm.nodes()[0]))
    through, straight = (call(port, "PUT", "/api/files/upload/a%2Fb", b"x") for port in ports)
    assert (through.status, through.json()["code"]) == (400, "bad_name"), through
    assert straight.status == 400, straight
    assert call(calm.port, "GET", "/api/files/%00").status == 400


def test_early_answers_reach_the_client(start_set):
    """401 before the body has come."""
    service = start_set(2, AUTH_MODE="token")
    with RawConnection(service) as connection:
        connection.send(raw_request("PUT", "/api/files/upload/x", [("Content-Length", "20000000")]),
                        b"x" * 1000)
        answer = connection.read()
    assert answer.status == 401 and answer.header("content-type") == "application/problem+json"


def test_the_clients_address_is_in_the_nodes_logs(calm):
    with RawConnection(calm) as connection:
        headers = [("X-Forwarded-For", "8.8.8.8"), ("X-Request-Id", "addressed-1")]
        # Without login, what a proxy outside TRUSTED_PROXIES forwarded is refused.
        assert connection.send(raw_request("GET", "/api/files", headers)).read().status == 403
    # The gateway's, its node's lighttpd's, and the program's.
    lines = lines_about(calm, "addressed-1", 3)
    assert all('"client.ip":"127.0.0.1"' in line for line in lines), lines


def lines_about(service, request_id, count):
    def found():
        return [line for text in service.logs().values() for line in text.splitlines()
                if f'"{request_id}"' in line]

    wait_for(lambda: len(found()) >= count, f"{count} lines about {request_id}")
    assert len(found()) == count, found()
    return found()


def test_only_a_listed_proxy_is_believed(start_set):
    """Straight to a node: from its gateway's address the client is who it says, and of what came
    on the way only the last that is no proxy."""
    service = start_set(1, TRUSTED_PROXIES="10.9.9.9")
    rows = [("8.8.8.8", 200), ("6.6.6.6, 8.8.8.8", 403), ("8.8.8.8, 10.9.9.9", 200),
            ("8.8.8.8, 127.0.0.1, 10.9.9.9", 200)]
    port = int(service.nodes()[0].removeprefix("node-"))
    for number, (said, status) in enumerate(rows):
        headers = {"X-Forwarded-For": said, "X-Request-Id": f"row-{number}"}
        assert call(port, "GET", "/api/files", headers=headers).status == status
    for number, (said, _) in enumerate(rows):
        for line in lines_about(service, f"row-{number}", 2):
            assert '"client.ip":"8.8.8.8"' in line, (said, line)


def test_nodes_log_to_files_of_their_own(calm):
    calm.create(b"x")
    names = {name for name, text in calm.logs().items() if "coffer-" in text}
    assert names == {f"log-{name}" for name in calm.nodes()} | {"log-gateway"}


def test_ports_in_use_are_passed_over(start_set):
    taken = StandIn()
    service = start_set(2, NODE_PORT=taken.port)
    assert f"node-{taken.port}" not in service.nodes() and len(service.nodes()) == 2
    taken.stop()


# ---- one of three breaks ----

def test_kill_of_one_of_three_under_load_loses_nothing(start_set):
    service = start_set(3)
    load = SetLoad(service, clients=8, seed=11)
    victim = service.nodes()[0]
    with load:
        load.wait_for(20)
        for _ in range(3):
            service.signal_node(victim, signal.SIGKILL)
            # Clients that retry get through meanwhile.
            load.wait_for(10)
            wait_for(lambda: call(port_of(victim), "GET", "/ready").status == 200,
                     "it is started again", 30)
            wait_for(lambda: asked(service, victim), "it gets requests again", 20)
    load.check()


def port_of(name):
    return int(name.removeprefix("node-"))


def asked(service, name, seen={}):
    """Whether a node's log has grown since the last call."""
    size = service.log_file.with_name(f"{service.log_file.name}-{name}").stat().st_size
    before, seen[service, name] = seen.get((service, name)), size
    return before is not None and size > before


def test_a_hung_node_is_left_out(start_set):
    service = start_set(3)
    victim = service.nodes()[0]
    nodes_file = service.runtime_dir / "gateway" / "nodes.conf"
    service.hang_node(victim)
    try:
        wait_for(lambda: str(port_of(victim)) not in nodes_file.read_text(), "it is left out", 20)
        wait_for(lambda: call(service.port, "GET", "/live", timeout=3).status == 200, "answers", 5)
        slowest = 0.0
        for number in range(30):
            begun = time.monotonic()
            assert call(service.port, "PUT", f"/api/files/upload/{number}", b"x").status == 201
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest < 5
    finally:
        service.wake_node(victim)
    wait_for(lambda: str(port_of(victim)) in nodes_file.read_text(), "it is taken back", 20)


def test_a_killed_gateway_is_started_again(start_set):
    service = start_set(2)
    service.signal_node("gateway", signal.SIGKILL)
    wait_for(lambda: call(service.port, "GET", "/ready").status == 200, "it is back",
             RECOVERY_SECONDS + 10)
    assert "gateway ended and is started again" in service.output()


# ---- the end ----

def test_stop_ends_the_gateway_first_and_lets_requests_end(start_set):
    service = start_set(2, BODY_IDLE_SECONDS=20)
    answers = []
    with RawConnection(service) as connection:
        connection.send(raw_request("PUT", "/api/files/upload/x", [("Content-Length", "2000")]),
                        b"x" * 1000)
        time.sleep(0.5)
        thread = threading.Thread(target=service.stop)
        thread.start()
        wait_for(lambda: call(service.port, "GET", "/live", timeout=2).status is None,
                 "no new requests", 5)
        assert [proc_name(pid) for pid in service.all_pids()].count("files_upload") == 2
        connection.send(b"x" * 1000)
        answers.append(connection.read())
        thread.join()
    assert answers[0].status == 201
    assert not service.all_pids()


def test_a_killed_supervisor_leaves_nothing(start_set):
    service = start_set(2)
    service.expect_unclean = True
    service.all_pids()
    service.process.kill()
    wait_for(lambda: not service.all_pids(), "all end", 40)


def test_a_node_that_never_starts_ends_the_set(tmp_path):
    service = NodeSet(2, MAX_CONNECTIONS=16, COFFER_BIN=tmp_path)
    service.expect_unclean = True
    try:
        service.launch()
        assert service.process.wait(timeout=30) == 1
        wait_for(lambda: not service.all_pids(), "nothing is left", 5)
    finally:
        service.close()
