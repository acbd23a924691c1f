"""Slow and hostile clients, rows 53, 76 and 77: tests named by their row."""

import os
import re
import socket
import stat
import time

import pytest

import fastcgi
from framing import Prober, check_raw_problem, upload_head
from rawhttp import RawConnection, exchange, raw_request
from samples import random_bytes, unique
from service import proc_stat, wait_for

pytestmark = pytest.mark.local("about what lighttpd and the programs take for a request")


# ---- row 53 ----

def test_row_53_slow_headers(impatient):
    head = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    with Prober(impatient) as prober:
        lazy = [RawConnection(impatient, timeout=60) for _ in range(50)]
        for connection in lazy:
            connection.send(head)
        answers = [connection.read() for connection in lazy]
        for connection in lazy:
            connection.close()
    assert all(answer.closed and answer.status in (0, 408) for answer in answers)
    prober.verify()


def test_row_53_headers_without_end(impatient):
    """Never idle, never done: the size of a head ends it."""
    with Prober(impatient) as prober, RawConnection(impatient, timeout=10) as connection:
        connection.send(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(200):
            if not connection.send_as_taken(b"X-%06d: %s\r\n" % (number, b"a" * 50)):
                break
            time.sleep(0.005)
        assert connection.read().status == 431
        assert connection.ended()
    prober.verify()


def send_slowly(connection, seconds):
    """A few bytes at a time until the server answers or closes; false when it does neither."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not connection.send_as_taken(b"x" * 20):
            return True
        try:
            if not connection._more() or b"\r\n\r\n" in connection.pending:
                return True
        except TimeoutError:
            pass
    return False


@pytest.mark.smoke
def test_row_53_slow_body(impatient):
    """Slower than the minimum rate, though never silent."""
    before = impatient.state()
    with Prober(impatient) as prober, RawConnection(impatient, timeout=0.2) as connection:
        connection.send(upload_head("slow", 1_000_000))
        assert send_slowly(connection, 30), "100 bytes a second are never ended"
        if connection.pending:
            connection.socket.settimeout(5)
            check_raw_problem(connection.read("PUT"), 408, "request_timeout")
    wait_for(lambda: impatient.state()[:2] == (before[0] + 1, before[1] + 1), "nothing stored")
    prober.verify()


def test_row_53_silent_body_of_the_pipe_route(impatient):
    """The gateway spools it: silence ends it there."""
    before = impatient.state()
    with Prober(impatient) as prober, RawConnection(impatient, timeout=40) as connection:
        connection.send(raw_request("PUT", "/api/files/pipe/slow", [("Content-Length", 1_000_000)]),
                        b"x" * 20)
        assert connection.read("PUT").status in (0, 408)
        assert connection.ended()
    wait_for(lambda: impatient.state()[:2] == (before[0] + 1, before[1] + 1), "nothing stored")
    prober.verify()


@pytest.mark.smoke
def test_row_53_slow_reader(impatient):
    content = random_bytes(20_000_000, seed=54)
    made = impatient.create(content)
    with Prober(impatient) as prober:
        lazy = [RawConnection(impatient, timeout=30, receive_buffer=4096) for _ in range(20)]
        for connection in lazy:
            connection.send(raw_request("GET", f"/api/files/{made['id']}"))
        wait_for(lambda: prober.count > 30, "normal requests go on", 20)
        for connection in lazy:
            connection.reset()
    prober.verify()


# ---- row 76 ----

INJECTION = "\n{\"level\":\"error\",\"message\":\"forged\"}\x1b[31m"


def test_row_76_log_lines_cannot_be_forged(service):
    marker = unique("row76")
    heads = [
        [("User-Agent", f"{marker}\x1b[31m{{\"level\":\"error\"}}")],
        [("X-Request-Id", f"{marker}\",\"level\":\"forged")],
        [("X-Request-Id", "a" * 65)],
        [("traceparent", f"00-{marker}-zz-01")],
        [("Referer", f"{marker}\x1b]0;title\x07")],
    ]
    for headers in heads:
        response = exchange(service, raw_request("GET", f"/api/files?prefix={marker}", headers))
        # Control characters in a header are the gateway's to refuse.
        assert response.status in (200, 400)
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", response.header("x-request-id"))
        assert marker not in response.header("x-request-id")
    service.upload(b"x", f"{marker}{INJECTION}".replace("\n", "%0A"))
    exchange(service, raw_request("PUT", f"/api/files/upload/{marker}%0A%7B%22level%22%3A%22error"
                                         "%22%7D%1B%5B31m", body=b"x"))
    raw = service.log_file.read_bytes()
    assert b"\x1b" not in raw
    lines = service.log_lines()
    assert all(isinstance(line, dict) and "event.id" in line for line in lines)
    assert not [line for line in lines if line.get("message") == "forged"]


@pytest.mark.parametrize("value, taken", [("a", True), ("A-z_0.9", True), ("a" * 64, True),
                                          ("a" * 65, False), ("a b", False), ("a\"b", False),
                                          ("", False), ("é", False), ("a/b", False)])
def test_row_76_request_ids(service, value, taken):
    response = exchange(service, raw_request("GET", "/live",
                                             [("X-Request-Id", value.encode())]))
    answer = response.header("x-request-id")
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer)
    assert (answer == value) == taken


# ---- row 77 ----

def hostile_streams():
    """Byte streams that no gateway sends."""
    pair = b"\xff\xff\xff\xff\x7f\xff\xff\xff"  # CVE-2025-23016: name and value lengths
    begin = fastcgi.begin()
    yield begin + fastcgi.record(fastcgi.PARAMS, pair + b"A" * 64) + fastcgi.record(fastcgi.PARAMS)
    yield begin + fastcgi.record(fastcgi.PARAMS, b"\x80\x00\x00\x00\x7f") + b"\0" * 8
    yield begin + fastcgi.record(fastcgi.PARAMS, b"\xff\xff\xff\xfa\xff\xff\xff\xfb" + b"A" * 32)
    yield fastcgi.record(fastcgi.BEGIN_REQUEST, b"\0\1\0\0\0\0\0\0", version=9)
    yield fastcgi.begin(role=99)
    yield fastcgi.begin(role=2) + fastcgi.params(fastcgi.variables("GET", "/live"))
    yield begin + fastcgi.record(fastcgi.PARAMS, b"A" * 10, length=65535)
    yield begin + fastcgi.record(fastcgi.STDIN, b"data before params") * 5
    yield begin * 50
    yield fastcgi.record(200, b"unknown kind") * 10
    yield begin + fastcgi.params({"CONTENT_LENGTH": "99999999999999999999"})
    yield begin + fastcgi.params({}) + fastcgi.record(fastcgi.STDIN)
    yield begin + fastcgi.params({f"HTTP_H{n}": "v" for n in range(3000)})
    yield begin + fastcgi.params(fastcgi.variables("GET", "/live", HTTP_X_LONG="a" * 60000))
    yield b""
    for seed in range(40):
        noise = random_bytes(1 + seed * 97, seed=seed)
        yield noise
        yield begin + noise


def program_sockets(service):
    return sorted(p for p in (service.runtime_dir / "sockets").rglob("*")
                  if stat.S_ISSOCK(p.stat().st_mode))


def test_row_77_programs_survive_hostile_bytes(service):
    sockets = program_sockets(service)
    assert len(sockets) >= 7, sockets
    before = {pid: proc_stat(pid)[3] for pid in service.all_pids()}
    for path in sockets:
        for stream in hostile_streams():
            with fastcgi.connect(str(path)) as connection:
                try:
                    connection.sendall(stream)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
    after = {pid: (proc_stat(pid) or (0, 0, 0, 0))[3] for pid in before}
    assert after == before, "a process died of it"
    made = service.create()
    assert service.get(f"/api/files/{made['id']}").status_code == 200


def test_row_77_sockets_are_private(service):
    for path in program_sockets(service):
        assert path.stat().st_mode & 0o007 == 0, f"{path} is open to the world"
        folder = path.parent.stat()
        assert folder.st_mode & 0o077 == 0 and folder.st_uid == os.geteuid()


def listening_tcp_ports(pids):
    inodes = set()
    for pid in pids:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as lines:
            for fields in (line.split() for line in list(lines)[1:]):
                if fields[3] == "0A" and fields[9] in inodes:
                    ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


def test_row_77_only_the_gateway_listens_on_tcp(service):
    assert listening_tcp_ports(service.all_pids()) == {service.port}
