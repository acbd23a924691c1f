"""F33: clients that hardly read what comes from a store. They are ended by the minimum rate, and requests
that need no bytes of the store are answered meanwhile."""

import threading
import time

import pytest

from background import Background
from exchanges import call
from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes, sha256
from service import PROMPT, Service, wait_for

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite")

CLIENTS = 256  # as many as DOWNLOAD_WORKERS
SIZE = 2 * MIB  # more than waits between the program and a client that does not read
RATE = 40 * 1024
SECONDS = 8  # longer than PROMPT: what waits for a worker is found
LITTLE = {"timeout": 60, "receive_buffer": 4096, "segment": 536}


@pytest.fixture(scope="module")
def quick_to_end():
    service = Service(DOWNLOAD_RATE_SECONDS=SECONDS, DOWNLOAD_MIN_RATE=RATE)
    try:
        yield service.start()
    finally:
        service.close()


class Readers(Background):
    """Clients that read a few bytes of a download now and then."""

    pause = 0.5

    def __init__(self, service, path, count):
        super().__init__()
        self.all = [RawConnection(service, **LITTLE) for _ in range(count)]
        for each in self.all:
            each.send(raw_request("GET", path))

    def step(self):
        for each in self.all:
            each.socket.settimeout(0)
            try:
                each.socket.recv(64)
            except OSError:
                pass
            each.socket.settimeout(60)

    def close(self):
        for each in self.all:
            each.close()


def read_steadily(service, path, answers):
    """Faster than the minimum rate, and far slower than the store."""
    with RawConnection(service, **LITTLE) as connection:
        connection.send(raw_request("GET", path))
        head = connection._until(b"\r\n\r\n")
        received = connection.pending
        while len(received) < SIZE and (piece := connection.socket.recv(16 * 1024)):
            received += piece
            time.sleep(len(piece) / (6 * RATE))
    answers.append((head.split(b" ")[1], sha256(received)))


def count_ended(service):
    return service.log_file.read_text().count("The client took the answer too slowly.")


def test_f33_clients_that_hardly_read_a_download(quick_to_end):
    service = quick_to_end
    content = random_bytes(SIZE, seed=33)
    made, other = service.create(content), service.create(b"other")
    path, other_path = f"/api/files/{made['id']}", f"/api/files/{other['id']}"
    short = {
        "meta": (f"{other_path}/meta", {}, 200),
        "list": ("/api/files?limit=5", {}, 200),
        "unchanged": (other_path, {"If-None-Match": f'"{other["sha256"]}"'}, 304),
    }
    steady = []
    thread = threading.Thread(target=read_steadily, args=(service, path, steady))
    thread.start()
    readers = Readers(service, path, CLIENTS)
    try:
        with readers:
            # The last one waits until the first is ended.
            service.wait_in_flight(CLIENTS)
            took = {name: [] for name in short}
            while not count_ended(service):
                for name, (target, headers, status) in short.items():
                    started = time.monotonic()
                    answer = call(service.port, "GET", target, None, headers)
                    took[name].append(time.monotonic() - started)
                    assert answer.status == status, str(answer)
            slowest = {name: max(each) for name, each in took.items()}
            assert max(slowest.values()) < PROMPT, slowest
            assert min(len(each) for each in took.values()) >= 3, took
            wait_for(lambda: count_ended(service) >= CLIENTS, "all are ended", 90)
        thread.join(60)
        assert steady == [(b"200", made["sha256"])]
        # Their connections are closed in the middle of the answer.
        assert readers.all[0].ended() and readers.all[-1].ended()
    finally:
        readers.close()
    service.wait_idle(20)
    assert service.get(path).content == content
    lines = [line for line in service.log_lines() if line.get("error.code") == "request_timeout"]
    assert len(lines) == CLIENTS and {line["url.path"] for line in lines} == {path}
    assert {line["log.level"] for line in lines} == {"info"}


WAIT_SECONDS = 10
WAITING = 64  # downloads that may wait for a worker


def test_f33_downloads_beyond_the_bound_wait_or_are_told(start_service):
    service = start_service(DOWNLOAD_WORKERS=1, WORKERS=2)
    service.expect_5xx = True
    made = service.create(random_bytes(SIZE, seed=34))
    path = f"/api/files/{made['id']}"
    part = raw_request("GET", path, [("Range", "bytes=0-4")])
    readers = Readers(service, path, 1)
    waiting = []
    try:
        service.wait_in_flight(1)
        waiting = [RawConnection(service, timeout=60) for _ in range(WAITING)]
        began = time.monotonic()
        for each in waiting:
            each.send(part)
        service.wait_in_flight(1 + WAITING)
        for _ in range(3):
            answer = service.get(path)
            check_problem(answer, 503, "storage_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
            assert service.head(path).status_code == 503
            assert service.get(f"{path}/meta").status_code == 200
        readers.close()
        in_time = time.monotonic() - began < WAIT_SECONDS / 2
        # On a busy machine the time that they wait may be over before.
        assert {each.read().status for each in waiting} <= ({206} if in_time else {206, 503})
        wait_for(lambda: service.get(path, headers={"Range": "bytes=0-4"}).status_code == 206,
                 "downloads are served again", 30)
    finally:
        for each in [*readers.all, *waiting]:
            each.close()
