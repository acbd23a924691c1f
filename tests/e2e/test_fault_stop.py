"""F6: SIGTERM to a program, idle, in the middle of a request, and a thousand times in a race with a
new connection. Programs run here without a gateway, on a listening socket of the test."""

import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

import fastcgi
from backends import rounds
from samples import random_bytes
from service import wait_for

pytestmark = pytest.mark.local("about the programs, whatever the stores")

PROGRAMS = ("files_upload", "files_get", "files_list", "files_delete", "files_update", "health",
            "metrics")


class Direct:
    """Programs started one after the other on one listening socket, which stays open between."""

    def __init__(self, service):
        self.service = service
        self.folder = tempfile.TemporaryDirectory(prefix="coffer-direct-")
        self.path = str(Path(self.folder.name) / "socket")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(256)
        self.running = []

    def start(self, program, **env):
        env = {**self.service.env, "UPLOAD_WORKERS": "8", "DOWNLOAD_WORKERS": "8", "WORKERS": "8",
               "STOP_GRACE_SECONDS": "5", **env}
        process = subprocess.Popen([str(self.service.binaries / program)], env=env,
                                   stdin=self.listener, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, cwd=self.service.folder)
        self.running.append(process)
        return process

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.listener.close()
        self.folder.cleanup()


@pytest.fixture
def direct(service):
    programs = Direct(service)
    yield programs
    programs.close()


def ask(path, env=None, body=b""):
    with fastcgi.connect(path, timeout=20) as connection:
        fastcgi.send_request(connection, env or fastcgi.variables("GET", "/live"), body)
        return fastcgi.read_answer(connection)


def terminate(process, within):
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=within + 10)
    assert code == 0, f"exit {code}: {process.stderr.read()}"
    assert time.monotonic() - started < within


@pytest.mark.parametrize("program", PROGRAMS)
def test_f6_idle_program_stops_at_once(direct, program):
    process = direct.start(program)
    path = {"health": "/live", "metrics": "/api/metrics"}.get(program, "/api/files")
    assert ask(direct.path, fastcgi.variables("GET", path)).complete
    terminate(process, within=2)


def test_f6_with_all_its_workers(direct):
    process = direct.start("files_upload", UPLOAD_WORKERS="512")
    assert ask(direct.path, fastcgi.variables("GET", "/api/files")).complete
    terminate(process, within=3)


@pytest.mark.smoke
def test_f6_request_in_flight_is_finished(direct):
    process = direct.start("files_upload")
    content = random_bytes(500_000, seed=6)
    env = fastcgi.variables("PUT", "/api/files/upload/f6.bin", CONTENT_LENGTH=str(len(content)),
                            HTTP_CONTENT_LENGTH=str(len(content)))
    with fastcgi.connect(direct.path) as connection:
        connection.sendall(fastcgi.begin() + fastcgi.params(env) +
                           fastcgi.send_body(content[:100_000], last=False))
        assert ask(direct.path, fastcgi.variables("GET", "/api/files")).complete
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None, "left with a request in flight"
        connection.sendall(fastcgi.send_body(content[100_000:]))
        answer = fastcgi.read_answer(connection)
    assert answer.complete and answer.status == 201
    assert process.wait(5) == 0


def test_f6_client_that_never_ends_does_not_hold_the_stop(direct):
    process = direct.start("files_upload", STOP_GRACE_SECONDS="2")
    env = fastcgi.variables("PUT", "/api/files/upload/f6.bin", CONTENT_LENGTH="1000000",
                            HTTP_CONTENT_LENGTH="1000000")
    with fastcgi.connect(direct.path, timeout=20) as connection:
        connection.sendall(fastcgi.begin() + fastcgi.params(env) +
                           fastcgi.send_body(b"x" * 1000, last=False))
        assert ask(direct.path, fastcgi.variables("GET", "/api/files")).complete
        terminate(process, within=8)
        fastcgi.read_answer(connection)


def test_f6_connection_without_a_request_does_not_hold_the_stop(direct):
    process = direct.start("health", STOP_GRACE_SECONDS="2")
    with fastcgi.connect(direct.path):
        assert ask(direct.path).complete
        terminate(process, within=8)


def test_f6_many_stops_racing_accept(direct):
    """Every request is answered whole, by this program or the next one; every stop is clean."""
    rng = random.Random(6)
    unanswered, wrong = [], []
    stop = threading.Event()

    def client():
        while not stop.is_set():
            answer = ask(direct.path)
            if not answer.complete or answer.status != 200:
                unanswered.append(answer)
            time.sleep(0.002)

    clients = [threading.Thread(target=client) for _ in range(3)]
    process = direct.start("health")
    for thread in clients:
        thread.start()
    try:
        for _ in range(rounds(200, 1000)):
            following = None
            wait_until_serving(process)
            time.sleep(rng.uniform(0, 0.004))
            process.send_signal(signal.SIGTERM)
            following = direct.start("health")
            code = process.wait(timeout=10)
            if code != 0:
                wrong.append((code, process.stderr.read()))
            process.stderr.close()
            direct.running.remove(process)
            process = following
    finally:
        stop.set()
        for thread in clients:
            thread.join(30)
    assert not wrong, f"{len(wrong)} stops: {wrong[:3]}"
    assert not unanswered, f"{len(unanswered)} requests: {unanswered[:3]}"


def wait_until_serving(process):
    """Until the program handles SIGTERM: from there on a stop is its own affair."""
    def handled():
        assert process.poll() is None, process.stderr.read()
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1
    wait_for(handled, "the program handles SIGTERM", 10, 0.001)


def test_f6_hangup_reopens_the_log(direct, tmp_path):
    log = tmp_path / "log"
    process = direct.start("health", LOG_FILE=str(log))
    assert ask(direct.path).complete
    wait_for(lambda: b"/live" in log.read_bytes(), "the request is logged")
    os.rename(log, tmp_path / "log.1")
    process.send_signal(signal.SIGHUP)
    wait_for(log.exists, "the log is made anew")
    assert ask(direct.path).complete
    wait_for(lambda: b"/live" in log.read_bytes(), "the next request is in it")
    terminate(process, within=2)
