"""F17, F25: a log that nobody takes fails no request, holds none, and is told of afterwards."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from problems import check_problem
from samples import TEXT, UNKNOWN_ID
from service import wait_for

pytestmark = pytest.mark.local("the log has nothing to do with the store")

REQUESTS = 300     # of each kind: more than a pipe, a socket and the smallest queue hold
SLOWEST = 2.0      # seconds; waiting for the sink would take for ever

RECEIVER = """
import socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
with open(sys.argv[2], "ab", buffering=0) as file:
    while True:
        file.write(receiver.recv(65536))
"""


def use(service):
    """Every program answers as ever, and at once; returns the request ids."""
    asked = []
    slowest = 0.0
    for n in range(REQUESTS):
        name = f"sink-{n}"
        for path, status in (("/live", 200), ("/api/files?limit=1", 200),
                             (f"/api/files/{UNKNOWN_ID}", 404)):
            begun = time.monotonic()
            answer = service.get(path, headers={"X-Request-Id": name})
            slowest = max(slowest, time.monotonic() - begun)
            assert answer.status_code == status
            if status == 404:
                check_problem(answer, 404, "not_found")
        asked.append(name)
    file = service.create(TEXT)
    assert service.get(f"/api/files/{file['id']}").content == TEXT
    assert service.delete(f"/api/files/{file['id']}").status_code == 200
    assert slowest < SLOWEST
    return asked


def parsed(text):
    """The programs' lines; the gateway's has a queue, and a metric, of its own."""
    lines = [json.loads(line) for line in text.split(b"\n")[:-1]]
    return [line for line in lines if line["service"] != "coffer-gateway"]


def told(lines):
    return sum(line.get("coffer.log.dropped", 0) for line in lines)


def check_lines(lines, asked, dropped):
    """What was kept is there once; what was not is told by number."""
    ids = [line["event.id"] for line in lines]
    assert len(ids) == len(set(ids))
    assert told(lines) == dropped
    wanted = 3 * len(asked)
    found = [line for line in lines if line.get("http.request.id") in asked]
    assert wanted - dropped <= len(found) < wanted
    for line in lines:
        if "coffer.log.dropped" in line:
            assert line["message"] == "log lines were dropped" and line["level"] == "warn"


@pytest.fixture
def start(start_service):
    def begin(target, queue="64K"):
        service = start_service(LOG_FILE=str(target), LOG_QUEUE_BYTES=queue)
        service.expect_5xx = True # its log is none to look at
        return service

    return begin


def test_f25_a_fifo_that_nobody_reads(start, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    service = start(fifo)
    asked = use(service)
    dropped = wait_for(lambda: service.metric("log_lines_dropped_total"), "the loss is counted")
    pieces = []
    reading = threading.Event()

    def read():
        with open(fifo, "rb", buffering=0) as file:
            reading.set()
            while piece := file.read(65536):
                pieces.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(5)

    def lines():
        return parsed(b"".join(pieces))

    wait_for(lambda: told(lines()) >= dropped, "the loss is told", 10)
    # Now that lines are read, none is lost.
    dropped = service.metric("log_lines_dropped_total")
    for _ in range(50):
        assert service.get("/live", headers={"X-Request-Id": "afterwards"}).status_code == 200
    wait_for(lambda: len([line for line in lines()
                          if line.get("http.request.id") == "afterwards"]) == 50, "all written", 5)
    assert service.metric("log_lines_dropped_total") == dropped
    service.stop() # the last writer: the reader sees the end
    reader.join(10)
    assert not reader.is_alive()
    check_lines(lines(), asked, dropped)


def test_f25_a_datagram_socket_whose_reader_is_stopped(start, tmp_path):
    target, taken = tmp_path / "socket", tmp_path / "taken"
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVER, str(target), str(taken)])
    try:
        wait_for(target.exists, "the socket", 5)
        service = start(f"unix:{target}")
        receiver.send_signal(signal.SIGSTOP)
        asked = use(service)
        wait_for(lambda: service.metric("log_lines_dropped_total"), "the loss is counted")
        receiver.send_signal(signal.SIGCONT)

        def lines():
            return parsed(taken.read_bytes())

        wait_for(lambda: told(lines()) == service.metric("log_lines_dropped_total"),
                 "the loss is told", 10)
        dropped = service.metric("log_lines_dropped_total")
        service.stop()
        wait_for(lambda: any(line["message"] == "stopped" for line in lines()), "the last line", 5)
        check_lines(lines(), asked, dropped)
    finally:
        receiver.kill()
        receiver.wait()


def test_f25_a_datagram_socket_whose_reader_is_started_again(start, tmp_path):
    target, taken = tmp_path / "socket", tmp_path / "taken"
    command = [sys.executable, "-c", RECEIVER, str(target), str(taken)]
    receiver = subprocess.Popen(command)
    try:
        wait_for(target.exists, "the socket", 5)
        service = start(f"unix:{target}", queue="4M") # lighttpd may need seconds to start a program
        receiver.kill()
        receiver.wait()
        service.kill("metrics")
        wait_for(lambda: service.get("/api/metrics").status_code == 200,
                 "a program starts without a reader", 10)
        for _ in range(20):
            assert service.get("/live", headers={"X-Request-Id": "meanwhile"}).status_code == 200
        target.unlink()
        receiver = subprocess.Popen(command)

        def kept():
            return [line for line in parsed(taken.read_bytes())
                    if line.get("http.request.id") == "meanwhile"]

        wait_for(lambda: len(kept()) == 20, "none is lost", 10)
        assert service.metric("log_lines_dropped_total") == 0
        service.stop()
    finally:
        receiver.kill()
        receiver.wait()
