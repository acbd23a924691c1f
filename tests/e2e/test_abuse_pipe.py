"""F32: bodies of unknown length (PUT /api/files/pipe/{name}) from anybody and from slow clients, and
bodies larger than the spool. Nobody else notices, and no answer is a 500."""

import threading
import time

import pytest

from exchanges import call
from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes, sha256, unique
from service import running, wait_for

PATH = "/api/files/pipe/f32"
CHUNKED = [("Transfer-Encoding", "chunked")]


@pytest.fixture(scope="module")
def small():
    """Its spool holds a fraction of a file."""
    yield from running(AUTH_MODE="token", SPOOL_MAX_BYTES="8M", BODY_IDLE_SECONDS=3)


@pytest.fixture(scope="module")
def token(small):
    return small.token("alice")


def bearer(token):
    return [("Authorization", f"Bearer {token}")]


def check_others(service, token):
    """Every other route answers, and quickly."""
    begun = time.monotonic()
    file = service.create(b"other", token=token)
    path = f"/api/files/{file['id']}"
    assert service.get(path, token=token).content == b"other"
    assert service.put("/api/files/upload/x", token=token, data=b"x" * 100_000).status_code == 201
    assert service.delete(path, token=token).status_code == 200
    assert service.get("/live").status_code == 200
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("headers", [CHUNKED, [("Content-Length", 50_000_000)]],
                         ids=["chunked", "length"])
def test_f32_anonymous_bodies_that_trickle_are_refused_before_they_come(small, token, headers):
    head = raw_request("PUT", PATH, headers)
    connections = [RawConnection(small) for _ in range(40)]
    try:
        for connection in connections:
            connection.send(head, b"5\r\nhe")
        for connection in connections:
            assert connection.read("PUT").status == 401
        check_others(small, token)
    finally:
        for connection in connections:
            connection.close()


def test_f32_bodies_that_trickle_are_ended_by_the_minimum_rate(small, token):
    head = raw_request("PUT", PATH, [*CHUNKED, *bearer(token)])
    connections = [RawConnection(small, timeout=0.1) for _ in range(12)]
    ended = threading.Event()

    def trickle():
        while not ended.wait(0.3):
            for connection in connections:
                connection.send_as_taken(b"1\r\nx\r\n")

    sender = threading.Thread(target=trickle)
    try:
        for connection in connections:
            connection.send(head)
        sender.start()
        check_others(small, token)
        for connection in connections:
            connection.socket.settimeout(30)
            assert connection.read("PUT").status in (0, 408)
            assert connection.ended()
    finally:
        ended.set()
        sender.join()
        for connection in connections:
            connection.close()


def test_f32_bodies_larger_than_the_spool(small, token):
    """They are not spooled. Many at once, in pieces and whole."""
    content = random_bytes(20 * MIB, seed=32)
    answers = []

    def send(pieces):
        data = iter([content[at:at + MIB] for at in range(0, len(content), MIB)])
        answer = call(small.port, "PUT", f"/api/files/pipe/{unique()}", data if pieces else content,
                      {"Authorization": f"Bearer {token}"})
        answers.append(answer)

    threads = [threading.Thread(target=send, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    check_others(small, token)
    for thread in threads:
        thread.join()
    for answer in answers:
        assert answer.status == 201, str(answer)
        assert answer.json()["sha256"] == sha256(content)


def test_f32_a_body_that_grows_too_large(small, token):
    before = len(small.stored_bytes())
    request_id = unique("too-large")
    pieces = iter([b"x" * MIB] * 50 + [b"x"])
    answer = small.put(PATH, token=token, headers={"X-Request-Id": request_id}, data=pieces)
    problem = check_problem(answer, 413, "file_too_large")
    assert problem["details"] == {"limit": 50 * MIB}
    wait_for(lambda: len(small.stored_bytes()) == before, "nothing stored")
    lines = [line for line in small.log_lines() if line.get("http.request.id") == request_id]
    assert lines and all(line["http.request.method"] == "PUT" for line in lines), lines
