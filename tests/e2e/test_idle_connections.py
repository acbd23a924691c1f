"""How long the gateway keeps connections on which nothing happens."""

import time

import pytest

from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes
from service import running

pytestmark = pytest.mark.local("lighttpd's connections: no store has a part in it")


@pytest.fixture(scope="module")
def hasty():
    yield from running(AUTH_MODE="none", KEEP_ALIVE_SECONDS=2, WRITE_IDLE_SECONDS=2)


def test_an_idle_connection_stays_for_the_time_set(hasty):
    with RawConnection(hasty, timeout=20) as connection:
        connection.send(raw_request("GET", "/live"))
        assert connection.read().status == 200
        begun = time.monotonic()
        assert connection.ended()
        assert time.monotonic() - begun > 1.5


def test_idle_connections_outlive_those_of_proxies_by_default(service):
    """Proxies in front keep theirs for 60 s, most of them: see OPERATIONS.md."""
    said = service.coffer("config", "--shell").stdout
    assert "export KEEP_ALIVE_SECONDS='75'\n" in said
    assert "export WRITE_IDLE_SECONDS='60'\n" in said


def test_a_client_that_takes_nothing_is_left(hasty):
    made = hasty.create(random_bytes(24 * MIB, seed=19))
    with RawConnection(hasty, timeout=20, receive_buffer=4096) as connection:
        connection.send(raw_request("GET", f"/api/files/{made['id']}"))
        # As long as it takes bytes it is served, however slowly.
        begun = time.monotonic()
        while time.monotonic() - begun < 4:
            assert connection.socket.recv(4096)
            time.sleep(0.05)
        time.sleep(6)
        left = 0
        try:
            while chunk := connection.socket.recv(1 << 20):
                left += len(chunk)
        except ConnectionResetError:
            pass
        assert left < 20 * MIB
