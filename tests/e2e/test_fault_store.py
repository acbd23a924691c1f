"""F9, F10: a store that is away, silent or slow; and every fault in turn, and the store's own
death, under load."""

import threading
import time

import pytest

import backends
import servers
from exchanges import call, log_faults
from faultproxy import FaultProxy
from faulty import DEADLINE, LARGE, LIMIT, NOISE, QUICK, SMALL, FaultyStore, failed, fixtures, timed
from history import RECOVERY_SECONDS, Load
from problems import check_problem
from samples import MIB, random_bytes, sha256, unique
from service import wait_for

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite")

shared, quick, faulty = fixtures(FaultyStore)


# ---- F9: refused ----

def test_f9_refused(quick):
    service, proxy, keys = quick.service, quick.proxy, unique("refused")
    kept, gone = service.create(b"kept" * 99), service.create(b"gone" * 99)
    large = service.create(random_bytes(LARGE, seed=1))
    proxy.refuse()
    for way in ("form", "put", "pipe"):
        for content in (b"", b"x", random_bytes(LARGE, seed=2)):
            answer, took = timed(quick.upload, way, content, key=f"{keys}-{way}-{len(content)}")
            failed(answer, {503}, "storage_unavailable", QUICK + NOISE, took)
    for headers in ({}, {"Range": "bytes=0-4"}):
        for made in (kept, large):
            answer, took = timed(quick.read, made, headers=headers)
            failed(answer, {503}, "storage_unavailable", QUICK + NOISE, took)
    assert service.head(f"/api/files/{kept['id']}").status_code == 503
    # What needs no bytes goes on.
    assert service.get("/api/files").json()["total"] == 3
    assert service.get(f"/api/files/{kept['id']}/meta").json()["status"] == "ready"
    patched = service.patch(f"/api/files/{kept['id']}", json={"metadata": {"a": "b"}})
    assert patched.status_code == 200
    assert service.get(f"/api/files/{kept['id']}",
                       headers={"If-None-Match": f'"{kept["sha256"]}"'}).status_code == 304
    wait_for(lambda: service.get("/ready").status_code == 503, "/ready tells it", 10)
    health = service.get("/health")
    # Some of the service works.
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["checks"]["storage"]["status"] != "ok"
    assert health.json()["checks"]["metadata"]["status"] == "ok"
    assert service.get("/live").status_code == 200
    # From its acknowledged delete on nobody reads a file, and its bytes go when the store is back.
    path = f"/api/files/{gone['id']}"
    deleted, took = timed(service.delete, path)
    assert deleted.json() == {"id": gone["id"], "deleted": True} and took < QUICK + NOISE
    for tail in ("", "/meta", "/download"):
        check_problem(service.get(path + tail), 404, "not_found")
    assert service.get("/api/files").json()["total"] == 2
    assert gone["key"] in quick.objects.every()
    quick.recovered()
    check_problem(service.get(path), 404, "not_found")
    assert service.get(f"/api/files/{kept['id']}").content == b"kept" * 99
    wait_for(lambda: set(quick.objects.every()) == {kept["key"], large["key"]},
             "the deleted file's bytes are swept", 15)
    # A client that tries again with its keys has one file each.
    for way in ("form", "put", "pipe"):
        again = quick.upload(way, b"x", key=f"{keys}-{way}-1", name="again")
        assert again.status in (201, 422), str(again)


def test_f9_refused_from_the_start(start_service):
    """A store that comes up later than the service: it is waited for, or there is a clear line."""
    stores = backends.current().open(None)
    with FaultProxy(stores.objects.store.endpoint) as proxy:
        service = start_service(stores=stores, S3_ENDPOINT=proxy.endpoint)
        service.stop()
        proxy.refuse()
        service.expect_5xx = True
        service.launch()
        wait_for(lambda: service.process.poll() is not None or
                 call(service.port, "GET", "/live", timeout=2).status == 200, "up or refused", 40)
        if service.process.poll() is not None:
            assert service.output().strip()
            proxy.accept()
            service.start()
        else:
            assert call(service.port, "GET", "/ready").status == 503
            proxy.accept()
        wait_for(lambda: service.get("/ready").status_code == 200, "ready", RECOVERY_SECONDS)
        service.create(b"now")
        service.close()


# ---- F10: silent, slow ----

@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("fault", ["silent", "slow"])
def test_f10_uploads_to_a_silent_store(quick, fault, size):
    content, key = random_bytes(size, seed=3), unique("key")
    if fault == "silent":
        quick.proxy.silent()
    else:
        quick.proxy.slow(1, direction="request")
    answer, took = timed(quick.upload, "put", content, key=key)
    failed(answer, {503, 504}, None, LIMIT, took)
    assert fault != "silent" or answer.status == 504
    assert quick.service.get("/api/files").json()["total"] == 0
    quick.recovered()
    again = quick.upload("put", content, key=key, name="again")
    assert again.status in (201, 422), str(again)
    quick.settled(quick.service.get("/api/files").json()["total"])


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("fault", ["silent", "slow", "silent inside", "slow inside"])
def test_f10_downloads_from_a_silent_store(quick, fault, size):
    """Before the first byte it is 504; inside a large body, the answer is cut."""
    content = random_bytes(size, seed=4)
    made = quick.service.create(content)
    if fault == "silent":
        quick.proxy.silent(method="GET")
    elif fault == "slow":
        quick.proxy.slow(1, method="GET")
    elif fault == "silent inside":
        quick.proxy.silent(after=size // 2, method="GET")
    else:
        quick.proxy.slow(size // 60, method="GET")
    answer, took = timed(quick.read, made, timeout=60)
    if size == SMALL or not fault.endswith("inside"):
        failed(answer, {504}, "upstream_timeout", LIMIT, took)
    elif answer.status is None:
        assert answer.seen_status == 200, str(answer)
        # Each piece of 256 KiB may take the deadline; nothing is held up for longer.
        assert fault == "slow inside" or took < LIMIT + 5, f"{took:.2f} s"
    else:
        assert answer.status == 200 and sha256(answer.body) == made["sha256"]
    quick.recovered()
    assert quick.read(made).body == content


def test_f10_others_go_on_while_the_store_is_silent(faulty):
    """Callers that wait for the store hold up nobody who needs no bytes."""
    quick = faulty(DOWNLOAD_WORKERS=32)
    made = quick.service.create(b"x" * SMALL)
    quick.proxy.silent()
    answers = []

    def ask(number):
        answers.append(quick.upload("put", b"y" * SMALL) if number % 2 else quick.read(made))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    slowest, count = 0, 0
    while any(thread.is_alive() for thread in threads):
        for path in ("/live", "/api/files?limit=5", f"/api/files/{made['id']}/meta"):
            answer, took = timed(call, quick.service.port, "GET", path)
            assert answer.status == 200, str(answer)
            slowest, count = max(slowest, took), count + 1
        time.sleep(0.05)
    for answer in answers:
        failed(answer, {504, 503})
    assert len(answers) == 24 and count > 0 and slowest < DEADLINE, f"{slowest:.2f} s"
    quick.recovered()


# ---- all of it, under load ----

def faults_in_turn(proxy):
    """One after the other, each for a moment."""
    yield proxy.refuse
    yield proxy.cut
    yield lambda: proxy.status(500, times=20)
    yield lambda: proxy.unavailable(times=20)
    yield proxy.silent
    yield lambda: proxy.slow(2000)
    yield lambda: proxy.lost_reply(method="PUT", times=10)
    yield lambda: proxy.lost_reply("reset", method="POST", times=10)
    yield lambda: proxy.truncate(after=500, method="GET", times=10)
    yield lambda: proxy.flip(at=100, method="GET", times=10)
    yield lambda: proxy.flip(at=100, direction="request", method="PUT", times=10)
    yield lambda: proxy.reset(after=100, times=20)
    yield lambda: proxy.redirect("http://127.0.0.1:1/", times=20)
    yield lambda: proxy.status(404, method="GET", times=10)
    yield lambda: proxy.huge_headers(times=10)


def test_f9_to_f13_under_load(quick):
    """The history checker runs a mixed load meanwhile: every invariant holds, and after each fault
    the service is back within ten seconds."""
    load = Load(quick.service, clients=6, seed=13, sizes=(0, 700, 20_000, 300_000, 6 * MIB),
                pause=0.02)
    with load:
        for fault in faults_in_turn(quick.proxy):
            load.wait_for(2, 30)
            fault()
            time.sleep(1.2)
            quick.proxy.clear()
            load.recover()
    assert load.acknowledged() > 20
    load.check()
    assert not log_faults(quick.service.log_file, [quick.objects.store.secret_key])


def test_sweep_without_grace_beside_uploads(quick):
    """An upload that meets it may fail and be tried again; what was acknowledged stays."""
    load = Load(quick.service, clients=8, seed=27, sizes=(0, 700, 20_000))
    with load:
        until = time.monotonic() + 6
        while time.monotonic() < until:
            quick.service.coffer("gc", "--grace", "0")
    assert {status for status in load.statuses if status and status >= 500} <= {503}, load.statuses
    load.check()


# ---- the store itself dies and comes back ----

def test_f14_kill_and_restart_of_the_store_under_load(start_service):
    with servers.SeaweedFS() as store:
        objects = backends.BucketObjects(store=store)
        database = backends.current().open(None).database
        service = start_service(stores=backends.Stores(objects, database), S3_PART_SIZE="5M")
        service.expect_5xx = True
        load = Load(service, clients=6, seed=14, sizes=(0, 700, 20_000, 6 * MIB), pause=0.02)
        with load:
            for ending in (store.kill, store.stop, store.kill):
                load.wait_for(5, 40)
                ending()
                time.sleep(1)
                assert service.get("/api/files?limit=1").status_code == 200
                store.start()
                load.recover(within=20)
        load.check()
        service.close()
