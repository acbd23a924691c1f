"""F14, F15: a database that is away, silent, forgetful or dies, through a proxy and for real. What
can't be known is told as 503, within the times that are set, and comes back."""

import json
import threading
import time
from pathlib import Path

import pytest

import backends
import servers
from exchanges import call, log_faults, problem_fault, upload_request
from faultproxy import FaultProxy
from faulty import Faulty, fixtures, timed
from history import RECOVERY_SECONDS, Load
from samples import MIB, random_bytes, sha256, unique
from service import wait_for

pytestmark = pytest.mark.backends("s3+mongodb")

TIMEOUT = 2    # seconds, MONGODB_TIMEOUT_MS: nobody is there
DEADLINE = 6   # MONGODB_DEADLINE_SECONDS: somebody is, and says nothing
NOISE = 8      # of a busy machine
SILENT = DEADLINE + NOISE


class FaultyDatabase(Faulty):
    def __init__(self, start_service, **env):
        stores = backends.current().open(None)
        proxy = FaultProxy(stores.database.uri)
        super().__init__(start_service, stores, proxy,
                         {"crash": True,  # leases are short
                          "MONGODB_TIMEOUT_MS": TIMEOUT * 1000,
                          "MONGODB_DEADLINE_SECONDS": DEADLINE, "MONGODB_URI": proxy.uri, **env})


shared, quick, faulty = fixtures(FaultyDatabase)

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def every_call(made):
    """One of each kind that needs the database."""
    path = f"/api/files/{made['id']}"
    return [("GET", path), ("HEAD", path), ("GET", path + "/meta"), ("GET", "/api/files"),
            ("PATCH", path, b'{"metadata": {"a": "b"}}', MERGE_PATCH), ("DELETE", path),
            ("POST", "/api/files/delete", json.dumps({"ids": [made["id"]]}),
             {"Content-Type": "application/json"}),
            *(upload_request(way, unique(), b"x") for way in ("form", "put", "pipe")),
            upload_request("put", unique(), b"x", unique("key"))]


def asked(quick, request):
    return timed(quick.call, *request)


def unavailable(answer, took, within):
    assert answer.status in (503, 504), str(answer)
    assert took < within, f"{answer} after {took:.2f} s"
    if answer.method == "HEAD":
        return
    assert problem_fault(answer) is None, f"{answer} {problem_fault(answer)}"
    assert answer.json()["code"] in ("metadata_unavailable", "upstream_timeout"), str(answer)
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1


def all_unavailable(quick, made, within):
    for request in every_call(made):
        answer, took = asked(quick, request)
        unavailable(answer, took, within)
    assert quick.call("GET", "/live").status == 200
    ready, took = asked(quick, ("GET", "/ready"))
    assert ready.status == 503 and took < within
    health = quick.call("GET", "/health")
    assert health.status == 503 and health.json()["checks"]["metadata"]["status"] != "ok"


def test_a_killed_process_leaves_nothing_in_shared_memory(quick):
    quick.service.create(b"x")
    pids = {name: quick.service.pids(name) for name in ("files_upload", "files_list")}
    assert all(pids.values()), pids
    assert not [pid for each in pids.values() for pid in each
                if Path(f"/dev/shm/mongoc-{pid}").exists()]


# ---- away ----

def test_refused(quick):
    made = quick.service.create(b"kept" * 9)
    quick.proxy.refuse()
    all_unavailable(quick, made, TIMEOUT + NOISE)
    quick.recovered()
    assert quick.call("GET", f"/api/files/{made['id']}").body == b"kept" * 9
    assert len(quick.listed()) == 1, "a call that was refused was carried out"
    quick.settled(1)


def test_silent(quick):
    made = quick.service.create(b"kept" * 9)
    quick.proxy.silent()
    all_unavailable(quick, made, SILENT)
    quick.recovered()
    assert quick.call("GET", f"/api/files/{made['id']}").body == b"kept" * 9


def test_many_callers_of_a_silent_database(quick):
    """They wait at the same time, not one after the other."""
    made = quick.service.create(b"x")
    quick.proxy.silent()
    answers = []

    def ask(number):
        path = "/api/files?limit=1" if number % 2 else f"/api/files/{made['id']}/meta"
        answers.append(asked(quick, ("GET", path)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 24
    for answer, took in answers:
        unavailable(answer, took, SILENT)
    quick.recovered()


def test_refused_from_the_start_and_back(faulty):
    quick = faulty()
    quick.service.stop()
    quick.proxy.refuse()
    quick.service.launch()
    wait_for(lambda: quick.service.process.poll() is not None or
             call(quick.service.port, "GET", "/live", timeout=2).status == 200,
             "up or refused", 40)
    if quick.service.process.poll() is not None:
        assert quick.service.output().strip()
        quick.proxy.accept()
        quick.service.start()
    else:
        assert quick.call("GET", "/ready").status == 503
    quick.recovered()


# ---- breaks ----

@pytest.mark.parametrize("fault", ["cut", "reset", "truncate"])
def test_broken_connections_are_replaced(quick, fault):
    """The next call notices it and is run again: nobody sees it."""
    made = quick.service.create(b"kept")
    for request in (("GET", f"/api/files/{made['id']}/meta"), ("GET", "/api/files"),
                    ("GET", f"/api/files/{made['id']}"),
                    ("PATCH", f"/api/files/{made['id']}", b'{"metadata": {"a": "b"}}',
                     MERGE_PATCH),
                    upload_request("put", unique(), b"new", unique("key"))):
        if fault == "cut":
            quick.proxy.cut()
        elif fault == "reset":
            quick.proxy.reset(times=1, method="find|insert|update|findAndModify")
        else:
            quick.proxy.truncate(after=10, times=1, method="find")
        answer = quick.call(*request)
        assert answer.ok, str(answer)
        quick.proxy.clear()
    assert len(quick.listed()) == 2


@pytest.mark.parametrize("code, name", [(10107, "NotWritablePrimary"), (91, "ShutdownInProgress"),
                                        (11600, "InterruptedAtShutdown"),
                                        (13435, "NotPrimaryNoSecondaryOk")])
def test_f14_the_primary_steps_down(quick, code, name):
    """Writes that meet it are run again; where it lasts, 503 in time."""
    made = quick.service.create(b"kept")
    for method in ("insert", "update", "findAndModify"):
        quick.proxy.error(code, name, times=1, method=method)
    uploaded = quick.upload(content=b"new", key=unique("key"))
    assert uploaded.status == 201, str(uploaded)
    changed = quick.call("PATCH", f"/api/files/{made['id']}", b'{"metadata": {"a": "b"}}',
                         MERGE_PATCH)
    assert changed.status == 200, str(changed)
    quick.proxy.clear()
    for method in ("insert", "update", "findAndModify"):
        quick.proxy.error(code, name, method=method)
    for request in (upload_request("put", unique(), b"x"),
                    ("PATCH", f"/api/files/{made['id']}", b'{"metadata": {"c": "d"}}',
                     MERGE_PATCH),
                    ("DELETE", f"/api/files/{made['id']}")):
        answer, took = asked(quick, request)
        unavailable(answer, took, SILENT)
    quick.recovered()
    quick.settled(len(quick.listed()))


# ---- F15: lost replies ----

def check_total(quick, files, is_known):
    """Right at once where the change was acknowledged, else when a sweep has counted the rows."""
    def total():
        return quick.service.get("/api/files").json()["total"]

    if is_known:
        assert total() == files
    wait_for(lambda: total() == files, f"a total of {files}", RECOVERY_SECONDS)


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("ending", ["close", "reset", "silent"])
@pytest.mark.parametrize("command", ["insert", "update", "findAndModify"])
def test_f15_lost_replies_of_an_upload(quick, command, ending, times):
    """What was done and not told is found out, or told as unknown; with its key a client gets one
    file whatever it was."""
    content, name, key = random_bytes(20_000, seed=15), unique(), unique("key")
    quick.proxy.lost_reply(ending=ending, times=times, method=command)
    answer, took = asked(quick, upload_request("put", name, content, key))
    quick.proxy.clear()
    if answer.status != 201:
        unavailable(answer, took, 2 * SILENT)
    seen = []

    def known():
        seen.append(quick.upload("put", content, name, key))
        return seen[-1].status not in (409, 503)

    wait_for(known, "the key is free", RECOVERY_SECONDS + 2, 0.2)
    again = seen[-1]
    assert again.status == 201, str(again)
    if answer.status == 201:
        assert again.json()["id"] == answer.json()["id"]
    listed = quick.listed()
    assert [each["id"] for each in listed] == [again.json()["id"]]
    check_total(quick, 1, answer.status == 201)
    assert sha256(quick.call("GET", f"/api/files/{listed[0]['id']}").body) == sha256(content)
    quick.settled(1)


@pytest.mark.parametrize("ending", ["close", "reset", "silent"])
def test_f15_lost_replies_of_changes_and_deletes(quick, ending):
    kept, gone = quick.service.create(b"kept"), quick.service.create(b"gone")
    for command in ("update", "findAndModify"):
        quick.proxy.lost_reply(ending=ending, times=1, method=command)
    changed, took = asked(quick, ("PATCH", f"/api/files/{kept['id']}",
                                  b'{"metadata": {"a": "b"}}', MERGE_PATCH))
    if changed.status != 200:
        unavailable(changed, took, 2 * SILENT)
    quick.proxy.clear()
    for command in ("update", "findAndModify"):
        quick.proxy.lost_reply(ending=ending, times=1, method=command)
    deleted, took = asked(quick, ("DELETE", f"/api/files/{gone['id']}"))
    if deleted.status != 200:
        unavailable(deleted, took, 2 * SILENT)
    quick.proxy.clear()
    assert quick.call("DELETE", f"/api/files/{gone['id']}").status in (200, 404)
    assert quick.call("GET", f"/api/files/{gone['id']}").status == 404
    meta = quick.call("GET", f"/api/files/{kept['id']}/meta").json()["metadata"]
    assert meta in ({}, {"a": "b"}) and (changed.status != 200 or meta == {"a": "b"})
    # The reply that was lost may have been the one to the total's own update.
    check_total(quick, 1, False)
    quick.settled(1)


@pytest.mark.parametrize("code, name, status", [(14031, "OutOfDiskSpace", 507),
                                                (1, "InternalError", 500)])
def test_f15_a_lost_reply_and_another_failure_keep_the_bytes(quick, code, name, status):
    """The row of the first run is there, whatever the second run failed with."""
    content = random_bytes(20_000, seed=16)
    quick.proxy.lost_reply(times=1, method="insert", path="files")
    quick.proxy.error(code, name, method="insert", path="files")
    assert quick.upload(content=content).status == status
    quick.proxy.clear()
    [made] = quick.listed()
    assert quick.call("GET", f"/api/files/{made['id']}").body == content
    quick.settled(1)


def test_f15_an_interrupted_insert_keeps_the_bytes(quick):
    """The server made the row and says that it failed: who is told so keeps the bytes."""
    quick.proxy.error(1, "InternalError", times=1, method="insert", path="files")
    assert quick.upload().status == 500
    quick.proxy.clear()
    assert len(quick.service.objects()) == 1
    quick.empty()


# ---- under load ----

def faults_in_turn(proxy):
    yield proxy.refuse
    yield proxy.cut
    yield proxy.silent
    yield lambda: proxy.reset(times=20)
    yield lambda: proxy.slow(3000)
    yield lambda: proxy.delay(0.3)
    yield lambda: proxy.lost_reply(method="insert", times=10)
    yield lambda: proxy.lost_reply("reset", method="update", times=10)
    yield lambda: proxy.lost_reply("silent", method="findAndModify", times=5)
    yield lambda: proxy.truncate(after=20, times=10)
    yield lambda: proxy.error(91, "ShutdownInProgress", times=20)


def test_f14_f15_under_load(quick):
    load = Load(quick.service, clients=6, seed=15, sizes=(0, 700, 20_000), pause=0.02)
    with load:
        for fault in faults_in_turn(quick.proxy):
            load.wait_for(2, 30)
            fault()
            time.sleep(1.2)
            quick.proxy.clear()
            load.recover()
    assert load.acknowledged() > 20
    load.check()


def test_f14_kill_and_restart_of_the_database_under_load(start_service):
    """What was acknowledged is there after the server died."""
    with servers.FerretDB() as server:
        database = backends.Database(server.uri)
        objects = backends.current().open(None).objects
        service = start_service(stores=backends.Stores(objects, database))
        service.expect_5xx = True
        load = Load(service, clients=6, seed=16, sizes=(0, 700, 20_000, 300_000), pause=0.02)
        with load:
            for ending in (server.kill, server.stop, server.kill):
                load.wait_for(5, 40)
                ending()
                time.sleep(1)
                refused = call(service.port, "GET", "/api/files?limit=1")
                assert refused.status in (503, 504), str(refused)
                server.start()
                load.recover()
        load.check()
        service.close()


def test_f14_both_stores_pause_under_load(start_service):
    """SIGSTOP and SIGCONT: connections stay, nothing is answered meanwhile."""
    with servers.FerretDB() as server, servers.SeaweedFS() as store:
        stores = backends.Stores(backends.BucketObjects(store=store),
                                 backends.Database(server.uri))
        service = start_service(stores=stores, S3_STALL_SECONDS=2, S3_DEADLINE_SECONDS=4,
                                S3_PART_SIZE="5M", MONGODB_TIMEOUT_MS=2000)
        service.expect_5xx = True
        load = Load(service, clients=6, seed=17, sizes=(0, 700, 20_000, 6 * MIB), pause=0.02)
        with load:
            for each in (server, store):
                load.wait_for(3, 40)
                each.pause()
                time.sleep(3)
                each.resume()
                load.recover()
        load.check()
        service.close()


# ---- secrets ----

def test_the_password_is_told_nowhere(start_service, tmp_path):
    """FerretDB knows no users: what matters here is what we say when it refuses or is away."""
    stores = backends.current().open(None)
    secret = "s3cr3t-of-mongo-" + unique().replace("-", "")
    host = stores.database.uri.removeprefix("mongodb://").rstrip("/")
    uri = f"mongodb://coffer:{secret}@{host}/?authSource=admin&authMechanism=SCRAM-SHA-256"
    service = start_service(stores=stores)
    service.stop()
    file = tmp_path / "uri"
    file.write_text(uri + "\n")
    service.expect_5xx = service.expect_unclean = True
    service.extra_env.update(MONGODB_URI="", MONGODB_URI_FILE=str(file))
    service.launch()
    wait_for(lambda: service.process.poll() is not None or
             call(service.port, "GET", "/live", timeout=2).status == 200, "up or refused", 40)
    said = service.output()
    if service.process.poll() is None:
        for path in ("/ready", "/health", "/api/files", "/api/metrics"):
            said += str(call(service.port, "GET", path).body)
    shown = service.coffer("config", check=False)
    said += shown.stdout + shown.stderr + service.coffer("fsck", check=False).stderr
    said += service.gateway_log() + service.log_file.read_text()
    for pid in service.all_pids():
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            said += line.read().decode(errors="replace")
    assert secret not in said
    assert not log_faults(service.log_file, [secret])
    service.kill_all()
