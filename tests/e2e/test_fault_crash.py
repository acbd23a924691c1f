"""F1, F2: the power of kill -9 at every step of an upload and of a delete, and at any moment of a
mixed load. What was acknowledged stays, what was not is wholly there or not at all."""

import itertools
import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import backends
from exchanges import call, upload_request
from history import RECOVERY_SECONDS, Load, kill_now
from samples import random_bytes, sha256, unique
from service import REPOSITORY, running, wait_for

# What each driver passes, in its order.
PUT_POINTS = {
    "fs": ("put.begun", "put.first_write", "put.written", "put.synced", "put.linked",
           "put.dir_synced"),
    "s3": ("put.begun", "put.first_write", "put.stored", "put.written"),
    "libs3": ("put.begun", "put.first_write", "put.sent", "put.written"),
}
# Of an upload in parts.
PARTS_POINTS = {
    "s3": ("put.multipart_created", "put.part_sent", "put.before_complete", "put.completed",
           "put.tagged"),
}
INSERT_POINTS = {
    "sqlite": ("insert.before_commit", "insert.committed"),
    "mongodb": ("insert.before_commit", "insert.committed", "insert.counted"),
}
MARK_POINTS = {
    "sqlite": ("delete.before_commit", "delete.committed"),
    "mongodb": ("delete.before_commit", "delete.committed", "delete.counted"),
}
# Of a delete of many, which marks them in more than one step.
BATCH_POINTS = {
    "sqlite": (),
    "mongodb": ("delete.some_marked",),
}
UNLINK_POINTS = {"fs": ("remove.before_unlink", "remove.unlinked")}
REMOVE_POINTS = ("remove.before_commit", "remove.committed")
UPDATE_POINTS = {"mongodb": ("update.before_commit", "update.committed", "update.settled")}
# From these points on the change is committed, whatever the client was told.
COMMITTED = ("insert.committed", "insert.counted", "upload.before_reply", "delete.committed",
             "delete.counted", "remove.before_unlink", "remove.unlinked", "remove.before_commit",
             "remove.committed", "delete.before_reply", "update.committed", "update.settled")

BACKEND = backends.current()
UPLOAD_POINTS = (*PUT_POINTS[BACKEND.storage], *PARTS_POINTS.get(BACKEND.storage, ()),
                 *INSERT_POINTS[BACKEND.metadata], "upload.before_reply")
DELETE_POINTS = (*MARK_POINTS[BACKEND.metadata], *UNLINK_POINTS.get(BACKEND.storage, ()),
                 *REMOVE_POINTS, "delete.before_reply")
# Where bytes are removed by a thread after the answer, a delete does not pass these itself.
LATER = () if BACKEND.storage == "fs" else REMOVE_POINTS


class Trap:
    """A service whose programs die at a point, once each time it is armed."""

    def __init__(self, service, folder):
        self.service = service
        self.folder = folder
        self.armed = None

    def arm(self, point):
        """The file is there with its text, or not at all."""
        self.armed = self.folder / point
        new = self.folder / "new"
        new.write_text("kill")
        new.rename(self.armed)

    def sprung(self):
        return not self.armed.exists()

    def call(self, *request):
        return call(self.service.port, *request)

    def load(self, **options):
        """Names of its own each time, for the service is the module's."""
        return Load(self.service, clients=4, seed=next(SEEDS), **options)

    def check_under(self, load, point, seconds=10):
        """The same death within a mixed load; then all that must hold."""
        with load:
            load.wait_for(3)
            self.arm(point)
            wait_for(self.sprung, f"the load passes {point}", seconds)
            load.wait_for(3)
        load.check()
        load.clean_up()


SEEDS = itertools.count(100)


def trapped(folder, **settings):
    for service in running(crash=True, CRASH_FOLDER=str(folder), **settings):
        service.expect_5xx = True
        yield Trap(service, folder)


@pytest.fixture(scope="module")
def trap(tmp_path_factory):
    yield from trapped(tmp_path_factory.mktemp("points"), SWEEP_INTERVAL_SECONDS=2,
                       S3_PART_SIZE="5M")


@pytest.fixture(scope="module")
def unswept_trap(tmp_path_factory):
    """Deleted rows stay until a test looks at them."""
    yield from trapped(tmp_path_factory.mktemp("points"), SWEEP_INTERVAL_SECONDS=3600)


@pytest.fixture(autouse=True)
def disarmed(request):
    """What a failed test leaves armed kills nobody later."""
    yield
    for name in {"trap", "unswept_trap"} & set(request.fixturenames):
        trap = request.getfixturevalue(name)
        if trap.armed:
            trap.armed.unlink(missing_ok=True)


def until_answered(trap, request):
    """Repeats a request until it is answered without a fault, as a client does."""
    seen = []

    def answered():
        seen.append(trap.call(*request))
        return not seen[-1].failed and seen[-1].status != 409

    wait_for(answered, f"answer to {request[:2]}", RECOVERY_SECONDS, 0.1)
    return seen[-1]


# The three ways to upload share their steps: "put" stands for all, the others try two of them.
UPLOADS = [(point, "put") for point in UPLOAD_POINTS] + [
    (point, way) for point in ("put.first_write", "insert.committed") for way in ("form", "pipe")
]


@pytest.mark.parametrize("point, way", UPLOADS)
def test_f1_upload_killed_at(trap, point, way):
    in_parts = point in PARTS_POINTS.get(BACKEND.storage, ())
    content, name = random_bytes(12_000_000 if in_parts else 700_000, seed=1), unique()
    load = trap.load(sizes=(0, 700, 6_000_000 if in_parts else 20_000))
    request = upload_request(way, name, content, key=f"key-{name}")
    trap.arm(point)
    crashed = trap.call(*request)
    assert trap.sprung(), f"nothing passes {point}"
    assert crashed.failed, f"answered by a program that was killed: {crashed}"
    made = until_answered(trap, request)
    assert made.status == 201 and made.json()["sha256"] == sha256(content)
    if point in COMMITTED:
        assert made.headers.get("idempotency-replayed") == "true"
    again = trap.call(*request)
    assert (again.status, again.json()["id"]) == (201, made.json()["id"])
    load.other_names.add(name)
    trap.check_under(load, point)
    files = [f for f in load.list_all() if f["originalName"] == name]
    assert [f["id"] for f in files] == [made.json()["id"]], "one key, more than one file"
    assert trap.service.get(f"/api/files/{files[0]['id']}").content == content


@pytest.mark.parametrize("point", [point for point in DELETE_POINTS if point not in LATER])
def test_f2_delete_killed_at(trap, point):
    content, name = random_bytes(50_000, seed=2), unique()
    made = trap.service.create(content, name)
    path = f"/api/files/{made['id']}"
    load = trap.load(sizes=(0, 700, 20_000))
    trap.arm(point)
    crashed = trap.call("DELETE", path)
    assert trap.sprung(), f"nothing passes {point}"
    assert crashed.failed, f"answered by a program that was killed: {crashed}"
    between = until_answered(trap, ("GET", path))
    if point in COMMITTED:
        assert between.status == 404, f"readable after its delete was committed: {between.status}"
    else:
        assert (between.status, between.body) == (200, content)
    again = until_answered(trap, ("DELETE", path))
    assert again.status == (404 if point in COMMITTED else 200)
    assert trap.call("GET", path).status == 404
    load.other_names.discard(name)
    trap.check_under(load, point)


@pytest.mark.backends("s3+mongodb")
@pytest.mark.parametrize("point", LATER)
def test_f2_removal_after_the_answer_killed_at(trap, point):
    """The answer was given before: the bytes go when the program is back, at the next sweep."""
    kept = trap.service.create(b"kept" * 99, unique())
    gone = trap.service.create(b"gone" * 99, unique())
    load = trap.load(sizes=(0, 700, 20_000))
    trap.arm(point)
    answer = trap.call("DELETE", f"/api/files/{gone['id']}")
    assert answer.failed or answer.status == 200, str(answer)
    wait_for(trap.sprung, f"the removal passes {point}", 10)
    assert until_answered(trap, ("GET", f"/api/files/{gone['id']}")).status == 404
    wait_for(lambda: gone["key"] not in trap.service.objects(), "the bytes are swept", 20)
    assert kept["key"] in trap.service.objects()
    load.other_names.discard(gone["originalName"])
    trap.check_under(load, point, 20)


@pytest.mark.backends("s3+mongodb")
@pytest.mark.parametrize("point", UPDATE_POINTS.get(BACKEND.metadata, ()))
def test_f1_change_killed_at(trap, point):
    path = f"/api/files/{trap.service.create(b'x', unique())['id']}"
    request = ("PATCH", path, '{"metadata": {"a": "b"}}',
               {"Content-Type": "application/merge-patch+json", "Idempotency-Key": unique("change")})
    trap.arm(point)
    crashed = trap.call(*request)
    assert trap.sprung(), f"nothing passes {point}"
    assert crashed.failed, f"answered by a program that was killed: {crashed}"
    between = until_answered(trap, ("GET", path + "/meta")).json()["metadata"]
    assert between == ({"a": "b"} if point in COMMITTED else {})
    made = until_answered(trap, request)
    assert made.status == 200 and made.json()["metadata"] == {"a": "b"}
    if point in COMMITTED:
        assert made.headers.get("idempotency-replayed") == "true"
    version = trap.call("GET", path + "/meta").headers["etag"]
    again = trap.call(*request)
    assert (again.status, again.json()) == (200, made.json())
    assert trap.call("GET", path + "/meta").headers["etag"] == version, "changed twice"


def test_f1_f2_every_point_is_swept():
    """The lists above are all the points that the sources name."""
    name = re.compile(r'"((?:put|insert|delete|remove|update|upload)\.[a-z_]+)"')
    found = {point for source in (REPOSITORY / "shared").rglob("*.c")
             for point in name.findall(source.read_text(encoding="utf-8"))}
    tables = (PUT_POINTS, PARTS_POINTS, INSERT_POINTS, MARK_POINTS, BATCH_POINTS, UNLINK_POINTS,
              UPDATE_POINTS)
    listed = {point for table in tables for points in table.values() for point in points}
    assert found == {*listed, *REMOVE_POINTS, "upload.before_reply", "delete.before_reply"}


def test_f1_batch_delete_killed_after_its_commit(trap):
    ids = [trap.service.create(b"x%d" % n, unique())["id"] for n in range(20)]
    body = '{"ids": ["' + '", "'.join(ids) + '"]}'
    trap.arm("delete.committed")
    crashed = trap.call("POST", "/api/files/delete", body, {"Content-Type": "application/json"})
    assert trap.sprung() and crashed.failed
    for each in ids:
        assert until_answered(trap, ("GET", f"/api/files/{each}")).status == 404
    assert trap.service.coffer("gc", "--grace", "0").returncode == 0
    wait_for(lambda: len(trap.service.objects()) == trap.service.count_files(),
             "the bytes are swept", 20)


def batch_answers(trap, answer, ids, gone):
    """A delete of many says the same of each whenever it is asked."""
    assert answer.status == 200, str(answer)
    found = {each["id"]: each for each in answer.json()["results"]}
    assert found == {**{each: {"id": each, "deleted": True} for each in ids},
                     **{each: {"id": each, "deleted": False, "error": "not_found"}
                        for each in gone}}
    for each in ids:
        assert trap.call("GET", f"/api/files/{each}").status == 404


@pytest.mark.parametrize("point", [*MARK_POINTS[BACKEND.metadata],
                                   *BATCH_POINTS[BACKEND.metadata]])
def test_f2_batch_delete_and_its_answer_are_one(unswept_trap, point):
    """Whenever the program dies, the retry with the key says what the first answer would have: more
    ids than are marked in one step, and a longer answer than a request may be."""
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: unswept_trap.service.create(b"%d" % n)["id"], range(60)))
    gone = [f"00000000-0000-7000-8000-{number:012x}" for number in range(700)]
    request = ("POST", "/api/files/delete", json.dumps({"ids": [*gone[:9], *ids, *gone[9:]]}),
               {"Content-Type": "application/json", "Idempotency-Key": unique("key")})
    unswept_trap.arm(point)
    crashed = unswept_trap.call(*request)
    assert unswept_trap.sprung(), f"nothing passes {point}"
    assert crashed.failed, f"answered by a program that was killed: {crashed}"
    first = until_answered(unswept_trap, request)
    batch_answers(unswept_trap, first, ids, gone)
    if point in COMMITTED and BACKEND.metadata == "sqlite":
        assert first.headers["idempotency-replayed"] == "true"
    again = unswept_trap.call(*request)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.body == first.body
    unswept_trap.service.coffer("gc", "--grace", "0")
    wait_for(lambda: not unswept_trap.service.objects(), "the bytes are swept")


def test_f2_an_interrupted_key_is_for_its_request_only(unswept_trap):
    """What was begun under the key can be gone on with, and nothing else."""
    point = "delete.committed" if BACKEND.metadata == "sqlite" else "delete.some_marked"
    ids = [unswept_trap.service.create()["id"]]
    request = ["POST", "/api/files/delete", json.dumps({"ids": ids}),
               {"Content-Type": "application/json", "Idempotency-Key": unique("key")}]
    other = [*request[:2], json.dumps({"ids": [unswept_trap.service.create()["id"]]}), request[3]]
    unswept_trap.arm(point)
    assert unswept_trap.call(*request).failed and unswept_trap.sprung()
    refused = until_answered(unswept_trap, other)
    assert (refused.status, refused.json()["code"]) == (422, "idempotency_mismatch")
    batch_answers(unswept_trap, until_answered(unswept_trap, request), ids, [])


PROGRAMS = ("files_upload", "files_get", "files_list", "files_delete", "files_update", "health",
            "metrics")


def test_random_kills_under_mixed_load(start_service):
    """Kill -9, of one program or of several, at any moment."""
    service = start_service()
    service.expect_5xx = True
    rng = random.Random(20)
    load = Load(service, clients=8, seed=20, bare=True)
    kills = 0
    with load:
        load.wait_for(5)
        while kills < backends.rounds(12, 40):
            for program in rng.sample(PROGRAMS, rng.choice((1, 1, 1, 2, 7))):
                kills += len(kill_now(service, program))
            time.sleep(rng.uniform(0.05, 1.2))
        load.wait_for(5)
        wait_for(lambda: load.acknowledged() > 50, "uploads are acknowledged", 60)
    load.check()


def test_power_cut_under_mixed_load(start_service):
    """Everything dies at once, launcher and lighttpd too, and is started again."""
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=8, seed=21, bare=True)
    for _ in range(backends.rounds(2, 5)):
        with load:
            load.wait_for(10)
            service.kill_all()
        service.start()
        load.check()
