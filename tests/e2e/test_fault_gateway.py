"""F3, F5, F7, F8: programs that die, abort, hang or are told to stop, and the gateway itself."""

import contextlib
import hashlib
import os
import signal
import threading
import time

import pytest

from background import Background
from exchanges import call, problem_fault
from history import RECOVERY_SECONDS, Load, kill_now
from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes
from service import proc_stat, wait_for

pytestmark = pytest.mark.local("about lighttpd and the programs, whatever the stores")

# One call of each program, by which it is seen to work.
CALLS = {
    "files_upload": ("PUT", "/api/files/upload/probe"),
    "files_get": ("GET", "/api/files/{id}/meta"),
    "files_list": ("GET", "/api/files?limit=1"),
    "files_delete": ("DELETE", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77"),
    "files_update": ("PATCH", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77"),
    "health": ("GET", "/live"),
    "metrics": ("GET", "/api/metrics"),
}
GOOD = {"files_upload": 201, "files_delete": 404, "files_update": 404}


class Callers(Background):
    """Calls every program but one again and again; remembers what failed and the slowest."""

    def __init__(self, service, without):
        super().__init__()
        self.port = service.port
        made = service.create()
        self.calls = {name: (method, path.format(id=made["id"]))
                      for name, (method, path) in CALLS.items() if name != without}
        self.failures = []
        self.slowest = 0.0
        self.count = 0

    def step(self):
        for name in self.calls:
            started = time.monotonic()
            answer = call_program(self.port, name, self.calls[name])
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.count += 1
            if answer.status != GOOD.get(name, 200):
                self.failures.append(str(answer))


def call_program(port, name, request, timeout=30):
    method, path = request
    body, headers = None, {}
    if name == "files_upload":
        body = b"probe"
    if name == "files_update":
        body, headers = b"{}", {"Content-Type": "application/merge-patch+json"}
    return call(port, method, path, body, headers, timeout)


# ---- F3 ----

def test_f3_download_while_its_program_is_killed(start_service):
    service = start_service()
    content = random_bytes(30 * MIB, seed=3)
    made = service.create(content)
    for _ in range(3):
        with RawConnection(service, receive_buffer=65536) as connection:
            connection.send(raw_request("GET", f"/api/files/{made['id']}"))
            wait_for(lambda: connection._more() and len(connection.pending) > MIB, "first bytes")
            service.kill("files_get")
            answer = connection.read()
        assert answer.status == 200 and answer.header("content-length") == str(len(content))
        # Whole and right, or visibly cut: never a shorter success.
        assert answer.complete or answer.closed
        if answer.complete:
            assert hashlib.sha256(answer.body).hexdigest() == made["sha256"]
        wait_for(lambda: call(service.port, "GET", f"/api/files/{made['id']}").status == 200,
                 "downloads are back", RECOVERY_SECONDS)
    service.expect_5xx = True


@pytest.mark.smoke
def test_f3_downloads_under_repeated_kills(start_service):
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=6, seed=3, sizes=(1_500_000, 5_000_000), pause=0.05)
    with load:
        load.wait_for(5)
        for _ in range(8):
            killed = kill_now(service, "files_get")
            wait_for(lambda: set(service.pids("files_get")) - set(killed), "respawned", 5)
            time.sleep(0.2)
    load.check()


# ---- F5 ----

@pytest.mark.parametrize("program", ["files_list", "files_upload", "health"])
def test_f5_abort_loop_of_one_program(start_service, program):
    service = start_service()
    service.expect_5xx = True
    aborted = set()
    bare = program == "health"
    request = CALLS[program][0], CALLS[program][1]
    with Callers(service, program) as others:
        started = time.monotonic()
        # Five seconds, and until it has come back at least twice.
        while time.monotonic() < started + 5 or (
                len(aborted) < 3 and time.monotonic() < started + 20):
            for pid in service.pids(program):
                os.kill(pid, signal.SIGABRT)
                aborted.add(pid)
            answer = call_program(service.port, program, request)
            if answer.status is not None and answer.status >= 500:
                fault = problem_fault(answer, bare)
                assert fault is None, f"{answer} {fault}"
            time.sleep(0.02)
    assert len(aborted) >= 3, f"started again {len(aborted) - 1} times in 20 s"
    assert not others.failures, others.failures[:3]
    assert others.count > 50
    wait_for(lambda: call_program(service.port, program, request).status == GOOD.get(program, 200),
             f"{program} is back", 5)


class Lister(Background):
    """Lists files without a pause."""

    pause = 0

    def __init__(self, service):
        super().__init__()
        self.port = service.port

    def step(self):
        call_program(self.port, "files_list", CALLS["files_list"])


@pytest.mark.local("about lighttpd and a program, whatever the stores")
def test_f5_a_program_that_dies_under_load_is_back_soon(start_service):
    """Also when a request meets its end before lighttpd is told of it."""
    service = start_service()
    service.expect_5xx = True
    away = []
    with contextlib.ExitStack() as listers:
        for _ in range(6):
            listers.enter_context(Lister(service))
        for number in range(12):
            time.sleep(1.2 + number / 12) # at any time within one of lighttpd's seconds
            began = last = time.monotonic()
            service.kill("files_list")
            while time.monotonic() < max(began + 0.4, last + 0.1):
                if call_program(service.port, "files_list", CALLS["files_list"]).status != 200:
                    last = time.monotonic()
            away.append(last - began)
    assert max(away) < 2.4, sorted(away)


# ---- F7 ----

def lighttpd(service):
    """The gateway's own process: workers and pipes of the same name have it for a parent."""
    found = service.pids("lighttpd")
    roots = [pid for pid in found if proc_stat(pid)[1] not in found]
    assert len(roots) == 1, f"gateways: {roots}"
    return roots[0]


def unknown(load):
    """How many requests of a load got no whole answer, or a failure."""
    return sum(count for status, count in load.statuses.items() if status is None or status >= 500)


def test_f7_int_drains(start_service):
    """SIGINT to the whole service: what had begun is answered, nothing acknowledged is lost."""
    service = start_service()
    load = Load(service, clients=8, seed=7)
    content = random_bytes(2 * MIB, seed=7)
    with load:
        load.wait_for(10)
        with RawConnection(service) as slow:
            slow.send(raw_request("PUT", "/api/files/upload/slow",
                                  [("Content-Length", len(content))]), content[:MIB])
            wait_for(lambda: service.metric("http_requests_in_flight") >= 1, "upload has begun")
            service.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            slow.send(content[MIB:])
            answer = slow.read("PUT")
            assert answer.status == 201, f"a request in flight was dropped: {answer}"
        assert service.process.wait(40) == 0
        wait_for(lambda: not service.all_pids(), "everything has left", 10)
    # Once it listens no more, connections are refused: no 5xx was ever sent.
    assert not [status for status in load.statuses if status is not None and status >= 500]
    service.start()
    load.other_names.add("slow")
    load.check()


@pytest.mark.smoke
def test_f7_usr1_restarts_without_loss(start_service):
    """SIGUSR1 to lighttpd: a graceful restart under load."""
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=8, seed=8, bare=True)
    with load:
        for _ in range(3):
            load.wait_for(10)
            os.kill(lighttpd(service), signal.SIGUSR1)
            load.recover()
    load.check()


def test_f7_term_loses_only_the_unacknowledged(start_service):
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=8, seed=9, bare=True)
    with load:
        load.wait_for(10)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(40) == 0
        wait_for(lambda: not service.all_pids(), "everything has left", 10)
    service.start()
    load.check()


def test_f7_kill_of_the_gateway(start_service):
    """kill -9 of lighttpd alone: back by itself, or the service ends and starts again cleanly."""
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=8, seed=10, bare=True)
    with load:
        load.wait_for(10)
        os.kill(lighttpd(service), signal.SIGKILL)
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline and service.process.poll() is None:
            if call(service.port, "GET", "/ready", timeout=2).status == 200:
                break
            time.sleep(0.1)
        if service.process.poll() is not None:
            wait_for(lambda: not service.all_pids(), "no program outlives the gateway", 10)
            service.start()
        load.recover()
        load.wait_for(10)
    load.check()


def test_f7_restart_under_load(start_service):
    service = start_service()
    load = Load(service, clients=8, seed=11)
    with load:
        for _ in range(2):
            load.wait_for(10)
            service.restart()
    assert not [status for status in load.statuses if status is not None and status >= 500]
    load.check()


# ---- F8 ----

@pytest.mark.parametrize("program", ["files_list", "files_upload"])
def test_f8_all_workers_hang(start_service, program):
    """SIGSTOP: lighttpd never kills them; callers are told within the timeout, others go on."""
    service = start_service(REQUEST_DEADLINE_SECONDS=3, BODY_IDLE_SECONDS=5)
    service.expect_5xx = True
    others = Callers(service, program)
    stopped = service.kill(program, signal.SIGSTOP)
    answers = []

    def ask():
        answers.append(call_program(service.port, program, CALLS[program], timeout=60))

    try:
        with others:
            started = time.monotonic()
            callers = [threading.Thread(target=ask) for _ in range(30)]
            for caller in callers:
                caller.start()
            if program == "files_upload":
                # No read timeout there: a live upload may take long. They are served later.
                time.sleep(4)
            else:
                for caller in callers:
                    caller.join(40)
                assert time.monotonic() - started < 35, "callers wait without end"
                for answer in answers:
                    assert answer.status in (503, 504), str(answer)
                    assert problem_fault(answer) is None, f"{answer} {problem_fault(answer)}"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert not others.failures, others.failures[:3]
    assert others.count > 20 and others.slowest < 2, f"{others.slowest:.2f} s"
    wait_for(lambda: call_program(service.port, program, CALLS[program], 5).status ==
             GOOD.get(program, 200), f"{program} works again", RECOVERY_SECONDS)
    for caller in callers:
        caller.join(30)
        assert not caller.is_alive()
    assert all(answer.status in (GOOD.get(program, 200), 503, 504) for answer in answers)
