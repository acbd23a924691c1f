"""Many clients at once: slow ones that must not starve others, races for one key or one file, and
the sweep beside uploads."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from exchanges import call, problem_fault, upload_request
from framing import Prober, check_raw_problem, upload_head
from history import RECOVERY_SECONDS, Load, kill_now
from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes, sha256, unique
from service import PROMPT, wait_for

CLIENTS = 64
TAKEN = "a sweep took the bytes of an upload that was not recorded in time"


def at_once(count, act):
    """act(0) … act(count - 1) in as many threads, let go together; the results in order."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


# ---- slow clients ----

def trickle(connections, stop):
    """A few bytes a second on every connection, until each is ended."""
    while connections and not stop.is_set():
        for connection in list(connections):
            if not connection.send_as_taken(b"xx"):
                connections.remove(connection)
        stop.wait(0.25)


def test_200_slow_uploads(start_service):
    """Normal requests are answered promptly meanwhile, and the minimum rate ends the slow ones."""
    service = start_service(BODY_IDLE_SECONDS=5)
    before = len(service.objects())
    head = upload_head("slow", 1_000_000)
    connections = [RawConnection(service, timeout=30) for _ in range(200)]
    stop = threading.Event()
    alive = list(connections)
    for connection in connections:
        connection.send(head, b"first bytes")
    started = time.monotonic()
    sender = threading.Thread(target=trickle, args=(alive, stop))
    with Prober(service) as prober:
        sender.start()
        uploads = 0
        while time.monotonic() - started < 4:
            begun = time.monotonic()
            assert service.put(f"/api/files/upload/{unique()}", data=b"x" * 1000).status_code == 201
            assert time.monotonic() - begun < PROMPT
            uploads += 1
        answers = [connection.read("PUT") for connection in connections]
        stop.set()
    sender.join()
    assert uploads > 0
    prober.verify()
    assert time.monotonic() - started < 40
    for connection, answer in zip(connections, answers):
        assert answer.status in (0, 408) and connection.ended(), answer
        connection.close()
        if answer.status:
            check_raw_problem(answer, 408, "request_timeout")
    service.wait_idle()
    # The prober's file and the quick uploads, nothing else.
    wait_for(lambda: len(service.objects()) == before + uploads + 1, "nothing of them stored")


def test_200_slow_uploads_by_the_pipe_route(start_service):
    """Each holds a worker, as those of the other routes do, and others stay fast."""
    service = start_service()
    head = raw_request("PUT", "/api/files/pipe/slow", [("Content-Length", 1_000_000)])
    connections = [RawConnection(service) for _ in range(200)]
    stop = threading.Event()
    for connection in connections:
        connection.send(head, b"first bytes")
    sender = threading.Thread(target=trickle, args=(list(connections), stop))
    with Prober(service) as prober:
        sender.start()
        wait_for(lambda: prober.count >= 60, "others are served", 30)
        stop.set()
    sender.join()
    prober.verify()
    for connection in connections:
        connection.close()


def test_slow_readers_of_a_large_file(service):
    content = random_bytes(12 * MIB, seed=1)
    made = service.create(content)
    readers = [RawConnection(service, receive_buffer=32768) for _ in range(50)]
    with Prober(service) as prober:
        for reader in readers:
            reader.send(raw_request("GET", f"/api/files/{made['id']}"))
        wait_for(lambda: prober.count >= 60, "others are served", 30)
        whole = service.get(f"/api/files/{made['id']}")
        assert hashlib.sha256(whole.content).hexdigest() == made["sha256"]
    prober.verify()
    patient = readers.pop()
    answer = patient.read()
    assert answer.complete and sha256(answer.body) == made["sha256"]
    for reader in [patient, *readers]:
        reader.close()
    service.delete(f"/api/files/{made['id']}")


def test_idle_connections_leave_others_alone(service):
    idle = [RawConnection(service) for _ in range(500)]
    with Prober(service) as prober:
        wait_for(lambda: prober.count >= 60, "others are served", 30)
    prober.verify()
    for connection in idle:
        connection.close()


# ---- one key ----

def check_one_file(service, name, answers, content):
    """All who were answered got the same file, and there is one."""
    made = [answer for answer in answers if answer.status == 201]
    assert made and len({answer.json()["id"] for answer in made}) == 1
    fresh = [answer for answer in made if "idempotency-replayed" not in answer.headers]
    assert len(fresh) <= 1, "more than one was told it made the file"
    found = service.get(f"/api/files?prefix={name}").json()["files"]
    assert [entry["id"] for entry in found] == [made[0].json()["id"]]
    assert service.get(f"/api/files/{found[0]['id']}").content == content


@pytest.mark.core
@pytest.mark.parametrize("way", ["form", "put", "pipe"])
def test_64_clients_race_one_key(service, way):
    name, content = unique(), random_bytes(50_000, seed=2)
    request = upload_request(way, name, content, key=f"race-{name}")
    answers = at_once(CLIENTS, lambda _: call(service.port, *request))
    for answer in answers:
        assert answer.status in (201, 409), str(answer)
        assert answer.status == 201 or answer.json()["code"] == "conflict"
    answers.append(call(service.port, *request))
    assert answers[-1].headers["idempotency-replayed"] == "true"
    check_one_file(service, name, answers, content)


def test_64_clients_race_one_key_over_kills(start_service):
    """Each tries until it knows, while the program is killed again and again."""
    service = start_service(crash=True)  # where leases are short
    service.expect_5xx = True
    name, content = unique(), random_bytes(200_000, seed=3)
    request = upload_request("put", name, content, key=f"race-{name}")
    done = threading.Event()

    def persist(number):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = call(service.port, *request)
            if answer.status == 201:
                return answer
            assert answer.failed or answer.status == 409, str(answer)
            if answer.status and answer.status >= 500:
                assert problem_fault(answer) is None, f"{answer} {problem_fault(answer)}"
            time.sleep(0.05)
        return answer

    def kill():
        for _ in range(6):
            kill_now(service, "files_upload")
            if done.wait(0.4):
                return

    killer = threading.Thread(target=kill)
    killer.start()
    answers = at_once(CLIENTS, persist)
    done.set()
    killer.join()
    assert all(answer.status == 201 for answer in answers), "a client never knew"
    check_one_file(service, name, answers, content)
    assert service.coffer("gc", "--grace", "0").returncode == 0
    assert len(service.objects()) == 1


def wait_until_held(service, *request):
    """Until the slow upload has the key: nobody else may ask for it before."""
    service.wait_in_flight()
    wait_for(lambda: service.metric("metadata_operations_total", operation="idempotency") >= 1,
             "it has taken its key")
    assert call(service.port, *request).status == 409


def test_key_is_free_ten_seconds_after_a_crash(start_service):
    """With the shorter lease of this build; access/idempotency.c asserts the other's length."""
    service = start_service(crash=True)
    service.expect_5xx = True
    content = random_bytes(100_000, seed=4)
    method, path, body, headers = upload_request("put", "held", content, key="held")
    with RawConnection(service) as connection:
        connection.send(raw_request("PUT", path, [("Content-Length", len(body)),
                                                  ("Idempotency-Key", "held")]), body[:50_000])
        wait_until_held(service, method, path, body, headers)
        service.kill("files_upload")
        killed = time.monotonic()
        wait_for(lambda: call(service.port, method, path, body, headers).status == 201,
                 "the key is free", RECOVERY_SECONDS)
        assert time.monotonic() - killed <= RECOVERY_SECONDS


def test_key_is_held_as_long_as_its_slow_upload_lives(start_service):
    """The lease is renewed: longer than it lasts, nobody else gets the key."""
    service = start_service(crash=True)  # whose leases last 3 s
    content = random_bytes(30_000, seed=5)
    method, path, body, headers = upload_request("put", "slow", content, key="slow")
    with RawConnection(service) as connection:
        connection.send(raw_request("PUT", path, [("Content-Length", len(body)),
                                                  ("Idempotency-Key", "slow")]), body[:10_000])
        wait_until_held(service, method, path, body, headers)
        for at in range(10_000, 30_000, 2_500):
            assert call(service.port, method, path, body, headers).status == 409
            connection.send(body[at:at + 2_500])
            time.sleep(0.6)
        answer = connection.read("PUT")
    assert answer.status == 201
    again = call(service.port, method, path, body, headers)
    assert again.headers["idempotency-replayed"] == "true"


def test_one_key_different_files(service):
    """64 clients, one key, each with another file: one wins, the others are told."""
    key, name = unique("key"), unique()

    def upload(number):
        return call(service.port, *upload_request("put", name, b"file %d" % number, key=key))

    answers = at_once(CLIENTS, upload)
    assert sorted({answer.status for answer in answers}) in ([201, 409], [201, 422],
                                                             [201, 409, 422])
    assert [answer.status for answer in answers].count(201) == 1
    assert service.get(f"/api/files?prefix={name}").json()["total"] == 1


# ---- F27, row 75: one file, many hands ----

def test_row_75_double_delete_has_one_winner(service):
    for _ in range(10):
        made = service.create()
        answers = at_once(16, lambda _: call(service.port, "DELETE", f"/api/files/{made['id']}"))
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [200] + [404] * 15


def test_row_75_double_delete_by_batches(service):
    ids = [service.create()["id"] for _ in range(20)]
    body = '{"ids": ["' + '", "'.join(ids) + '"]}'
    answers = at_once(8, lambda _: call(service.port, "POST", "/api/files/delete", body,
                                        {"Content-Type": "application/json"}))
    wins = {}
    for answer in answers:
        assert answer.status == 200, str(answer)
        for result in answer.json()["results"]:
            wins[result["id"]] = wins.get(result["id"], 0) + result["deleted"]
    assert wins == {each: 1 for each in ids}


def test_row_75_delete_races_change(service):
    """A change is seen whole or not at all, and nothing comes back to life."""
    for _ in range(15):
        made = service.create()
        path = f"/api/files/{made['id']}"

        def act(number, path=path):
            if number % 2:
                return call(service.port, "DELETE", path)
            return call(service.port, "PATCH", path, '{"metadata": {"a": "b"}}',
                        {"Content-Type": "application/merge-patch+json"})

        answers = at_once(8, act)
        statuses = [answer.status for answer in answers]
        assert [status for status in statuses[1::2]].count(200) == 1, statuses
        # 409: a change that lost against others again and again, and says so.
        assert set(statuses[0::2]) <= {200, 404, 409}, statuses
        assert call(service.port, "GET", path).status == 404


def test_row_75_changes_race_with_one_version(service):
    """Of many changes that name the same version, one is made."""
    made = service.create()
    path = f"/api/files/{made['id']}"
    tag = call(service.port, "GET", path + "/meta").headers["etag"]
    answers = at_once(16, lambda n: call(
        service.port, "PATCH", path, '{"metadata": {"n": "%d"}}' % n,
        {"Content-Type": "application/merge-patch+json", "If-Match": tag}))
    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [200] + [412] * 15
    winner = str(statuses.index(200))
    assert service.get(path + "/meta").json()["metadata"] == {"n": winner}


def is_read_by_pieces(service):
    """libs3 asks for piece after piece: a delete in between cuts the download, visibly."""
    return service.backend.storage == "libs3"


@pytest.mark.core
def test_f27_delete_races_download(service):
    """A reader gets the whole file or 404, never a piece that passes for it."""
    content = random_bytes(5 * MIB, seed=6)
    for _ in range(4):
        made = service.create(content)
        path = f"/api/files/{made['id']}"

        def act(number, path=path):
            return call(service.port, "DELETE" if number == 7 else "GET", path)

        for answer in at_once(12, act):
            if answer.error and is_read_by_pieces(service):
                continue
            assert answer.status in (200, 404), str(answer)[:300]
            if answer.method == "GET" and answer.status == 200:
                assert answer.body == content


def test_f27_delete_during_a_slow_download(service):
    """Bytes on their way arrive whole; from the acknowledgement on nobody starts reading."""
    content = random_bytes(20 * MIB, seed=7)
    made = service.create(content)
    path = f"/api/files/{made['id']}"
    with RawConnection(service, receive_buffer=65536) as reader:
        reader.send(raw_request("GET", path))
        wait_for(lambda: reader._more(), "first bytes")
        assert service.delete(path).status_code == 200
        assert service.get(path).status_code == 404
        answer = reader.read()
    if is_read_by_pieces(service):
        assert content.startswith(answer.body) and (answer.complete or answer.closed)
    else:
        assert answer.complete and answer.body == content


@pytest.mark.core
def test_f27_sweep_beside_uploads(start_service):
    """gc in a loop, on fs without any grace: it takes orphans and never what is on its way."""
    service = start_service()
    load = Load(service, clients=8, seed=27)
    runs = []
    grace = "0" if service.backend.storage == "fs" else "5"
    with load:
        until = time.monotonic() + 8
        while time.monotonic() < until or len(runs) < 5:
            runs.append(service.coffer("gc", "--grace", grace))
    assert not load.failures, [str(failure) for failure in load.failures]
    load.check()


def test_f27_sweep_of_the_service_itself(start_service):
    """Without any grace. A remote store has no locks: there an upload that is not recorded yet may
    be taken, and is told so; nothing else fails."""
    service = start_service(SWEEP_INTERVAL_SECONDS=1, SWEEP_GRACE_SECONDS=0)
    load = Load(service, clients=8, seed=28)
    with load:
        load.wait_for(20, 30)
        time.sleep(3)
    load.check()
    service.expect_5xx = service.backend.storage != "fs"
    for line in service.log_lines():
        if line["message"] == "request" and line["http.response.status_code"] >= 500:
            assert service.expect_5xx and line["error.message"] == TAKEN, line


@pytest.mark.core
def test_64_mixed_clients(start_service):
    service = start_service()
    load = Load(service, clients=CLIENTS, seed=64, sizes=(0, 700, 20_000, 300_000), pause=0.01)
    with load:
        load.wait_for(300 if service.backend.is_local else 100, 60)
    assert not load.failures, [str(failure) for failure in load.failures]
    load.check()
