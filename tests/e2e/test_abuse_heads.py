"""F34: thousands of connections that send a request head without an end, from one address and from
many. Others are served at once, and the heads have a deadline."""

import contextlib
import itertools
import resource
import socket
import time

import pytest

from exchanges import call
from nodes import Gateway, StandIn
from rawhttp import RawConnection, raw_request
from service import running, wait_for

COUNT = 4300 # more than MAX_CONNECTIONS
DEADLINE = 6
TRUSTED = "127.9.9.9"

pytestmark = pytest.mark.local("lighttpd's connections: no store has a part in it")


@pytest.fixture(scope="module")
def service():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(COUNT + 1000, limits[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, limits[0]), limits[1]))
    yield from running(AUTH_MODE="none", HEAD_DEADLINE_SECONDS=DEADLINE, TRUSTED_PROXIES=TRUSTED,
                       MAX_CONNECTIONS_PER_ADDRESS=500)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def open_heads(port, addresses, count):
    """Connections with a part of a head each."""
    made = []
    for address in itertools.islice(itertools.cycle(addresses), count):
        wire = socket.create_connection(("127.0.0.1", port), 30, (address, 0))
        wire.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nX-1: 1\r\n")
        made.append(wire)
    return made


def send_lines(wires):
    """A header line on each; what has ended takes none."""
    for wire in wires:
        with contextlib.suppress(OSError):
            wire.sendall(b"X-2: 2\r\n")


def has_ended(wire):
    wire.setblocking(False)
    try:
        return wire.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def check_live(port):
    begun = time.monotonic()
    assert call(port, "GET", "/live", timeout=10).status == 200
    assert time.monotonic() - begun < 1


ONE = ["127.0.0.1"]
MANY = [f"127.1.{high}.{low}" for high in range(8) for low in range(1, 200)]


@pytest.mark.parametrize("addresses", [ONE, MANY], ids=["one address", "many"])
def test_f34_heads_without_an_end(service, addresses):
    wires = open_heads(service.port, addresses, COUNT)
    try:
        begun = time.monotonic()
        while time.monotonic() - begun < 2:
            check_live(service.port)
            send_lines(wires[::10])
        # Header lines are no new beginning.
        while time.monotonic() - begun < DEADLINE + 2:
            send_lines(wires[::10])
            check_live(service.port)
            time.sleep(0.2)
        wait_for(lambda: all(has_ended(wire) for wire in wires), "all heads are ended", 20)
        check_live(service.port)
    finally:
        for wire in wires:
            wire.close()


def test_f34_one_address_has_so_many_and_a_listed_proxy_more(service):
    for address, kept in ((ONE[0], 500), (TRUSTED, 700)):
        wires = open_heads(service.port, [address], 700)
        try:
            wait_for(lambda: sum(not has_ended(wire) for wire in wires) == kept, f"{kept} stay", 5)
            # The oldest went.
            assert not any(has_ended(wire) for wire in wires[-kept:])
        finally:
            for wire in wires:
                wire.close()


def test_f34_what_waits_for_its_body_or_its_answer_is_no_head(service):
    """Longer than the deadline, on a connection that had a request before."""
    with RawConnection(service, timeout=30) as connection:
        for path, body in (("/api/files/upload/slow", b"x" * 40_000), ("/live", None)):
            if body is None:
                assert connection.send(raw_request("GET", path)).read().status == 200
                continue
            connection.send(raw_request("PUT", path, [("Content-Length", len(body)),
                                                      ("Expect", "100-continue")]))
            begun = time.monotonic()
            while time.monotonic() - begun < DEADLINE + 2:
                connection.send(body[:2000])
                body = body[2000:]
                time.sleep(0.5)
            connection.send(body)
            assert connection.read("PUT").status == 201
        # An idle connection has begun no head.
        time.sleep(DEADLINE + 1)
        assert connection.send(raw_request("GET", "/live")).read().status == 200


def test_f34_at_a_gateway_too_also_after_a_change_of_nodes():
    stand_ins = [StandIn("a"), StandIn("b")]
    gateway = Gateway([node.port for node in stand_ins], HEAD_DEADLINE_SECONDS=1)
    try:
        gateway.start()
        stand_ins[0].behaviour = "unready"
        gateway.wait_inside([stand_ins[1].port])
        wait_for(lambda: call(gateway.port, "GET", "/api/files", timeout=2).body == b"b",
                 "the change is made", 20)
        wires = open_heads(gateway.port, ONE, 10)
        wait_for(lambda: all(has_ended(wire) for wire in wires), "all heads are ended", 10)
        for wire in wires:
            wire.close()
    finally:
        gateway.close()
        for node in stand_ins:
            node.stop()
