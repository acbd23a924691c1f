"""The stores that the services of a run work on, chosen by COFFER_TEST_BACKEND for all of them:

    fs+sqlite       a folder and a file, the default
    s3+mongodb      SeaweedFS and FerretDB, or the servers that S3_TEST_ENDPOINT and
                    MONGODB_TEST_URI name
    s3+sqlite       SeaweedFS and a database file: the core of the suite
    minio+mongodb   MinIO and FerretDB: the core
    libs3+sqlite    MinIO through libs3, and a database file: the core
    nodes           three nodes behind a gateway, on SeaweedFS and FerretDB: the core

One set of servers serves a whole run, all its workers included: the variables of
tests/servers/serve name them, else the process that begins the run starts them. Each service has a
bucket and a database of its own in them, made by its first start and dropped at its end.
"""

import functools
import itertools
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import servers

# Many services at once share two cores and one FerretDB, which does one write at a time.
PATIENT = {"MONGODB_POOL_SIZE": "8", "MONGODB_TIMEOUT_MS": "20000",
           "MONGODB_DEADLINE_SECONDS": "40"}

# Says whose store it is: a file beside the objects, or an object that is none of ours.
MARK = "coffer-installation"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Backend:
    name: str
    storage: str = "fs"
    metadata: str = "sqlite"
    kinds: tuple = ()       # servers, as tests/servers/serve names them
    is_core: bool = False   # only tests marked `core`
    nodes: int = 0          # behind a gateway; 0: one service alone
    share: float = 1.0      # of the generated examples that a property is tried with

    @property
    def is_local(self):
        return self.storage == "fs" and self.metadata == "sqlite"

    def open(self, service):
        """The stores of one service."""
        objects = BucketObjects(self) if self.storage != "fs" else FolderObjects(service)
        database = Database() if self.metadata == "mongodb" else None
        return Stores(objects, database)


BACKENDS = {each.name: each for each in (
    Backend("fs+sqlite"),
    Backend("s3+mongodb", "s3", "mongodb", ("seaweedfs", "ferretdb"), share=0.2),
    Backend("s3+sqlite", "s3", "sqlite", ("seaweedfs",), is_core=True, share=0.2),
    Backend("minio+mongodb", "s3", "mongodb", ("minio", "ferretdb"), is_core=True, share=0.1),
    Backend("libs3+sqlite", "libs3", "sqlite", ("minio",), is_core=True, share=0.2),
    Backend("nodes", "s3", "mongodb", ("seaweedfs", "ferretdb"), is_core=True, nodes=3, share=0.1),
)}


def named(name):
    try:
        return BACKENDS[name]
    except KeyError:
        raise SystemExit(f"COFFER_TEST_BACKEND={name}: not one of {', '.join(BACKENDS)}") from None


@functools.cache
def current():
    return named(os.environ.get("COFFER_TEST_BACKEND") or "fs+sqlite")


# make test-all; there are tests, and rounds of tests, that only it runs.
THOROUGH = os.environ.get("TEST_ALL") == "1"


def rounds(usual, thorough):
    """How often a test tries what depends on chance."""
    return thorough if THOROUGH else usual


def examples(count):
    """How many generated examples of so many this backend is tried with."""
    share = current().share
    if share < 1:
        share *= rounds(0.5, 1)
    return max(5, int(count * share))


# ---- servers ----

def start_servers(backend):
    """Starts what the environment does not name, and names it there; returns what was started."""
    started = []
    try:
        for kind in backend.kinds:
            server = servers.KINDS[kind]()
            if not all(name in os.environ for name in VARIABLES[kind]):
                started.append(server)
                server.launch()
        for server in started:
            server.start()
            os.environ.update(server.variables())
    except BaseException:
        end_servers(started)
        raise
    return started


def end_servers(started):
    for server in started:
        server.close()


VARIABLES = {
    "seaweedfs": ("SEAWEEDFS_ENDPOINT", "SEAWEEDFS_ACCESS_KEY", "SEAWEEDFS_SECRET_KEY",
                  "SEAWEEDFS_REGION"),
    "minio": ("MINIO_TEST_ENDPOINT", "MINIO_TEST_ACCESS_KEY", "MINIO_TEST_SECRET_KEY",
              "MINIO_TEST_REGION"),
    "ferretdb": ("FERRETDB_URI",),
}


class RunningS3(servers.S3):
    """A store that the environment names."""

    def __init__(self, kind):
        self.endpoint, self.access_key, self.secret_key, self.region = (
            os.environ[name] for name in VARIABLES[kind])


@functools.cache
def s3(kind):
    return RunningS3(kind)


@functools.cache
def s3_client(store):
    return store.client(max_pool_connections=32)


@functools.cache
def mongodb_client(uri):
    import pymongo

    return pymongo.MongoClient(uri, serverSelectionTimeoutMS=5000)


# ---- what one service stores ----

class FolderObjects:
    """Objects in the folder of the service; a name is the path of a file."""

    def __init__(self, service):
        self.service = service

    def settings(self):
        return {}

    def every(self):
        return sizes(Path(self.service.data_dir) / "objects")

    def unfinished(self):
        """Bytes that are on their way to be an object lie beside the objects."""
        return {}

    def read(self, name):
        return name.read_bytes()

    def write(self, name, content):
        """Changes an object behind the service's back, or makes one."""
        if name.exists():
            name.chmod(0o600)
        name.write_bytes(content)

    def remove(self, name):
        name.unlink()

    def beside(self, name):
        """The name of an object that nobody knows."""
        text = str(name)
        return Path(text[:-4] + ("0000" if not text.endswith("0000") else "1111"))

    def drop(self):
        pass


def sizes(folder):
    found = {}
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                found[path] = path.stat().st_size
        except FileNotFoundError:
            pass  # it went while we looked
    return found


class BucketObjects:
    """Objects in a bucket of their own; a name is a key. `store` is the server, whatever stands
    between it and the service."""

    def __init__(self, backend=None, store=None):
        self.backend = backend or BACKENDS["s3+mongodb"]
        self.is_runs = store is None  # its server ends with the run, not with a test
        self.store = store or s3(self.backend.kinds[0])
        self.bucket = f"t-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}"

    @property
    def client(self):
        return s3_client(self.store)

    def settings(self):
        return {"STORAGE_DRIVER": self.backend.storage, "S3_ENDPOINT": self.store.endpoint,
                "S3_REGION": self.store.region, "S3_ACCESS_KEY": self.store.access_key,
                "S3_SECRET_KEY": self.store.secret_key, "S3_BUCKET": self.bucket}

    def listed(self):
        """What the store lists but the mark."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return (each for page in pages for each in page.get("Contents", ()) if each["Key"] != MARK)

    def every(self):
        try:
            return {each["Key"]: each["Size"] for each in self.listed()}
        except self.client.exceptions.NoSuchBucket:
            return {}  # the service has not started yet

    def since(self, moment):
        """Names of what was stored since then, and in the second before: the store tells no more."""
        return {each["Key"] for each in self.listed()
                if each["LastModified"].timestamp() >= int(moment)}

    def unfinished(self):
        """{(key, upload id): 0} of multipart uploads that were neither completed nor aborted."""
        listed = self.client.list_multipart_uploads(Bucket=self.bucket)
        return {(each["Key"], each["UploadId"]): 0 for each in listed.get("Uploads", ())}

    def read(self, name):
        return self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read()

    def head(self, name):
        return self.client.head_object(Bucket=self.bucket, Key=name, ChecksumMode="ENABLED")

    def write(self, name, content):
        self.client.put_object(Bucket=self.bucket, Key=name, Body=content)

    def remove(self, name):
        self.client.delete_object(Bucket=self.bucket, Key=name)

    def beside(self, name):
        return name[:-4] + ("0000" if not name.endswith("0000") else "1111")

    def abort_all(self):
        for key, upload in self.unfinished():
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def drop(self):
        """SeaweedFS removes a bucket with what it holds, which takes far less time."""
        try:
            self.client.delete_bucket(Bucket=self.bucket)
        except self.client.exceptions.NoSuchBucket:
            pass
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "BucketNotEmpty":
                raise
            self.empty()
            self.client.delete_bucket(Bucket=self.bucket)

    def empty(self):
        self.abort_all()
        names = [*self.every(), MARK]
        for at in range(0, len(names), 1000):
            self.client.delete_objects(Bucket=self.bucket, Delete={
                "Objects": [{"Key": name} for name in names[at:at + 1000]], "Quiet": True})


class Database:
    """A MongoDB database. `uri` is the server, whatever stands between it and the service."""

    def __init__(self, uri=None):
        self.uri = uri or os.environ["FERRETDB_URI"]
        self.is_runs = uri is None
        self.name = f"t{os.getpid()}_{next(_numbers)}_{secrets.token_hex(4)}"

    def settings(self):
        return {"METADATA_DRIVER": "mongodb", "MONGODB_URI": self.uri,
                "MONGODB_DATABASE": self.name, **PATIENT}

    @property
    def database(self):
        return mongodb_client(self.uri)[self.name]

    def count_files(self):
        return self.database["files"].count_documents({"untilMs": {"$gt": 0}})

    def drop(self):
        mongodb_client(self.uri).drop_database(self.name)


class Stores:
    """Both of one service."""

    def __init__(self, objects, database=None):
        self.objects = objects
        self.database = database

    def settings(self):
        return {**self.objects.settings(), **(self.database.settings() if self.database else {})}

    def drop(self):
        try:
            self.objects.drop()
        finally:
            if self.database:
                self.database.drop()

    def drop_later(self):
        """While the next test runs, where the servers live as long: they wait for their disk."""
        if all(getattr(each, "is_runs", True) for each in (self.objects, self.database)):
            drops.append(dropper.submit(self.drop))
        else:
            self.drop()


dropper = ThreadPoolExecutor(1)
drops = []


def finish_drops():
    """At the end of a run: an error of any is raised."""
    for each in drops:
        each.result()
