"""F17, F20: disks that are full, read-only, gone, or lead elsewhere. What was stored stays
readable, what cannot be stored says so, and nothing is written where it does not belong."""

import json
import os
import threading
import time

import pytest

from exchanges import call, problem_fault, upload_request
from history import RECOVERY_SECONDS, Load
from mounts import ReadOnly, Tmpfs
from problems import check_problem
from samples import MIB, random_bytes, sha256, unique
from service import Service, wait_for

MIN_FREE = MIB
# test_fault_store and test_fault_database have what can happen to stores elsewhere.
on_disk = pytest.mark.local("about the disk that DATA_DIR is on")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB."""
    disk = Tmpfs(tmp_path / "disk", 8 * MIB)
    yield disk
    disk.close()


@pytest.fixture
def cramped(small_disk, start_service):
    """A service whose DATA_DIR is on it."""
    service = start_service(DATA_DIR=f"{small_disk.path}/data", MIN_FREE_BYTES=MIN_FREE)
    service.expect_5xx = True
    return service


def fill_by_uploads(service, size=300_000):
    """Uploads until the service says that the disk is full; {id: content} of what it took."""
    kept = {}
    for seed in range(100):
        content = random_bytes(size, seed=seed)
        response = service.put(f"/api/files/upload/{unique()}", data=content)
        if response.status_code != 201:
            check_problem(response, 507, "disk_full")
            return kept
        kept[response.json()["id"]] = content
    raise AssertionError("a disk of 8 MiB took 30 MB")


def check_readable(service, kept):
    for each, content in kept.items():
        assert service.get(f"/api/files/{each}").content == content


def settled(service, expected):
    """No bytes but those of so many files."""
    return len(service.objects()) == expected


# ---- F17: no space for data ----

@on_disk
def test_f17_full_by_uploads(cramped, small_disk):
    kept = fill_by_uploads(cramped)
    assert len(kept) > 10
    assert small_disk.free_bytes() >= MIN_FREE, "MIN_FREE_BYTES were not kept free"
    wait_for(lambda: settled(cramped, len(kept)), "the failed upload's bytes are gone")
    check_readable(cramped, kept)
    assert cramped.get("/api/files").json()["total"] == len(kept)
    patch = cramped.patch(f"/api/files/{next(iter(kept))}", json={"metadata": {"a": "b"}},
                          headers={"Content-Type": "application/merge-patch+json"})
    assert patch.status_code == 200 or small_disk.free_bytes() < MIN_FREE, patch.text
    for number, each in enumerate(list(kept)):
        deleted = cramped.delete(f"/api/files/{each}")
        assert deleted.status_code == 200, (number, small_disk.free_bytes(), deleted.text)
        del kept[each]
    wait_for(lambda: settled(cramped, 0), "deletes free their space")
    # lighttpd keeps what it sent open for some seconds, and with it the space.
    wait_for(lambda: cramped.upload(random_bytes(MIB, seed=1)).status_code == 201,
             "uploads are taken again", RECOVERY_SECONDS)


@on_disk
@pytest.mark.parametrize("way", ["form", "put", "pipe"])
def test_f17_too_large_for_what_is_left(cramped, way):
    before = cramped.create(b"before")
    content = random_bytes(12 * MIB, seed=17)
    answer = call(cramped.port, *upload_request(way, "large", content, key="large-once"))
    assert answer.status == 507, str(answer)
    assert answer.json()["code"] == "disk_full" and problem_fault(answer) is None
    wait_for(lambda: settled(cramped, 1), "no temporary bytes")
    assert cramped.get(f"/api/files/{before['id']}").content == b"before"
    small = call(cramped.port, *upload_request(way, "large", b"small", key="large-once"))
    assert small.status == 201, f"the failed upload holds its key: {small}"


@on_disk
def test_f17_full_by_others(cramped, small_disk):
    """Not one byte is left, not even what deletes need: answers say so, and all comes back."""
    kept = {cramped.create(random_bytes(10_000, seed=n))["id"]: random_bytes(10_000, seed=n)
            for n in range(20)}
    ballast = small_disk.fill()
    for _ in range(5):
        check_problem(cramped.put("/api/files/upload/a", data=b"x" * 5000), 507, "disk_full")
    check_readable(cramped, kept)
    wait_for(lambda: cramped.get("/ready").json().get("uploads") == "refused", "/ready tells it")
    ready = cramped.get("/ready")  # a load balancer keeps what reads and deletes well
    assert ready.status_code == 200 and ready.json() == {"status": "ok", "uploads": "refused"}
    assert cramped.get("/health").json()["status"] == "degraded"
    assert cramped.metric("uploads_refused") == 1
    assert cramped.get("/api/files").json()["total"] == 20
    deleted = [each for each in kept if cramped.delete(f"/api/files/{each}").status_code == 200]
    for each in deleted:
        assert cramped.get(f"/api/files/{each}").status_code == 404
        del kept[each]
    os.unlink(ballast)
    wait_for(lambda: cramped.put("/api/files/upload/b", data=b"x").status_code == 201,
             "uploads are taken again", RECOVERY_SECONDS)
    check_readable(cramped, kept)
    for each in kept:
        assert cramped.delete(f"/api/files/{each}").status_code == 200


@on_disk
def test_f36_changes_leave_free_what_deletes_need(cramped, small_disk):
    """Below MIN_FREE_BYTES nothing is written that is no delete, keys of requests neither."""
    made = [cramped.create(b"%d" % n)["id"] for n in range(12)]
    patch = ("PATCH", f"/api/files/{made[0]}", b'{"metadata": {"a": "b"}}',
             {"Content-Type": "application/merge-patch+json"})
    batch = ["POST", "/api/files/delete", json.dumps({"ids": made[1:4]}),
             {"Content-Type": "application/json"}]
    keyed = [*batch[:3], {**batch[3], "Idempotency-Key": unique("key")}]
    known = upload_request("put", unique(), b"x", unique("key"))
    first = call(cramped.port, *known)
    ballast = small_disk.fill(leave=MIN_FREE - 65536)
    for request in (patch, keyed, upload_request("put", unique(), b"x")):
        answer = call(cramped.port, *request)
        assert answer.status == 507, str(answer)
        assert answer.json()["code"] == "disk_full" and problem_fault(answer) is None
    assert call(cramped.port, *known).body == first.body, "an answer that is kept needs no space"
    assert cramped.coffer("token", "create", "--owner", "a", "--scope", "read",
                          check=False).returncode != 0
    for each in made[4:]:
        assert cramped.delete(f"/api/files/{each}").status_code == 200
    answer = call(cramped.port, *batch)
    assert [each["deleted"] for each in answer.json()["results"]] == [True] * 3
    os.unlink(ballast)
    wait_for(lambda: call(cramped.port, *patch).status == 200, "changes are taken again",
             RECOVERY_SECONDS)
    assert call(cramped.port, *keyed).status == 200


@on_disk
def test_f17_many_uploads_race_for_the_last_space(cramped, small_disk):
    answers, lock = [], threading.Lock()

    def upload(seed):
        content = random_bytes(MIB, seed=seed)
        answer = call(cramped.port, *upload_request("put", f"race-{seed}", content))
        with lock:
            answers.append((answer, content))

    threads = [threading.Thread(target=upload, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [(answer.json()["id"], content) for answer, content in answers if answer.status == 201]
    for answer, _ in answers:
        assert answer.status in (201, 507), str(answer)
        assert answer.status == 201 or answer.json()["code"] == "disk_full"
    wait_for(lambda: settled(cramped, len(taken)), "only whole files")
    check_readable(cramped, dict(taken))
    for each, _ in taken:
        assert cramped.delete(f"/api/files/{each}").status_code == 200


@on_disk
def test_f17_disk_fills_and_empties_under_load(cramped, small_disk):
    load = Load(cramped, clients=6, seed=17, sizes=(0, 700, 20_000, 100_000))
    with load:
        for _ in range(3):
            load.wait_for(5)
            ballast = small_disk.fill()
            time.sleep(1)
            os.unlink(ballast)
            load.recover()
    load.check()


@on_disk
def test_f17_out_of_inodes(start_service, tmp_path):
    disk = Tmpfs(tmp_path / "disk", 64 * MIB, inodes=2000)
    service = start_service(DATA_DIR=f"{disk.path}/data", MIN_FREE_BYTES=MIN_FREE)
    service.expect_5xx = True
    kept = {service.create(b"kept %d" % n)["id"]: b"kept %d" % n for n in range(5)}
    ballast = disk.fill_inodes()
    for way in ("form", "put", "pipe"):
        answer = call(service.port, *upload_request(way, "none-left", b"x"))
        assert answer.status == 507 and answer.json()["code"] == "disk_full", str(answer)
    check_readable(service, kept)
    gone = next(iter(kept))
    assert service.delete(f"/api/files/{gone}").status_code == 200
    assert service.get(f"/api/files/{gone}").status_code == 404
    for entry in os.scandir(ballast):
        os.unlink(entry.path)
    wait_for(lambda: call(service.port, *upload_request("put", "again", b"x")).status == 201,
             "uploads are taken again", RECOVERY_SECONDS)
    service.stop()
    service.check()
    disk.close()
    service.expect_damage = True


# ---- F17: no space for lighttpd's upload spool ----

def test_f17_spool_is_bounded(start_service):
    """Bodies never take more than SPOOL_MAX_BYTES; those of the pipe route are not spooled."""
    service = start_service(SPOOL_MAX_BYTES="8M")
    service.expect_5xx = True
    made = service.create(b"made before")
    content = random_bytes(20 * MIB, seed=18)
    answer = call(service.port, *upload_request("pipe", "large", content))
    assert answer.status == 201 and answer.json()["sha256"] == sha256(content), str(answer)
    answers, lock = [], threading.Lock()

    def upload(seed):
        answer = call(service.port, *upload_request("pipe", f"s-{seed}", content[:3 * MIB]))
        with lock:
            answers.append(answer)

    threads = [threading.Thread(target=upload, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert service.get("/live").status_code == 200
        assert service.get(f"/api/files/{made['id']}").content == b"made before"
        assert service.put("/api/files/upload/a", data=b"x").status_code == 201
    for answer in answers:
        if answer.status == 201:
            assert answer.json()["sha256"] == sha256(content[:3 * MIB])
        elif answer.status is not None:
            assert answer.status in (413, 503, 507), str(answer)
            assert problem_fault(answer) is None, f"{answer} {problem_fault(answer)}"
    wait_for(lambda: call(service.port, *upload_request("pipe", "after", content[:3 * MIB])).status
             == 201, "the spool is free again", RECOVERY_SECONDS)


# ---- F17: no space for the log ----

def test_f17_full_log_disk_fails_no_request(start_service, tmp_path):
    disk = Tmpfs(tmp_path / "logs", 4 * MIB)
    service = start_service(LOG_FILE=f"{disk.path}/log", LOG_QUEUE_BYTES="64K")
    service.expect_damage = service.expect_5xx = True
    ballast = disk.fill()
    made = []
    for _ in range(150):  # more than the queue holds
        assert service.get("/api/files?limit=1").status_code == 200
    for n in range(60):
        made.append(service.create(b"file %d" % n)["id"])
        assert service.get(f"/api/files/{made[-1]}").content == b"file %d" % n
        assert service.get("/api/files?limit=1").status_code == 200
    for each in made:
        assert service.delete(f"/api/files/{each}").status_code == 200
    wait_for(lambda: service.metric("log_lines_dropped_total") > 0, "the loss is counted")
    os.unlink(ballast)

    def lines():
        """The programs' lines, and what is none: the line that met the end of the disk."""
        whole, cut = [], 0
        for line in (tmp_path / "logs" / "log").read_bytes().splitlines():
            try:
                whole.append(json.loads(line))
            except ValueError:
                cut += 1
        return [line for line in whole if line["service"] != "coffer-gateway"], cut

    def told():
        return sum(line.get("coffer.log.dropped", 0) for line in lines()[0])

    # What was kept meanwhile is written, what was not is told.
    wait_for(lambda: told() == service.metric("log_lines_dropped_total"), "the loss is told")
    assert service.get("/api/files?limit=1").status_code == 200
    service.stop()
    whole, cut = lines()
    assert cut <= 1
    assert whole[-1]["message"] == "stopped"
    uploads = [line for line in whole if line.get("http.route") == "/api/files/upload"]
    assert len(uploads) == 60 and len({line["event.id"] for line in whole}) == len(whole)
    disk.close()


# ---- F17: DATA_DIR goes away ----

@on_disk
def test_f17_data_dir_vanishes_and_returns(start_service):
    service = start_service(SWEEP_INTERVAL_SECONDS=1, SWEEP_GRACE_SECONDS=0)
    service.expect_5xx = True
    content = random_bytes(50_000, seed=19)
    made = service.create(content)
    away = service.data_dir.with_name("away")
    service.data_dir.rename(away)
    wait_for(lambda: service.get("/ready").status_code == 503, "/ready tells it", RECOVERY_SECONDS)
    # Each part is asked by itself, once a second: one may be known to be away before the other.
    wait_for(lambda: service.get("/health").status_code == 503, "/health tells it", 5)
    health = service.get("/health").json()
    assert health["status"] == "down" and health["checks"]["storage"]["status"] != "ok"
    for way in ("form", "put", "pipe"):
        answer = call(service.port, *upload_request(way, "lost", b"x", key=f"vanished-{way}"))
        assert answer.status == 503 and int(answer.headers["retry-after"]) > 0, str(answer)
        assert problem_fault(answer) is None
    for method, path in (("GET", f"/api/files/{made['id']}"), ("GET", "/api/files"),
                         ("DELETE", f"/api/files/{made['id']}"),
                         ("GET", f"/api/files/{made['id']}/meta")):
        answer = call(service.port, method, path)
        # Never "not found": what is stored there is only away.
        assert answer.ok or answer.status == 503, str(answer)
        assert method != "DELETE" or answer.status == 503
    assert service.get("/live").status_code == 200
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert not service.data_dir.exists(), "made anew, quietly"
        service.put("/api/files/upload/again", data=b"x")
        time.sleep(0.1)
    away.rename(service.data_dir)
    wait_for(lambda: service.get("/ready").status_code == 200, "/ready again", RECOVERY_SECONDS)
    assert service.get(f"/api/files/{made['id']}").content == content
    for way in ("form", "put", "pipe"):
        answer = call(service.port, *upload_request(way, "lost", b"x", key=f"vanished-{way}"))
        assert answer.status == 201, str(answer)
    assert sorted(f["originalName"] for f in service.get("/api/files").json()["files"]) == \
        sorted(["file.bin", "lost", "lost", "lost"])


@on_disk
def test_f17_data_dir_vanishes_under_load(start_service):
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=6, seed=22)
    away = service.data_dir.with_name("away")
    with load:
        for _ in range(3):
            load.wait_for(5)
            service.data_dir.rename(away)
            time.sleep(0.7)
            away.rename(service.data_dir)
            load.recover()
    load.check()


@on_disk
def test_f17_what_is_away_is_never_not_found(start_service):
    """Also where it goes after the program has found the file, and before lighttpd sends it."""
    service = start_service()
    service.expect_5xx = True
    # More of them than lighttpd keeps open.
    paths = [f"/api/files/{service.create(random_bytes(500, seed=seed))['id']}"
             for seed in range(600)]
    away = service.data_dir.with_name("away")
    seen, stop = [], threading.Event()

    def read(method):
        while not stop.is_set():
            for path in paths:
                seen.append(call(service.port, method, path))

    readers = [threading.Thread(target=read, args=[method]) for method in ("GET", "HEAD") * 2]
    for reader in readers:
        reader.start()
    until = time.monotonic() + 8
    while time.monotonic() < until:
        service.data_dir.rename(away)
        time.sleep(0.02)
        away.rename(service.data_dir)
        time.sleep(0.05)
    stop.set()
    for reader in readers:
        reader.join()
    assert {answer.status for answer in seen} == {200, 503}
    refused = [answer for answer in seen if answer.status == 503 and answer.method == "GET"]
    assert not [str(answer) for answer in refused if problem_fault(answer)]


@on_disk
def test_f17_an_empty_folder_in_its_place_is_no_store(start_service):
    """A volume that was not mounted: never taken for the store, never filled."""
    service = start_service()
    service.expect_5xx = True
    made = service.create(b"stored")
    away = service.data_dir.with_name("away")
    service.data_dir.rename(away)
    service.data_dir.mkdir(mode=0o700)
    wait_for(lambda: service.get("/ready").status_code == 503, "/ready tells it", RECOVERY_SECONDS)
    assert service.put("/api/files/upload/a", data=b"x").status_code == 503
    assert service.get(f"/api/files/{made['id']}").status_code == 503
    assert service.delete(f"/api/files/{made['id']}").status_code == 503
    assert list(service.data_dir.iterdir()) == [], "something was made in it"
    service.data_dir.rmdir()
    away.rename(service.data_dir)
    wait_for(lambda: service.get("/ready").status_code == 200, "/ready again", RECOVERY_SECONDS)
    assert service.get(f"/api/files/{made['id']}").content == b"stored"


# ---- F20: read-only, symbolic links ----

@on_disk
def test_f20_read_only_objects(start_service):
    service = start_service()
    content = random_bytes(10_000, seed=20)
    kept, gone = service.create(content), service.create(content)
    service.stop()
    mount = ReadOnly(service.data_dir / "objects")
    try:
        service.expect_5xx = True
        service.launch()
        wait_for(lambda: call(service.port, "GET", "/live", timeout=2).status == 200, "started")
        wait_for(lambda: call(service.port, "GET", "/ready").status == 503, "/ready tells it")
        for way in ("form", "put", "pipe"):
            answer = call(service.port, *upload_request(way, "ro", b"x"))
            assert answer.status in (503, 507) and problem_fault(answer) is None, str(answer)
        assert service.get(f"/api/files/{kept['id']}").content == content
        assert service.delete(f"/api/files/{gone['id']}").status_code == 200
        assert service.get(f"/api/files/{gone['id']}").status_code == 404
        service.stop()
    finally:
        mount.close()
    service.start()
    assert service.coffer("gc", "--grace", "0").returncode == 0
    assert settled(service, 1), "the bytes of the deleted file are swept"
    assert service.get(f"/api/files/{kept['id']}").content == content


@on_disk
def test_f20_read_only_data_dir(start_service):
    """Refused at the start with a clear line, or up and not ready; never half of it."""
    service = start_service()
    content = random_bytes(10_000, seed=21)
    made = service.create(content)
    service.stop()
    mount = ReadOnly(service.data_dir)
    try:
        service.expect_5xx = service.expect_unclean = True
        service.launch()
        wait_for(lambda: service.process.poll() is not None or
                 call(service.port, "GET", "/live", timeout=2).status == 200, "refused or up")
        if service.process.poll() is None:
            assert call(service.port, "GET", "/ready").status == 503
            answer = call(service.port, *upload_request("put", "ro", b"x"))
            assert answer.status in (503, 507) and problem_fault(answer) is None, str(answer)
            deleted = call(service.port, "DELETE", f"/api/files/{made['id']}")
            assert deleted.status in (503, 507), str(deleted)
        else:
            assert service.process.returncode != 0 and service.output().strip()
        service.kill_all()
    finally:
        mount.close()
    service.expect_unclean = False
    service.start()
    assert service.get(f"/api/files/{made['id']}").content == content


@on_disk
def test_f20_object_replaced_by_a_link(start_service, tmp_path):
    """The bytes of another file of the server are never sent."""
    service = start_service()
    service.expect_5xx = service.expect_damage = True
    secret = tmp_path / "secret"
    secret.write_bytes(b"another's")
    made = service.create(b"my bytes!")
    path = next(iter(service.objects()))
    path.unlink()
    path.symlink_to(secret)
    for url in (f"/api/files/{made['id']}", f"/api/files/{made['id']}/download"):
        response = service.get(url)
        assert response.status_code >= 500 and b"another" not in response.content
    assert service.coffer("fsck", check=False).returncode != 0
    service.delete(f"/api/files/{made['id']}")
    assert secret.read_bytes() == b"another's"


@on_disk
@pytest.mark.parametrize("part", ["objects", "shard"])
def test_f20_folder_replaced_by_a_link(start_service, tmp_path, part):
    """Nothing is read from it, and nothing is written into it."""
    service = start_service()
    service.expect_5xx = service.expect_damage = True
    made = service.create(b"stored")
    path = next(iter(service.objects()))
    folder = service.data_dir / "objects" if part == "objects" else path.parent
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    names = sorted(elsewhere.rglob("*"))
    assert service.get(f"/api/files/{made['id']}").status_code >= 500
    for n in range(40):
        service.put(f"/api/files/upload/{n}", data=b"x")
    assert sorted(elsewhere.rglob("*")) == names, "written through a symbolic link"


@on_disk
@pytest.mark.parametrize("part", ["", "objects"])
def test_f20_linked_parts_at_the_start(tmp_path, part):
    """DATA_DIR itself may be a link (an operator's choice, resolved once) or is refused; a link
    inside it is refused, or leaves the service not ready."""
    real = tmp_path / "real"
    first = Service(DATA_DIR=real)
    try:
        first.start().create(b"stored")
    finally:
        first.close()
    moved = tmp_path / "moved"
    target = real / part if part else real
    target.rename(moved)
    target.symlink_to(moved)
    content = sorted(moved.rglob("*"))
    second = Service(DATA_DIR=real)
    second.expect_unclean = True
    try:
        second.launch()
        wait_for(lambda: second.process.poll() is not None or
                 call(second.port, "GET", "/ready", timeout=2).status, "refused or answering")
        if second.process.poll() is not None:
            assert second.process.returncode != 0 and second.output().strip()
            return
        if part:
            assert call(second.port, "GET", "/ready").status == 503
            assert call(second.port, *upload_request("put", "a", b"x")).status == 503
            assert sorted(moved.rglob("*")) == content
        else:
            listed = second.get("/api/files").json()["files"]
            assert second.get(listed[0]["links"]["download"]).content == b"stored"
    finally:
        second.close()
