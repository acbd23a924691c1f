"""Three nodes over one store and one database: what only several of them can get wrong. The core of
the suite runs on them too (backend `nodes`)."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from exchanges import call, upload_request
from history import RECOVERY_SECONDS, Load
from nodes import SETTLE_SECONDS
from samples import MIB, random_bytes, sha256, unique
from service import read_proc, wait_for

pytestmark = pytest.mark.backends("nodes")


@pytest.fixture(scope="module")
def calm(service):
    """Three nodes that stay as they are."""
    assert len(service.ports()) == 3
    return service


def is_ready(port):
    return call(port, "GET", "/ready", timeout=5).status == 200


def test_each_node_gives_what_another_took(calm):
    for size in (0, 1000, 12 * MIB):
        content = random_bytes(size, seed=size)
        for taker in calm.ports():
            made = call(taker, *upload_request("put", unique(), content))
            assert made.status == 201, str(made)
            for giver in calm.ports():
                path = f"/api/files/{made.json()['id']}"
                assert call(giver, "GET", path).body == content
                assert call(giver, "GET", path + "/meta").json() == made.json()
            deleter = calm.ports()[(calm.ports().index(taker) + 1) % 3]
            assert call(deleter, "DELETE", path).status == 200
            assert [call(port, "GET", path).status for port in calm.ports()] == [404] * 3


def test_a_cursor_of_one_node_is_known_to_all(calm):
    names = unique("cursor")
    for number in range(5):
        calm.create(b"x", f"{names}-{number}")
    first, second, third = calm.ports()
    page = call(first, "GET", f"/api/files?prefix={names}&limit=2&sort=name").json()
    for port in (second, third):
        rest = call(port, "GET", f"/api/files?prefix={names}&sort=name&cursor={page['nextCursor']}")
        assert len(rest.json()["files"]) == 3


def test_one_key_at_all_nodes_is_one_file(calm):
    """Sent to each of them at once, again and again."""
    name, content = unique(), random_bytes(50_000, seed=3)
    request = upload_request("put", name, content, key=f"nodes-{name}")
    ports = calm.ports() * 8
    with ThreadPoolExecutor(len(ports)) as pool:
        answers = list(pool.map(lambda port: call(port, *request), ports))
    assert {answer.status for answer in answers} <= {201, 409}, [str(each) for each in answers]
    later = [call(port, *request) for port in calm.ports()]
    ids = {answer.json()["id"] for answer in (*answers, *later) if answer.status == 201}
    assert len(ids) == 1
    assert all(answer.headers["idempotency-replayed"] == "true" for answer in later)
    assert calm.get(f"/api/files?prefix={name}").json()["total"] == 1


def test_deletes_at_all_nodes_have_one_winner(calm):
    for _ in range(5):
        path = f"/api/files/{calm.create(b'x')['id']}"
        with ThreadPoolExecutor(9) as pool:
            statuses = list(pool.map(lambda port, path=path: call(port, "DELETE", path).status,
                                     calm.ports() * 3))
        assert sorted(statuses) == [200] + [404] * 8


def test_sweeps_are_one_nodes_at_a_time(start_service):
    """A lease says whose turn it is: what expires is swept once, whoever does it."""
    service = start_service(SWEEP_INTERVAL_SECONDS=1)
    for number in range(20):
        service.create(b"x" * number, expiresIn="2")
    kept = service.create(b"kept")
    wait_for(lambda: service.metric("swept_objects_total", kind="expired") >= 20, "swept", 20)
    time.sleep(3)
    assert service.metric("swept_objects_total", kind="expired") == 20
    assert service.metric("swept_objects_total", kind="deleted") == 20
    assert list(service.objects()) == [kept["key"]]


def launcher_of(service, name):
    return int((service.runtime_dir / name / "launcher.pid").read_text())


def test_kill_of_a_node_under_load_loses_nothing(start_service):
    """Clients that try again succeed, the node comes back and is used again."""
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=6, seed=30, sizes=(0, 700, 20_000, 9 * MIB), pause=0.02, bare=True)
    with load:
        for name in service.nodes():
            load.wait_for(5, 40)
            pids = service.node_pids(name)
            assert pids
            service.signal_node(name, signal.SIGKILL)
            load.wait_for(5, 40)
            wait_used_again(name)
    load.check()


def wait_used_again(name):
    port = int(name.removeprefix("node-"))
    wait_for(lambda: is_ready(port), f"{name} is back", SETTLE_SECONDS)
    before = requests_of(port)
    wait_for(lambda: requests_of(port) > before + 5, f"{name} is used again", SETTLE_SECONDS)


def requests_of(port):
    """How many requests of clients a node has answered."""
    text = call(port, "GET", "/api/metrics").body.decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith("http_requests_total{") and 'route="/api/files' in line)


def test_a_hung_node_is_left_out_under_load(start_service):
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=6, seed=31, sizes=(0, 700, 20_000), pause=0.02, bare=True)
    with load:
        load.wait_for(5, 40)
        name = service.nodes()[0]
        service.hang_node(name)
        try:
            load.wait_for(20, 60)
        finally:
            service.wake_node(name)
        wait_for(lambda: is_ready(int(name.removeprefix("node-"))), "it is back", SETTLE_SECONDS)
        load.wait_for(5, 40)
    load.check()


def test_rolling_restart_under_load(start_service):
    """Each node in turn is told to stop, the next when the gateway uses the one before: requests
    under way are answered, and others go elsewhere."""
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=6, seed=32, sizes=(0, 700, 20_000, 9 * MIB), pause=0.02, bare=True)
    with load:
        for name in service.nodes():
            load.wait_for(5, 40)
            before = launcher_of(service, name)
            os.kill(before, signal.SIGINT)
            wait_for(lambda before=before: not read_proc(before, "stat"), f"{name} has left",
                     RECOVERY_SECONDS + 30)
            wait_used_again(name)
    failed = sum(count for status, count in load.statuses.items()
                 if status is None or status >= 500)
    # One that the kernel of a leaving node took, and lighttpd no more; clients try it again.
    assert failed <= len(service.nodes()), load.statuses
    load.check()


def test_large_files_through_the_gateway(calm):
    content = random_bytes(50 * MIB, seed=50)
    made = calm.create(content)
    path = f"/api/files/{made['id']}"
    assert sha256(calm.get(path).content) == made["sha256"]
    part = calm.get(path, headers={"Range": f"bytes={20 * MIB}-{20 * MIB + 99}"})
    assert part.status_code == 206 and part.content == content[20 * MIB:20 * MIB + 100]
