"""F9–F13: a store that is away, silent, slow, wrong or forgetful, through a proxy that does it
(faultproxy.py). The settings here are short where the defaults are long, so that tests are quick."""

import threading
import time

import pytest

import backends
import servers
from exchanges import call, log_faults, problem_fault, upload_request
from faultproxy import FaultProxy
from framing import check_raw_problem
from history import RECOVERY_SECONDS, Load
from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import MIB, random_bytes, sha256, unique
from service import open_service, wait_for

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite")

QUICK = 2         # seconds, until a store that refuses is told
NOISE = 1.5       # seconds, of a busy machine
STALL = 2
DEADLINE = 4
SMALL, LARGE = 20_000, 12 * MIB  # one PUT; three parts


class Faulty:
    """A service whose store is behind a proxy."""

    def __init__(self, start_service, **env):
        self.stores = backends.current().open(None)
        self.objects = self.stores.objects
        self.proxy = FaultProxy(self.objects.store.endpoint)
        settings = {"S3_STALL_SECONDS": STALL, "S3_DEADLINE_SECONDS": DEADLINE,
                    "SWEEP_INTERVAL_SECONDS": 2, **env}
        self.service = start_service(stores=self.stores, S3_ENDPOINT=self.proxy.endpoint,
                                     **settings)
        self.service.expect_5xx = True
        # The first object of a bucket takes a store longer than all that follow.
        self.objects.write("first", b"x")
        self.objects.remove("first")

    def upload(self, way="put", content=b"x", name=None, key=None, timeout=60):
        return call(self.service.port, *upload_request(way, name or unique(), content, key),
                    timeout=timeout)

    def read(self, made, **options):
        return call(self.service.port, "GET", f"/api/files/{made['id']}", **options)

    def retries(self):
        return self.service.metric("storage_operations_total", operation="retry")

    def recovered(self):
        """I8: everything works again within ten seconds, of itself."""
        self.proxy.clear()
        load = Load(self.service, clients=0)
        load.recover()
        assert not load.violations, load.violations

    def empty(self):
        self.proxy.clear()
        self.proxy.forget()
        wait_for(lambda: call(self.service.port, "GET", "/ready").status == 200, "ready",
                 2 * RECOVERY_SECONDS)
        while ids := [each["id"] for each in self.service.get("/api/files").json()["files"]]:
            assert self.service.post("/api/files/delete", json={"ids": ids}).status_code == 200
        self.service.coffer("gc", "--grace", "0")
        self.stores.objects.abort_all()
        wait_for(lambda: self.service.stored_bytes() == {}, "nothing is stored", RECOVERY_SECONDS)

    def settled(self, files, unknown=False):
        """No object but those of so many files, and no unfinished upload, unless nobody was told of
        its beginning: those are swept a day later."""
        self.service.coffer("gc", "--grace", "0")
        wait_for(lambda: len(self.objects.every()) == files, f"{files} objects", RECOVERY_SECONDS)
        assert unknown or self.objects.unfinished() == {}

    def close(self):
        self.proxy.clear()
        try:
            self.service.close()
        finally:
            self.proxy.close()


@pytest.fixture
def faulty(start_service):
    made = []

    def start(**env):
        made.append(Faulty(start_service, **env))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def shared():
    made = Faulty(lambda **options: open_service(**options).start())
    yield made
    made.close()


@pytest.fixture
def quick(shared):
    """The same for all tests that leave it running; empty."""
    shared.empty()
    yield shared
    shared.proxy.clear()


def failed(answer, statuses, code=None, within=None, took=None):
    """A proper problem with one of these statuses, in time."""
    assert answer.status in statuses, str(answer)
    fault = problem_fault(answer)
    assert fault is None, f"{answer} {fault}"
    if code:
        assert answer.json()["code"] == code, str(answer)
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1
    if within:
        assert took < within, f"{took:.2f} s"


def timed(act, *args, **options):
    started = time.monotonic()
    return act(*args, **options), time.monotonic() - started


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
    """A store that comes up later than the service: it waits for it, or refuses with a clear line."""
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

LIMIT = 2 * DEADLINE + 2 * NOISE  # what became of an upload is asked for, too


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
    assert len(answers) == 24 and count > 10 and slowest < 1.5, f"{slowest:.2f} s"
    quick.recovered()


# ---- F11: errors ----

# What an upload of one PUT, one of parts, and a download ask of the store.
CALLS = {
    "put": ({"method": "PUT", "path": r"^[^?]*$"}, SMALL),
    "create": ({"method": "POST", "path": r"\?uploads"}, LARGE),
    "part": ({"method": "PUT", "path": "partNumber=2"}, LARGE),
    "complete": ({"method": "POST", "path": r"uploadId="}, LARGE),
}


@pytest.mark.parametrize("status", [500, 503, "reset"])
@pytest.mark.parametrize("name", CALLS)
def test_f11_one_failure_of_an_upload_is_repeated(quick, name, status):
    match, size = CALLS[name]
    content = random_bytes(size, seed=5)
    before = quick.retries()
    fault = (quick.proxy.reset(times=1, **match) if status == "reset"
             else quick.proxy.status(status, times=1, **match))
    made = quick.upload("put", content)
    assert fault.hits == 1
    assert made.status == 201, str(made)
    assert made.json()["sha256"] == sha256(content)
    assert quick.retries() == before + 1
    assert quick.read(made.json()).body == content
    quick.settled(1)


@pytest.mark.parametrize("status", [500, 503, "reset"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}])
def test_f11_one_failure_of_a_download_is_repeated(quick, status, headers):
    content = random_bytes(SMALL, seed=6)
    made = quick.service.create(content)
    before = quick.retries()
    fault = (quick.proxy.reset(times=1, method="GET") if status == "reset"
             else quick.proxy.status(status, times=1, method="GET"))
    answer = quick.read(made, headers=headers)
    assert fault.hits == 1
    assert answer.body == (content[5:10] if headers else content), str(answer)
    assert quick.retries() == before + 1


@pytest.mark.parametrize("status, expected", [
    (500, (503, "storage_unavailable")), (503, (503, "storage_unavailable")),
    (403, (502, "storage_error")),
])
@pytest.mark.parametrize("name", CALLS)
def test_f11_uploads_that_always_fail(quick, name, status, expected):
    match, size = CALLS[name]
    key = unique("key")
    fault = quick.proxy.status(status, **match)
    answer, took = timed(quick.upload, "put", random_bytes(size, seed=7), key=key)
    failed(answer, {expected[0]}, expected[1], LIMIT, took)
    # What the store refuses for good is not asked again and again.
    assert fault.hits == (1 if 400 <= status < 500 else 3)
    quick.proxy.clear()
    assert quick.service.get("/api/files").json()["total"] == 0
    quick.settled(0)
    assert quick.upload("put", b"now", key=key, name="again").status in (201, 422)
    quick.recovered()


@pytest.mark.parametrize("status, expected", [
    (500, (503, "storage_unavailable")), (503, (503, "storage_unavailable")),
    (403, (502, "storage_error")), (404, (500, "internal")), (204, (502, "storage_error")),
])
def test_f11_downloads_that_always_fail(quick, status, expected):
    """404 for bytes that must be there is our failure, never "not found"."""
    content = random_bytes(SMALL, seed=8)
    made = quick.service.create(content)
    fault = quick.proxy.status(status, method="GET", path=made["key"])
    for headers in ({}, {"Range": "bytes=0-4"}):
        answer, took = timed(quick.read, made, headers=headers)
        failed(answer, {expected[0]}, expected[1], LIMIT, took)
    assert fault.hits >= 2
    assert quick.service.get(f"/api/files/{made['id']}/meta").json()["status"] == "ready"
    lines = [line for line in quick.service.log_lines()
             if line.get("url.path") == f"/api/files/{made['id']}"]
    assert [line["log.level"] for line in lines] == ["error", "error"], lines
    quick.recovered()
    assert quick.read(made).body == content


@pytest.mark.parametrize("status", [500, 503, 403])
def test_f11_deletes_do_not_wait_for_the_store(quick, status):
    made = quick.service.create(b"x")
    fault = quick.proxy.status(status, method="DELETE")
    assert quick.service.delete(f"/api/files/{made['id']}").status_code == 200
    check_problem(quick.service.get(f"/api/files/{made['id']}"), 404, "not_found")
    fault.wait(1)
    assert made["key"] in quick.objects.every()
    fault.clear()
    wait_for(lambda: quick.objects.every() == {}, "its bytes are swept", 15)


def test_f11_a_bucket_that_is_gone(faulty):
    """Somebody removed it: away, not "not found", and made anew by nobody but `coffer init`."""
    quick = faulty()
    made = quick.service.create(b"x")
    quick.service.expect_damage = True
    quick.objects.drop()
    failed(quick.upload(), {503}, "storage_unavailable")
    failed(quick.read(made), {503, 500})
    wait_for(lambda: quick.service.get("/ready").status_code == 503, "/ready tells it", 10)
    assert quick.service.get("/api/files").json()["total"] == 1
    quick.service.delete(f"/api/files/{made['id']}")
    quick.service.coffer("init")
    quick.recovered()


# ---- F12: nonsense ----

def read_to_the_end(quick, made, headers=()):
    """What a client gets, raw; how long it took."""
    started = time.monotonic()
    with RawConnection(quick.service, timeout=40) as connection:
        connection.send(raw_request("GET", f"/api/files/{made['id']}", headers))
        return connection.read(), time.monotonic() - started


WRONG = {
    "flipped": lambda proxy, size, match: proxy.flip(at=size // 2, **match),
    "flipped last": lambda proxy, size, match: proxy.flip(at=size - 1, **match),
    # Again and again: a download goes on where it broke, but not for ever.
    "truncated": lambda proxy, size, match: proxy.truncate(after=size // 5, **match),
    "reset": lambda proxy, size, match: proxy.reset(after=size // 5, **match),
    "extra": lambda proxy, size, match: proxy.extra(count=5, **match),
    "huge headers": lambda proxy, size, match: proxy.huge_headers(**match),
    "redirect": lambda proxy, size, match: proxy.redirect("http://127.0.0.1:1/", **match),
}
BEFORE_ANYTHING = ("extra", "huge headers", "redirect")


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", WRONG)
def test_f12_wrong_downloads_are_never_whole(quick, kind, size):
    content = random_bytes(size, seed=9)
    made = quick.service.create(content)
    fault = WRONG[kind](quick.proxy, size, {"method": "GET", "path": made["key"]})
    answer, took = read_to_the_end(quick, made)
    assert fault.hits >= 1
    if size == SMALL or kind in BEFORE_ANYTHING:
        problem = check_raw_problem(answer, answer.status)
        assert answer.status in (502, 503, 504), problem
    else:
        assert answer.status == 200 and not answer.complete and answer.closed
        assert len(answer.body) < size
        if kind != "flipped":
            assert content.startswith(answer.body), "wrong bytes were sent"
        # It is told at once, not when a timeout of the gateway is over.
        assert took < 5 + NOISE, f"cut after {took:.1f} s"
    lines = [line for line in quick.service.log_lines()
             if line.get("url.path") == f"/api/files/{made['id']}"]
    assert lines[-1]["log.level"] == "error", lines[-1]
    assert quick.service.metric("storage_operations_total", operation="get") > 0
    quick.recovered()
    assert quick.read(made).body == content


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", ["truncate", "reset"])
@pytest.mark.parametrize("left", [1, 5000])
def test_f12_a_break_is_mended_where_it_can_be(quick, kind, size, left):
    """The download goes on where it broke, and the client sees nothing of it."""
    content = random_bytes(size, seed=10)
    made = quick.service.create(content)
    fault = getattr(quick.proxy, kind)(after=size - left, method="GET", path=made["key"])
    answer = quick.read(made)
    assert fault.hits == 2
    assert answer.status == 200 and answer.body == content


def test_f12_bytes_after_an_answer_harm_nobody(quick):
    content = random_bytes(SMALL, seed=11)
    made = quick.service.create(content)
    fault = quick.proxy.extra(count=300, framed=False, method="GET", path=made["key"])
    for _ in range(10):
        answer = quick.read(made)
        assert (answer.status == 200 and answer.body == content) or answer.status in (502, 503)
    assert fault.hits >= 10
    quick.proxy.clear()
    for _ in range(10):
        assert quick.read(made).body == content


# A whole download is judged by its hash, so another tag is no fault of it; see test_s3_objects.
TAGS = {
    "other tag": lambda proxy, size, match: proxy.header("ETag", '"another"', **match),
    "no tag": lambda proxy, size, match: proxy.header("ETag", None, **match),
}


@pytest.mark.parametrize("kind", TAGS)
def test_f12_ranges_are_judged_by_the_tag(quick, kind):
    content = random_bytes(SMALL, seed=9)
    made = quick.service.create(content)
    fault = TAGS[kind](quick.proxy, SMALL, {"method": "GET", "path": made["key"]})
    answer = quick.read(made, headers={"Range": "bytes=0-9"})
    assert fault.hits >= 1
    failed(answer, {502}, "storage_error")
    whole = quick.read(made)
    assert whole.body == content or whole.status == 502
    quick.recovered()


GARBLED = [(name, kind) for name in CALLS
           for kind in ("flipped", "other tag", "huge headers", "redirect", "no tag")
           if kind != "flipped" or name in ("put", "part")]  # where there is content


@pytest.mark.parametrize("name, kind", GARBLED)
def test_f12_uploads_that_the_store_garbles(quick, name, kind):
    """Refused, or whole and right: never a file that is something else."""
    match, size = CALLS[name]
    content, key = random_bytes(size, seed=12), unique("key")
    if kind == "flipped":
        fault = quick.proxy.flip(at=1000, direction="request", **match)
    else:
        fault = {**WRONG, **TAGS}[kind](quick.proxy, size, match)
    answer = quick.upload("put", content, key=key)
    assert fault.hits >= 1
    quick.proxy.clear()
    total = quick.service.get("/api/files").json()["total"]
    if answer.status == 201:
        assert kind in ("other tag", "no tag", "huge headers")
        assert quick.read(answer.json()).body == content
        assert total == 1
    else:
        failed(answer, {502, 503})
        assert total == 0
    quick.settled(total, unknown=name == "create")
    quick.recovered()


# ---- F13: lost replies ----

@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("ending", ["close", "reset", "silent"])
@pytest.mark.parametrize("name", CALLS)
def test_f13_lost_replies(quick, name, ending, times):
    """The store did what it was asked and nobody was told: one file with its bytes, or none."""
    match, size = CALLS[name]
    content, key = random_bytes(size, seed=13), unique("key")
    fault = quick.proxy.lost_reply(ending=ending, times=times, **match)
    file_name = unique()
    answer, took = timed(quick.upload, "put", content, file_name, key=key)
    assert fault.hits >= 1 and took < LIMIT
    listed = quick.service.get("/api/files").json()["files"]
    if answer.status == 201:
        assert [each["id"] for each in listed] == [answer.json()["id"]]
    else:
        failed(answer, {502, 503, 504})
        assert listed == []
    if times == 1 and ending != "silent":
        assert answer.status == 201, "what one lost reply hides can be found out"
    quick.proxy.clear()
    again = quick.upload("put", content, file_name, key=key)
    assert again.status == 201, str(again)
    assert ("idempotency-replayed" in again.headers) == (answer.status == 201)
    listed = quick.service.get("/api/files").json()["files"]
    assert [each["id"] for each in listed] == [again.json()["id"]]
    assert quick.read(again.json()).body == content
    quick.settled(1, unknown=name == "create")


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
        service = start_service(stores=backends.Stores(objects, database))
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
