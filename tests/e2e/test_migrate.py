"""`coffer migrate` between real stores: a folder and a file on one side, SeaweedFS or MinIO and
FerretDB on the other. The source is a folder made once, of which each test has a copy."""

import hashlib
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

import servers
from backends import BucketObjects, Database, FolderObjects, Stores
from samples import random_bytes
from service import REPOSITORY, Service, read_proc, wait_for

CRASHING = REPOSITORY / "build" / "crash" / "bin"

PAIR = ["--from", "fs+sqlite", "--to", "s3+mongodb"]
BACK = ["--from", "s3+mongodb", "--to", "fs+sqlite"]
COUNTS = re.compile(
    r"(?:copied|would copy) (\d+) files \((\d+) bytes\), changed (\d+), there already (\d+), "
    r"tokens (\d+); of (\d+) files \(\d+ bytes\)\n"
    r"failed (\d+), damaged (\d+), newer in the target (\d+), deleted meanwhile (\d+), "
    r"extra in the target (\d+) \(removed (\d+)\)\n\Z")
NAMES = ("copied", "bytes", "changed", "there", "tokens", "of", "failed", "damaged", "newer",
         "gone", "extra", "removed")
SIZES = [0, 1, 100, 65536, 300000, 5 << 20, (5 << 20) + 1, 12 << 20] + [1000] * 22
EXPIRES_IN = 864000


def counts(result):
    """The summary as numbers by name."""
    found = COUNTS.search(result.stdout)
    assert found, f"no summary: {result}"
    return dict(zip(NAMES, map(int, found.groups())))


def fingerprint(folder):
    """What a folder holds. SQLite's -shm is shared memory of whoever reads, and no content."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


# ---- servers, and what is in the source ----

@pytest.fixture(scope="module")
def seaweedfs():
    with servers.s3_store() as store:
        yield store


@pytest.fixture(scope="module")
def minio():
    with servers.MinIO() as store:
        yield store


@pytest.fixture(scope="module")
def ferretdb():
    with servers.mongodb() as database:
        yield database


def local(**env):
    """A service on a folder and a file, whatever the run's backend is; not started."""
    made = Service(stores=Stores(None), **env)
    made.stores.objects = FolderObjects(made)
    return made


def fill(service, token):
    """{id: content}; also a public file, one with fields, one changed, one that will expire, one
    deleted."""
    contents = {}
    for at, size in enumerate(SIZES):
        content = random_bytes(size)
        made = service.create(
            content, f"file {at}.bin", token=token, metadata={"at": str(at), "ü": "ß"},
            visibility="public" if at % 5 == 0 else "private",
            **({"expiresIn": str(EXPIRES_IN)} if at % 7 == 0 else {}))
        contents[made["id"]] = content
        if at % 3 == 0:
            service.patch(f"/api/files/{made['id']}", token=token, json={"originalName": f"new {at}"})
    gone = service.create(b"gone", token=token)["id"]
    assert service.delete(f"/api/files/{gone}", token=token).status_code == 200
    return contents


def objects_of(service, token):
    """{id: file object} of all files, but the bucket, which is the store's."""
    listed = service.get("/api/files?limit=1000", token=token).json()["files"]
    return {each["id"]: {name: value for name, value in each.items() if name != "bucket"}
            for each in listed}


class Source:
    """A stopped installation's folder, with what a client saw of it."""


@pytest.fixture(scope="module")
def original():
    service = local(AUTH_MODE="token")
    try:
        service.start()
        made = Source()
        made.token = service.token("alice")
        revoked = service.token("mallory")
        service.coffer("token", "revoke", revoked.split("_")[1])
        made.contents = fill(service, made.token)
        made.objects = objects_of(service, made.token)
        made.total = sum(len(content) for content in made.contents.values())
        service.stop()
        made.folder = service.data_dir
        yield made
    finally:
        service.close()


@pytest.fixture
def dropped():
    """Stores that go after the services on them."""
    stores = []
    yield stores
    for each in stores:
        each.drop()


@pytest.fixture
def ended(dropped):
    """Services that end with the test."""
    started = []
    yield started
    failures = []
    for each in reversed(started):
        try:
            each.close()
        except Exception as error:  # every service is closed before the first failure is told
            failures.append(error)
    if failures:
        raise failures[0]


@pytest.fixture
def copy_of(original, ended):
    """copy_of(stores): the source's installation on a folder of its own, in whose environment the
    settings of `stores` are too; not started."""

    def make(stores, **env):
        settings = {name: value for name, value in stores.settings().items()
                    if name not in ("STORAGE_DRIVER", "METADATA_DRIVER")}
        made = local(AUTH_MODE="token", **{**settings, **env})
        shutil.copytree(original.folder, made.data_dir)
        ended.append(made)
        return made

    return make


@pytest.fixture
def target(seaweedfs, ferretdb, dropped):
    """A bucket and a database, dropped at the end."""
    dropped.append(Stores(BucketObjects(store=seaweedfs), Database(ferretdb.uri)))
    return dropped[0]


def serve(stores, ended, **env):
    """A service on these stores, started."""
    made = Service(stores=stores, AUTH_MODE="token", **env)
    ended.append(made)
    return made.start()


def check_same(service, original):
    """A client can't tell the service from the original."""
    assert objects_of(service, original.token) == original.objects
    for id, content in original.contents.items():
        got = service.get(f"/api/files/{id}", token=original.token)
        assert got.status_code == 200 and got.content == content, id
        assert got.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'


def fsck(source, pair="s3+mongodb", orphans=0):
    """The target's rows have their bytes; at most so many bytes have no row."""
    storage, metadata = pair.split("+")
    result = source.coffer("fsck", check=False, STORAGE_DRIVER=storage, METADATA_DRIVER=metadata)
    assert result.returncode == 0, result
    found = re.search(r" 0 findings, (\d+) orphans", result.stdout)
    assert found and int(found[1]) <= orphans, result.stdout


# ---- there, again, and back ----

def test_there_and_back(original, copy_of, target, ended):
    source = copy_of(target)
    before = fingerprint(source.data_dir)
    planned = source.coffer("migrate", *PAIR, "--dry-run")
    assert counts(planned)["copied"] == len(original.contents)
    assert not target.objects.every()

    first = counts(source.coffer("migrate", *PAIR))
    assert (first["copied"], first["bytes"]) == (len(original.contents), original.total)
    assert first["failed"] == first["extra"] == 0 and first["tokens"] == 2
    again = counts(source.coffer("migrate", *PAIR, "--verify"))
    assert again["there"] == len(original.contents)
    assert again["copied"] == again["tokens"] == again["changed"] == 0
    assert fingerprint(source.data_dir) == before
    fsck(source)

    moved = serve(target, ended)
    check_same(moved, original)
    for id, content in original.contents.items():
        head = target.objects.head(original.objects[id]["key"])
        assert head["ContentLength"] == len(content)
        assert head["ContentType"] == original.objects[id]["mimeType"]
    moved.stop()

    empty = local(AUTH_MODE="token", **{
        name: value for name, value in target.settings().items() if not name.endswith("_DRIVER")})
    ended.append(empty)
    back = counts(empty.coffer("migrate", *BACK, "--verify"))
    assert (back["copied"], back["failed"], back["tokens"]) == (len(original.contents), 0, 2)
    check_same(empty.start(), original)


@pytest.mark.thorough("the contract suite has MinIO, too")
@pytest.mark.parametrize("driver", ["s3", "libs3"])
def test_minio_takes_it_too(original, copy_of, minio, ferretdb, dropped, ended, driver):
    stores = Stores(BucketObjects(store=minio), Database(ferretdb.uri))
    dropped.append(stores)
    source = copy_of(stores)
    result = counts(source.coffer("migrate", "--from", "fs+sqlite", "--to", f"{driver}+mongodb",
                                  "--verify", "--jobs", "2"))
    assert (result["copied"], result["failed"]) == (len(original.contents), 0)
    check_same(serve(stores, ended), original)
    # The other driver reads the same bucket, so there is nothing to copy between them.
    again = counts(source.coffer("migrate", *PAIR, "--verify"))
    assert (again["copied"], again["there"]) == (0, len(original.contents))


@pytest.mark.parametrize("pair", ["fs+mongodb", "s3+sqlite"])
def test_one_half_only(original, copy_of, target, pair):
    """The other half is where it was, and is not written to."""
    source = copy_of(target)
    objects = source.data_dir / "objects"
    before = fingerprint(objects), fingerprint(source.data_dir / "db")
    result = counts(source.coffer("migrate", "--from", "fs+sqlite", "--to", pair))
    assert (result["copied"], result["failed"]) == (len(original.contents), 0)
    assert before == (fingerprint(objects), fingerprint(source.data_dir / "db"))
    fsck(source, pair)
    again = counts(source.coffer("migrate", "--from", "fs+sqlite", "--to", pair, "--verify"))
    assert (again["copied"], again["there"]) == (0, len(original.contents))


def test_half_by_half(original, copy_of, target, ended):
    """Each step moves one half; the last folder is like the first."""
    copy_of(target).coffer("migrate", *PAIR)
    last = local(AUTH_MODE="token", **{
        name: value for name, value in target.settings().items() if not name.endswith("_DRIVER")})
    ended.append(last)
    steps = ["s3+mongodb", "s3+sqlite", "fs+sqlite"]
    for source, following in zip(steps, steps[1:]):
        moved = counts(last.coffer("migrate", "--from", source, "--to", following, "--verify"))
        assert (moved["copied"], moved["failed"]) == (len(original.contents), 0)
    check_same(last.start(), original)


# ---- interruption ----

def start_migrate(source, *options, env=None):
    return subprocess.Popen(
        [str(source.binaries / "coffer"), "migrate", *PAIR, *options],
        env={**source.env, **(env or {})}, cwd=source.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_again_and_again(original, copy_of, target, ended):
    source = copy_of(target)
    before = fingerprint(source.data_dir)
    chance = random.Random(4)
    kills = 0
    for _ in range(8):
        process = start_migrate(source, "--jobs", "4")
        try:
            process.wait(chance.uniform(0.05, 0.6))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
        if target.objects.every():
            fsck(source, orphans=4)
    assert kills > 0
    last = counts(source.coffer("migrate", *PAIR))
    assert last["failed"] == 0 and last["copied"] + last["there"] == len(original.contents)
    assert fingerprint(source.data_dir) == before
    fsck(source)
    check_same(serve(target, ended), original)


@pytest.mark.parametrize("point", ["migrate.placed", "migrate.recorded"])
def test_killed_between_bytes_and_row(original, copy_of, target, point):
    source = copy_of(target)
    killed = subprocess.run(
        [str(CRASHING / "coffer"), "migrate", *PAIR, "--jobs", "3"],
        env={**source.env, "CRASH_AT": point}, cwd=source.folder, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed
    fsck(source, orphans=3)
    last = counts(source.coffer("migrate", *PAIR))
    assert last["failed"] == 0 and last["copied"] + last["there"] == len(original.contents)
    fsck(source)


def test_f31_a_half_migrated_target_is_left_alone(original, copy_of, target, ended):
    """No service starts on it and nothing sweeps it, until the migration has ended."""
    source = copy_of(target)
    killed = subprocess.run(
        [str(CRASHING / "coffer"), "migrate", *PAIR, "--jobs", "1"],
        env={**source.env, "CRASH_AT": "migrate.placed"}, cwd=source.folder, capture_output=True,
        check=False)
    assert killed.returncode == -signal.SIGKILL, killed
    placed = target.objects.every()
    assert placed
    drivers = {"STORAGE_DRIVER": "s3", "METADATA_DRIVER": "mongodb"}
    for command in (["gc", "--grace", "0"], ["gc", "--grace", "0", "--yes"], ["init"]):
        refused = source.coffer(*command, check=False, **drivers)
        assert refused.returncode == 1 and "coffer migrate" in refused.stderr, (command, refused)
    moved = Service(stores=target, AUTH_MODE="token", SWEEP_GRACE_SECONDS="0")
    ended.append(moved)
    moved.launch()
    assert moved.process.wait(60) == 1 and "coffer migrate" in moved.output()
    assert target.objects.every() == placed
    assert counts(source.coffer("migrate", *PAIR))["failed"] == 0
    check_same(moved.start(), original)


def test_control_c_ends_in_order(original, copy_of, target):
    source = copy_of(target)
    process = start_migrate(source, "--jobs", "1")
    wait_for(target.objects.every, "the first object", 20)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the same command goes on" in stderr.splitlines()[-1]
    done = int(COUNTS.search(stdout)[1])
    assert 0 < done < len(original.contents)
    assert not target.objects.unfinished()
    fsck(source)
    last = counts(source.coffer("migrate", *PAIR))
    assert (last["there"], last["copied"]) == (done, len(original.contents) - done)


# ---- a source in use ----

def test_what_changes_meanwhile_follows(original, copy_of, target, ended):
    source = copy_of(target).start()
    first = source.coffer("migrate", *PAIR)
    assert "a service is running" in first.stderr
    ids = list(original.contents)
    token = original.token
    added = source.create(b"later", "later.txt", token=token)["id"]
    renamed = {"originalName": "renamed later", "metadata": {"k": "v"}}
    for _ in range(2):
        assert source.patch(f"/api/files/{ids[3]}", token=token, json=renamed).status_code == 200
    assert source.delete(f"/api/files/{ids[4]}", token=token).status_code == 200
    late_token = source.token("bob")

    second = counts(source.coffer("migrate", *PAIR))
    assert (second["copied"], second["changed"], second["extra"]) == (1, 1, 1)
    assert second["tokens"] == 1 and second["removed"] == 0 and second["failed"] == 0
    third = source.coffer("migrate", *PAIR, "--prune")
    assert counts(third)["removed"] == 1
    assert f"extra\t{ids[4]}\t" in third.stdout
    expected = objects_of(source, token)
    source.stop()
    fsck(source)

    moved = serve(target, ended)
    assert objects_of(moved, token) == expected and added in expected
    assert expected[ids[3]]["originalName"] == "renamed later"
    assert moved.get(f"/api/files/{ids[4]}", token=token).status_code == 404
    assert moved.get("/api/files", token=late_token).status_code == 200


def test_changes_of_the_target_stay(original, copy_of, target, ended):
    source = copy_of(target)
    source.coffer("migrate", *PAIR)
    moved = serve(target, ended)
    id = next(iter(original.contents))
    assert moved.patch(f"/api/files/{id}", token=original.token,
                       json={"originalName": "theirs"}).status_code == 200
    moved.stop()
    again = source.coffer("migrate", *PAIR, check=False)
    assert again.returncode == 1 and counts(again)["newer"] == 1
    assert again.stdout.startswith(f"newer\t{id}\t")
    moved.start()
    name = moved.get(f"/api/files/{id}/meta", token=original.token).json()["originalName"]
    assert name == "theirs"


# ---- damage ----

def test_damaged_bytes_are_told_and_left_out(original, copy_of, target, ended):
    source = copy_of(target)
    by_size = sorted(original.contents, key=lambda id: len(original.contents[id]))
    flipped, lost = by_size[-1], by_size[3]
    path = source.data_dir / "objects" / original.objects[flipped]["key"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    (source.data_dir / "objects" / original.objects[lost]["key"]).unlink()
    result = source.coffer("migrate", *PAIR, check=False)
    assert result.returncode == 1
    assert counts(result)["failed"] == 2
    assert counts(result)["copied"] == len(original.contents) - 2
    told = {line.split("\t")[1] for line in result.stdout.splitlines() if line.startswith("failed\t")}
    assert told == {flipped, lost}
    assert not target.objects.unfinished()
    fsck(source)


def test_an_object_changed_in_the_target_is_found_and_replaced(original, copy_of, target):
    source = copy_of(target)
    source.coffer("migrate", *PAIR)
    ids = [id for id in original.contents if len(original.contents[id]) == 1000]
    target.objects.remove(original.objects[ids[0]]["key"])
    target.objects.write(original.objects[ids[1]]["key"], b"x" * 1000)
    result = counts(source.coffer("migrate", *PAIR, "--verify"))
    assert (result["copied"], result["failed"]) == (2, 0)
    fsck(source)


# ---- stores that are away ----

def test_a_store_that_comes_back_is_waited_for(copy_of, ferretdb):
    with servers.SeaweedFS() as store:
        stores = Stores(BucketObjects(store=store), Database(ferretdb.uri))
        try:
            source = copy_of(stores)
            process = start_migrate(source, "--jobs", "1")
            wait_for(stores.objects.every, "the first object", 20)
            store.kill()
            time.sleep(1)
            store.start()
            stdout, stderr = process.communicate(timeout=120)
            assert process.returncode == 0, (stdout, stderr)
            fsck(source)
        finally:
            stores.drop()


def test_a_store_that_is_away_ends_it(copy_of, target):
    nobody = f"http://127.0.0.1:{servers.free_ports(1)[0]}"
    source = copy_of(target, S3_ENDPOINT=nobody)
    result = source.coffer("migrate", *PAIR, check=False)
    assert result.returncode == 1 and not result.stdout
    lines = result.stderr.splitlines()
    assert lines[0] == f"coffer: copies from DATA_DIR {source.data_dir}"
    assert lines[1].startswith("coffer: copies to bucket ") and nobody in lines[1]
    assert len(lines) == 3 and lines[2].startswith("coffer migrate: ")
    planned = source.coffer("migrate", *PAIR, "--dry-run")
    assert "counts as empty" in planned.stderr


def test_secrets_are_never_shown(copy_of, target):
    source = copy_of(target)
    for result in (source.coffer("migrate", *PAIR),
                   source.coffer("migrate", *PAIR, check=False, S3_BUCKET="ab"),
                   source.coffer("migrate", *PAIR, check=False, S3_ENDPOINT="http://127.0.0.1:1")):
        for secret in (source.env["S3_SECRET_KEY"], source.env["MONGODB_URI"]):
            assert secret not in result.stdout + result.stderr


# ---- memory, and what is shown ----

@pytest.mark.thorough("copies 240 MiB to a store")
def test_memory_does_not_grow_with_files(copy_of, target):
    source = copy_of(target)
    source.start()
    token = source.token("bob")
    for _ in range(12):
        source.create(random_bytes(20 << 20), token=token)
    source.stop()
    process = start_migrate(source, "--jobs", "8")
    peak = 0  # KiB, as the kernel keeps it
    while process.poll() is None:
        found = re.search(rb"VmHWM:\s+(\d+) kB", read_proc(process.pid, "status"))
        peak = max(peak, int(found[1])) if found else peak
        time.sleep(0.01)
    process.communicate()
    assert process.returncode == 0
    # Eight files with two parts of 5 MiB each, and the program; the files themselves are 240 MiB.
    assert 10 << 10 < peak < 150 << 10
    fsck(source)


def test_progress_on_a_terminal(original, copy_of, target):
    source = copy_of(target)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [str(source.binaries / "coffer"), "migrate", *PAIR, "--jobs", "1"], env=source.env,
        cwd=source.folder, stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the last writer has left
            break
        shown += piece
    os.close(leader)
    stdout, _ = process.communicate()
    assert process.returncode == 0 and COUNTS.search(stdout.decode())
    assert re.search(rf"\r\x1b\[K\d+ of {len(original.contents)} files, [\d.]+ of [\d.]+ MiB, "
                     rf"[\d.]+ MiB/s, [\w :]+ (left|unknown)\r", shown.decode()), shown
    assert shown.endswith(b"\r\x1b[K")


# ---- wrong calls ----

@pytest.mark.parametrize(
    "args",
    [
        [], ["--from", "fs+sqlite"], ["--to", "s3+mongodb"], [*PAIR, "word"],
        ["--from", "fs", "--to", "s3+mongodb"], ["--from", "fs+sqlite", "--to", "s3+"],
        ["--from", "tape+sqlite", "--to", "s3+mongodb"],
        ["--from", "fs+sqlite", "--to", "fs+sqlite"],
        ["--from", "s3+mongodb", "--to", "libs3+mongodb"],
        ["--from", "fs+sqlite+x", "--to", "s3+mongodb"],
        [*PAIR, "--jobs", "0"], [*PAIR, "--jobs", "65"], [*PAIR, "--jobs", "x"],
        [*PAIR, "--from", "fs+sqlite"], [*PAIR, "--unknown"],
    ],
)
def test_wrong_calls(copy_of, target, args):
    result = copy_of(target).coffer("migrate", *args, check=False)
    assert result.returncode == 2 and not result.stdout
    first, second = result.stderr.splitlines()
    assert first.startswith("coffer migrate: ") and second.startswith("usage: coffer migrate")


@pytest.mark.parametrize("name", ["S3_ENDPOINT", "S3_SECRET_KEY", "MONGODB_URI"])
def test_missing_settings_are_named(copy_of, target, name):
    result = copy_of(target).coffer("migrate", *PAIR, check=False, **{name: ""})
    assert result.returncode == 1 and name in result.stderr and not result.stdout


def test_a_source_that_is_not_there(copy_of, target, tmp_path):
    result = copy_of(target).coffer("migrate", *PAIR, check=False, DATA_DIR=str(tmp_path / "none"))
    assert result.returncode == 1 and not (tmp_path / "none").exists()
    assert not target.objects.every()
