"""What `coffer init` makes in stores, how it waits for them, and that the restricted users of
infrastructure/ can do what Coffer needs on their bucket and nothing on another."""

import json
import subprocess
import time

import pytest

import servers
from backends import MARK, BucketObjects, Database, FolderObjects, Stores
from samples import random_bytes
from service import REPOSITORY, Service

IDENTITIES = REPOSITORY / "infrastructure" / "seaweedfs" / "s3.json"
POLICY = REPOSITORY / "infrastructure" / "minio" / "policy.json"
BUCKET = "uploads"  # of both files


class Restricted(servers.S3):
    """A store, as its restricted user sees it."""

    def __init__(self, store, access_key, secret_key):
        self.endpoint, self.region = store.endpoint, store.region
        self.access_key, self.secret_key = access_key, secret_key


class KeptBucket(BucketObjects):
    """Its user may not remove it; the server goes with it. It is left empty for the next service."""

    def drop(self):
        for name in [*self.every(), MARK]:
            self.remove(name)


class SeaweedFS(servers.SeaweedFS):
    """With the identities of infrastructure/seaweedfs, their keys filled in."""

    def command(self):
        line = super().command()
        text = IDENTITIES.read_text()
        for name, value in (("ADMIN_ACCESS_KEY", self.access_key),
                            ("ADMIN_SECRET_KEY", self.secret_key),
                            ("COFFER_ACCESS_KEY", "restricted"),
                            ("COFFER_SECRET_KEY", "restricted-secret")):
            assert text.count(f'"{name}"') == 1
            text = text.replace(name, value)
        identities = json.loads(text)
        identities["identities"].append(self.least(identities["identities"][1]))
        (self.folder / "s3.json").write_text(json.dumps(identities))
        return line

    @staticmethod
    def least(identity):
        """The same without what only makes the bucket, as the README offers."""
        actions = [each for each in identity["actions"] if each != f"Admin:{BUCKET}"]
        assert len(actions) == len(identity["actions"]) - 1
        return {"name": "least", "actions": actions,
                "credentials": [{"accessKey": "least", "secretKey": "least-secret"}]}


@pytest.fixture(scope="module")
def seaweedfs():
    with SeaweedFS() as store:
        yield store, Restricted(store, "restricted", "restricted-secret")


@pytest.fixture(scope="module")
def least(seaweedfs):
    administrator = seaweedfs[0]
    if administrator.request("HEAD", f"/{BUCKET}")[0] == 404:
        administrator.make_bucket(BUCKET)
    return administrator, Restricted(administrator, "least", "least-secret")


@pytest.fixture(scope="module")
def minio():
    with servers.MinIO() as store:
        yield store, minio_user(store)


def minio_user(store):
    """A user with the policy of infrastructure/minio, made as its README says, by the admin API."""
    from minio import MinioAdmin
    from minio.credentials import StaticProvider

    admin = MinioAdmin(endpoint=store.endpoint.removeprefix("http://"), secure=False,
                       credentials=StaticProvider(store.access_key, store.secret_key))
    admin.policy_add("coffer", policy_file=str(POLICY))
    admin.user_add("restricted", "restricted-secret")
    admin.policy_set("coffer", user="restricted")
    return Restricted(store, "restricted", "restricted-secret")


@pytest.fixture(params=["seaweedfs", "least", "minio"])
def stores(request):
    """(as the administrator, as the restricted user)"""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bare():
    """bare(**settings): the admin command's environment; nothing is started."""
    opened = []

    def make(**settings):
        made = Service(stores=Stores(None), **settings)
        made.stores.objects = FolderObjects(made)
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def s3_settings(store, bucket):
    return {"STORAGE_DRIVER": "s3", "S3_ENDPOINT": store.endpoint, "S3_BUCKET": bucket,
            "S3_REGION": store.region, "S3_ACCESS_KEY": store.access_key,
            "S3_SECRET_KEY": store.secret_key}


# ---- restricted users ----

def test_the_restricted_user_serves_its_bucket(stores, start_service):
    """Made by the first start, then everything a client can ask for, and the upkeep."""
    administrator, user = stores
    objects = KeptBucket(store=user)
    objects.bucket = BUCKET
    service = start_service(stores=Stores(objects))
    small, large = random_bytes(1000), random_bytes(11 << 20)
    ids = [service.create(content)["id"] for content in (b"", small, large)]
    for id, content in zip(ids, (b"", small, large)):
        assert service.get(f"/api/files/{id}").content == content
    part = service.get(f"/api/files/{ids[2]}", headers={"Range": "bytes=5242879-5242882"})
    assert part.status_code == 206 and part.content == large[5242879:5242883]
    assert service.delete(f"/api/files/{ids[1]}").status_code == 200
    assert "unfinished 0" in service.coffer("gc").stdout
    service.coffer("fsck")
    assert b"uploads" in administrator.request("GET", "/")[2]


@pytest.mark.parametrize("method,path,query", [
    ("HEAD", "", {}), ("GET", "", {"list-type": "2"}), ("GET", "", {"uploads": ""}),
    ("GET", "", {"policy": ""}), ("DELETE", "", {}),
    ("GET", "/known", {}), ("HEAD", "/known", {}), ("PUT", "/known", {}), ("PUT", "/new", {}),
    ("DELETE", "/known", {}), ("POST", "/new", {"uploads": ""}),
])
def test_the_restricted_user_can_do_nothing_elsewhere(stores, method, path, query):
    administrator, user = stores
    administrator.make_bucket("private")
    assert administrator.request("PUT", "/private/known", body=b"secret")[0] == 200
    status, _, answer = user.request(method, f"/private{path}", query=query)
    assert status == 403 and b"secret" not in answer
    assert administrator.request("GET", "/private/known")[2] == b"secret"


def test_the_restricted_user_makes_no_other_bucket(stores, bare):
    administrator, user = stores
    refused = bare(METADATA_DRIVER="sqlite", **s3_settings(user, "another"))
    result = refused.coffer("init", check=False)
    assert result.returncode == 1 and "403" in result.stderr
    assert administrator.request("HEAD", "/another")[0] == 404
    listed = user.request("GET", "/")
    assert b"private" not in listed[2]


# ---- init ----

def test_init_says_what_it_made_and_found(seaweedfs, ferretdb_uri, bare):
    store = seaweedfs[0]
    stores = Stores(BucketObjects(store=store), Database(ferretdb_uri))
    service = bare(**stores.settings())
    try:
        first = service.coffer("init")
        assert f"bucket {stores.objects.bucket} at {store.endpoint} is made" in first.stderr
        assert f"database {stores.database.name} is made" in first.stderr
        second = service.coffer("init")
        assert f"bucket {stores.objects.bucket} at {store.endpoint} is there" in second.stderr
        assert "indexes are there" in second.stderr
        for result in (first, second):
            assert not result.stdout and store.secret_key not in result.stderr
        assert not service.data_dir.exists(), "nothing is kept here"
    finally:
        stores.drop()


@pytest.fixture(scope="module")
def ferretdb_uri():
    with servers.mongodb() as database:
        yield database.uri


def test_init_waits_for_what_is_not_up_yet(bare):
    with servers.FerretDB() as database, servers.MinIO() as store:
        stores = Stores(BucketObjects(store=store), Database(database.uri))
        service = bare(**stores.settings())
        database.stop()
        store.stop()
        process = subprocess.Popen(
            [str(service.binaries / "coffer"), "init", "--wait", "60"], env=service.env,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for server in (store, database):
            time.sleep(1.5)
            server.start()
        lines = process.communicate(timeout=60)[1].splitlines()
        assert process.returncode == 0, lines
        assert lines[1].startswith("coffer init: waiting, 60 s left: ")
        bucket, _ = [line for line in lines
                     if line.startswith(("coffer init: bucket ", "coffer init: database "))]
        assert bucket.startswith("coffer init: bucket ") and bucket.endswith(" is made")
        assert service.coffer("fsck").returncode == 0


def test_init_gives_up_when_the_time_is_over(bare):
    nobody = f"http://127.0.0.1:{servers.free_ports(1)[0]}"
    service = bare(STORAGE_DRIVER="s3", S3_ENDPOINT=nobody, S3_ACCESS_KEY="a", S3_SECRET_KEY="b")
    start = time.monotonic()
    result = service.coffer("init", "--wait", "2", check=False)
    assert result.returncode == 75 and 1.5 < time.monotonic() - start < 20
    lines = result.stderr.splitlines()
    assert lines[1].startswith("coffer init: waiting, 2 s left: ")
    assert not lines[-1].startswith("coffer init: waiting")
    start = time.monotonic()
    assert service.coffer("init", check=False).returncode == 75
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("args", [["--wait"], ["--wait", "x"], ["--wait", "-1"], ["--wait", "1", "x"]])
def test_wrong_calls(bare, args):
    result = bare().coffer("init", *args, check=False)
    assert result.returncode == 2 and not result.stdout


# ---- the files themselves ----

def test_no_default_secrets():
    """Each key is to be filled in, and none of the identities is open to everybody."""
    identities = json.loads(IDENTITIES.read_text())["identities"]
    for each in identities:
        for key in each["credentials"]:
            assert key["accessKey"].endswith("_ACCESS_KEY")
            assert key["secretKey"].endswith("_SECRET_KEY")
    assert {each["name"] for each in identities} == {"administrator", "coffer"}
