"""F31: a store and a database that don't belong together neither start nor sweep; what is there stays.
A half-migrated target is in test_migrate.py."""

import contextlib
import shutil
import sqlite3

import pytest

from backends import MARK, BucketObjects, Database, FolderObjects, Stores
from faultproxy import FaultProxy
from samples import random_bytes, unique
from service import Service, wait_for

# Nodes share what one service has.
pytestmark = [pytest.mark.core, pytest.mark.backends(
    "fs+sqlite", "s3+mongodb", "s3+sqlite", "minio+mongodb", "libs3+sqlite")]

COUNT = 5
ADOPT = "coffer init --adopt"
SWEPT = {"SWEEP_GRACE_SECONDS": "0", "ORPHAN_INTERVAL_SECONDS": "1", "SWEEP_INTERVAL_SECONDS": "1"}


class Installation:
    """A stopped service with some files."""

    def __init__(self, service, tmp_path):
        self.service = service
        self.tmp_path = tmp_path
        self.databases = []  # MongoDB's, to be dropped
        self.contents = {}
        for number in range(COUNT):
            content = random_bytes(1000 + number)
            self.contents[service.create(content, unique())["id"]] = content
        service.stop()
        self.objects = service.objects()
        assert len(self.objects) == COUNT

    # ---- other databases beside its store ----

    def new_database(self):
        """Settings with the same store and a database that is not there yet."""
        if self.service.stores.database:
            self.databases.append(Database(self.service.stores.database.uri))
            return {"MONGODB_DATABASE": self.databases[-1].name}
        folder = self.tmp_path / unique("data")
        if isinstance(self.service.stores.objects, FolderObjects):
            shutil.copytree(self.service.data_dir, folder)
            shutil.rmtree(folder / "db")
            (folder / "coffer-database").unlink()
        return {"DATA_DIR": str(folder)}

    def another_database(self):
        """The same with the database of another installation, which has no files."""
        settings = self.new_database()
        if isinstance(self.service.stores.objects, BucketObjects):
            bucket = self.service.stores.objects.bucket + "-b"
            self.service.coffer("init", **settings, S3_BUCKET=bucket)
            self.service.stores.objects.client.delete_object(Bucket=bucket, Key=MARK)
            self.service.stores.objects.client.delete_bucket(Bucket=bucket)
        elif self.service.stores.database:
            self.service.coffer("init", **settings, DATA_DIR=str(self.tmp_path / unique("data")))
        else:
            folder = self.tmp_path / unique("data")
            self.service.coffer("init", DATA_DIR=str(folder))
            shutil.copytree(folder / "db", f"{settings['DATA_DIR']}/db")
            (self.tmp_path / settings["DATA_DIR"] / "coffer-database").touch()
        return settings

    @contextlib.contextmanager
    def using(self, settings):
        before = dict(self.service.extra_env)
        self.service.extra_env.update(settings)
        try:
            yield self.service
        finally:
            self.service.extra_env = before

    # ---- what must hold ----

    def refused_start(self, settings):
        """What the launcher said."""
        with self.using({**SWEPT, **settings}) as service:
            service.output_file.unlink()
            service.launch()
            assert service.process.wait(60) == 1, service.output()
            return service.output()

    def stored(self, settings):
        """What the store holds as a service with these settings would see it."""
        if "DATA_DIR" in settings and isinstance(self.service.stores.objects, FolderObjects):
            root = self.service.data_dir
            other = type(root)(settings["DATA_DIR"])
            return {root / path.relative_to(other): path.stat().st_size
                    for path in (other / "objects").rglob("*") if path.is_file()}
        return self.service.objects()

    def check_whole(self):
        """The pair that belongs together serves all its files."""
        self.service.start()
        for id, content in self.contents.items():
            assert self.service.get(f"/api/files/{id}").content == content
        self.service.stop()


@pytest.fixture
def installation(start_service, tmp_path):
    made = Installation(start_service(), tmp_path)
    yield made
    for each in made.databases:
        each.drop()


@pytest.fixture(params=["new", "another"])
def settings(request, installation):
    return getattr(installation, request.param + "_database")()


def test_f31_another_database_beside_a_store_that_holds_files(installation, settings):
    said = installation.refused_start(settings)
    assert ADOPT in said and "MONGODB_DATABASE" in said, said
    for command in (["gc", "--grace", "0"], ["gc", "--grace", "0", "--yes"], ["fsck"],
                    ["fsck", "--repair"], ["init"]):
        result = installation.service.coffer(*command, check=False, **settings)
        assert result.returncode == 1 and ADOPT in result.stderr, (command, result)
    assert installation.stored(settings) == installation.objects
    installation.check_whole()


def test_f31_adopt_is_the_way_on_and_the_sweep_has_a_limit(installation):
    settings = installation.new_database()
    installation.refused_start(settings)
    service = installation.service
    adopted = service.coffer("init", "--adopt", **settings)
    assert "database has installation id" in adopted.stderr and "it had none" in adopted.stderr
    assert "store keeps installation id" in adopted.stderr
    limit = {"SWEEP_MAX_ORPHANS": str(COUNT - 1), **SWEPT}
    with installation.using({**settings, **limit}):
        service.start()
        wait_for(lambda: any("removed no orphans" in line["message"]
                             for line in service.log_lines()), "a sweep that holds back", 20)
        wait_for(lambda: service.metric("sweeps_held_back_total") >= 1, "it is counted", 10)
        service.stop()
    assert installation.stored(settings) == installation.objects
    gc = service.coffer("gc", "--grace", "0", check=False, **settings, **limit)
    assert gc.returncode == 1 and "orphans 0 (" in gc.stdout, gc
    assert f"nothing of {COUNT} of {COUNT} objects" in gc.stderr and "--yes" in gc.stderr, gc
    assert installation.stored(settings) == installation.objects
    gc = service.coffer("gc", "--grace", "0", "--yes", **settings, **limit)
    assert f"orphans {COUNT} (" in gc.stdout
    assert installation.stored(settings) == {}
    service.expect_damage = True


def forget_marks(service):
    """As a version without marks left the pair."""
    objects = service.stores.objects
    if isinstance(objects, BucketObjects):
        objects.remove(MARK)
    else:
        (service.data_dir / MARK).unlink()
    if service.stores.database:
        assert service.stores.database.database["settings"].delete_one(
            {"_id": "installation"}).deleted_count == 1
        return
    with contextlib.closing(sqlite3.connect(service.data_dir / "db" / "coffer.sqlite")) as database:
        assert database.execute("DELETE FROM settings WHERE name = 'installation'").rowcount == 1
        database.commit()


def read_marks(service):
    """Their texts."""
    objects = service.stores.objects
    in_store = (objects.read(MARK) if isinstance(objects, BucketObjects)
                else (service.data_dir / MARK).read_bytes())
    if service.stores.database:
        found = service.stores.database.database["settings"].find_one({"_id": "installation"})
        return in_store, found["text"].encode()
    with contextlib.closing(sqlite3.connect(service.data_dir / "db" / "coffer.sqlite")) as database:
        return in_store, database.execute(
            "SELECT value FROM settings WHERE name = 'installation'").fetchone()[0]


def test_f31_an_installation_from_before_gets_its_id_at_the_next_start(installation):
    before = read_marks(installation.service)
    assert before[0] == before[1] != b""
    forget_marks(installation.service)
    # A new database comes first, and leaves no mark in the store.
    said = installation.refused_start(installation.new_database())
    assert ADOPT in said, said
    installation.check_whole()
    after = read_marks(installation.service)
    assert after[0] == after[1] != before[0]


@pytest.mark.backends("s3+mongodb")
def test_f31_a_folder_beside_another_mongodb_database(tmp_path):
    """fs+mongodb, which is no backend of its own."""
    service = Service(stores=Stores(None, Database()))
    service.stores.objects = FolderObjects(service)
    try:
        installation = Installation(service.start(), tmp_path)
        for settings in (installation.new_database(), installation.another_database()):
            assert ADOPT in installation.refused_start(settings)
            assert installation.stored(settings) == installation.objects
        installation.check_whole()
        for each in installation.databases:
            each.drop()
    finally:
        service.close()


# ---- a store that is away at the start ----

@pytest.fixture
def proxied():
    """proxied(storage, metadata): a service that is not started, and the proxy before its one remote
    store."""
    made = []
    proxies = []

    def open_pair(storage, metadata):
        objects = BucketObjects() if storage == "s3" else None
        database = Database() if metadata == "mongodb" else None
        proxy = FaultProxy(objects.store.endpoint if objects else database.uri)
        service = Service(stores=Stores(objects, database), **{
            "S3_ENDPOINT" if objects else "MONGODB_URI": proxy.endpoint})
        service.stores.objects = objects or FolderObjects(service)
        made.append(service)
        proxies.append(proxy)
        return service, proxy

    yield open_pair
    try:
        for proxy, each in zip(proxies, made):
            proxy.clear()
            each.close()
    finally:
        for proxy in proxies:
            proxy.close()


@pytest.mark.backends("s3+mongodb")
@pytest.mark.parametrize("pair", ["s3+sqlite", "fs+mongodb"])
def test_a_start_waits_for_the_remote_half(proxied, pair):
    service, proxy = proxied(*pair.split("+"))
    proxy.refuse()
    service.launch()
    wait_for(lambda: "waiting, " in service.output(), "the start waits", 20)
    proxy.accept()
    service.wait_ready(40)
    made = service.create(b"bytes")
    assert service.get(f"/api/files/{made['id']}").content == b"bytes"


@pytest.mark.backends("s3+mongodb")
def test_f31_a_store_that_was_away_at_the_start(proxied, tmp_path):
    """The launcher could not ask whose it is: the programs do when it is back."""
    service, proxy = proxied("s3", "sqlite")
    installation = Installation(service.start(), tmp_path)
    with installation.using({**SWEPT, **installation.new_database()}):
        proxy.refuse()
        service.launch()
        wait_for(lambda: service.output().count(f" at {service.url}/") == 2, "it starts", 60)
        assert "starting nevertheless" in service.output()
        wait_for(lambda: service.get("/ready").status_code == 503, "it is not ready", 20)
        proxy.accept()
        wait_for(lambda: "files_upload: cannot start: The store belongs to"
                 in service.gateway_log(), "the programs refuse", 40)
        assert service.get("/ready").status_code == 503
        assert service.put("/api/files/upload/x", data=b"x").status_code == 503
        service.expect_5xx = True
        service.stop()
    assert service.objects() == installation.objects
    installation.check_whole()
