"""Real servers for tests, each on free loopback ports with its data in a folder of its own:
SeaweedFS and MinIO (S3), FerretDB (MongoDB's protocol). tests/servers/install brings the programs,
tests/servers/serve starts them from a shell. Only the standard library is needed here, boto3 where
a client is asked for.

    with SeaweedFS() as store:
        store.make_bucket("uploads")
        store.kill()      # SIGKILL: whatever it had in memory is gone
        store.start()     # the same ports, the same data

Each server dies with the thread that started it, so nothing outlives a test run that was killed;
start them from a thread that lives as long as they are needed. `s3_store()` and `mongodb()` give
the servers that S3_TEST_ENDPOINT and MONGODB_TEST_URI name, else start their own.
"""

import functools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import sigv4

REPOSITORY = Path(__file__).resolve().parents[2]
INSTALL = REPOSITORY / "tests" / "servers" / "install"
PROGRAMS = REPOSITORY / ".cache" / "servers" / "bin"
# Below the range that the kernel gives to clients, so that a port stays free while its server is
# down; two runs that pick the same one find out, and the later picks anew.
PORTS = range(20000, 32000)
# BUCKET.localhost is this machine too, so addressing by virtual host works: `host_endpoint`.
VIRTUAL_HOST = "localhost"
START_SECONDS = 60
START_TRIES = 5


class StartFailed(Exception):
    pass


@functools.cache
def install(name):
    """Once a process: costs nothing when the program is there."""
    if subprocess.run([INSTALL, name], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
        raise StartFailed(f"{name} could not be installed")


def free_ports(count):
    """Ports on 127.0.0.1 that nobody listens on now."""
    found, probes = [], []
    try:
        while len(found) < count:
            port = random.SystemRandom().choice(PORTS)
            probe = socket.socket()
            probes.append(probe)
            try:
                probe.bind(("127.0.0.1", port))
                found.append(port)
            except OSError:
                pass
    finally:
        for probe in probes:
            probe.close()
    return found


def is_open(port):
    """Whether anybody listens there: asked first, as listens() takes long."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listens(pid, port):
    """Whether this very process listens on the port: another's server may have taken it."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            return False
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    try:
        return any(os.readlink(each.path) in inodes for each in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


class Server:
    """One process. `ports` stay the same for its life, unless one was taken before its first
    start was through."""

    name = program = None
    port_count = 1
    start_seconds = START_SECONDS
    stop_seconds = 20

    def __init__(self):
        self.prepare()
        self.folder = Path(tempfile.mkdtemp(prefix=f"coffer-{self.name}."))
        self.log = self.folder / "log"
        self.process = None
        self.ports = free_ports(self.port_count)
        self.ever_started = False

    # What each kind of server tells.

    def prepare(self):
        """Sees to it that its program is there."""
        install(self.name)

    def command(self):
        raise NotImplementedError

    def environment(self):
        """For what is written in Go: less collecting of garbage, as there is memory enough."""
        return {"GOGC": "400"}

    def answers(self):
        """Whether it does its work; OSError while it doesn't."""
        raise NotImplementedError

    def variables(self):
        """What tests/servers/serve exports."""
        raise NotImplementedError

    # Its life.

    @property
    def port(self):
        return self.ports[0]

    @property
    def pid(self):
        return self.process.pid if self.process else None

    @property
    def pids(self):
        return [self.process.pid] if self.running() else []

    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        """Returns when it answers. The first start picks new ports when one was taken meanwhile;
        a later one keeps them, as clients know them. To start several at once, launch() each
        first."""
        for _ in range(START_TRIES):
            if not self.running():
                self.launch()
            if self.wait_until_ready():
                self.ever_started = True
                return self
            self.kill()
            if not self.ever_started:
                self.ports = free_ports(self.port_count)
        raise StartFailed(f"{self.name} does not start; the end of its log:\n{self.log_end()}")

    def launch(self):
        """Returns at once."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder),
                       "TMPDIR": str(self.folder), **self.environment()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, self.command())],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)

    def wait_until_ready(self):
        """False when the process ended of itself."""
        deadline = time.monotonic() + self.start_seconds
        while self.running():
            try:
                if (all(map(is_open, self.ports)) and self.answers()
                        and all(listens(self.pid, port) for port in self.ports)):
                    return True
            except OSError:
                pass
            if time.monotonic() > deadline:
                self.kill()
                raise StartFailed(f"{self.name} does not answer after {self.start_seconds} s; the "
                                  f"end of its log:\n{self.log_end()}")
            time.sleep(0.05)
        return False

    def log_end(self):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-20:])

    def stop(self):
        """SIGTERM, and SIGKILL when that takes too long."""
        self.end(signal.SIGTERM)

    def kill(self):
        """SIGKILL."""
        self.end(signal.SIGKILL)

    def end(self, number):
        if not self.process:
            return
        if self.running():
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            self.process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def pause(self):
        """SIGSTOP: connections are still accepted by the kernel, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        """Ends it at once and removes its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()


class S3:
    """What a test does with any S3 store: `endpoint`, `access_key`, `secret_key`, `region`."""

    region = "us-east-1"

    def request(self, method, path, **options):
        """(status, headers, body) of a signed request; see sigv4.request()."""
        return sigv4.request(self.endpoint, method, path, access_key=self.access_key,
                             secret_key=self.secret_key, region=self.region, **options)

    def answers(self):
        status, _, body = self.request("GET", "/")
        return status == 200 and b"ListAllMyBucketsResult" in body

    def make_bucket(self, name):
        """Makes it, unless it is there."""
        status, _, body = self.request("PUT", f"/{name}")
        if status != 200 and b"BucketAlreadyOwnedByYou" not in body:
            raise AssertionError(f"bucket {name}: {status} {body.decode(errors='replace')}")
        return name

    def client(self, endpoint=None, **config):
        """A boto3 client; `config` goes to botocore.config.Config."""
        import boto3
        from botocore.config import Config

        config.setdefault("s3", {"addressing_style": "path"})
        config.setdefault("signature_version", "s3v4")
        config.setdefault("retries", {"total_max_attempts": 1})
        return boto3.client("s3", endpoint_url=endpoint or self.endpoint,
                            region_name=self.region, aws_access_key_id=self.access_key,
                            aws_secret_access_key=self.secret_key, config=Config(**config))

    def variables(self):
        return {f"{self.prefix}_ENDPOINT": self.endpoint, f"{self.prefix}_REGION": self.region,
                f"{self.prefix}_ACCESS_KEY": self.access_key,
                f"{self.prefix}_SECRET_KEY": self.secret_key}


class S3Server(S3, Server):
    """A store that takes no request but those signed with its own random key."""

    def __init__(self):
        self.access_key = f"coffer{secrets.token_hex(5)}"
        self.secret_key = secrets.token_hex(20)
        super().__init__()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def host_endpoint(self):
        """For addressing by virtual host: http://BUCKET.localhost:PORT/KEY."""
        return f"http://{VIRTUAL_HOST}:{self.port}"


class SeaweedFS(S3Server):
    """Master, volume server, filer and S3 gateway in one process. Each bucket takes seven small
    volumes, made as it is first written to. Statistics are not sent anywhere."""

    name, program, prefix = "seaweedfs", "weed", "SEAWEEDFS"
    port_count = 8
    stop_seconds = 1  # its filer would wait 15 s for connections of its own parts

    def command(self):
        s3, s3_grpc, filer, filer_grpc, volume, volume_grpc, master, master_grpc = self.ports
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        identities = self.folder / "s3.json"
        identities.write_text(json.dumps({"identities": [{
            "name": "coffer",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin"]}]}))
        return [
            PROGRAMS / self.program, "-logtostderr=true", "server", f"-dir={data}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-idleTimeout=120",
            f"-master.port={master}", f"-master.port.grpc={master_grpc}",
            # A master alone elects itself 0.5 s after a start, not 18 s.
            "-master.heartbeatInterval=100ms", "-master.electionTimeout=500ms",
            "-master.telemetry=false", "-master.volumeSizeLimitMB=256",
            f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}",
            "-volume.max=5000", "-volume.minFreeSpace=64MiB", "-volume.preStopSeconds=0",
            "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
            f"-filer.localSocket={self.folder}/filer.sock",
            "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.config={identities}",
            f"-s3.domainName={VIRTUAL_HOST}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.iam=false", "-s3.autoCreateBucket=false", f"-s3.localSocket={self.folder}/s3.sock",
        ]

    def answers(self):
        """Also that the volume server is known: the gateway is up before that."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[6]}/dir/status",
                                    timeout=5) as answer:
            topology = json.load(answer)["Topology"]
        nodes = [node for center in topology["DataCenters"] or [] for rack in center["Racks"] or []
                 for node in rack["DataNodes"] or []]
        return bool(nodes) and super().answers()

    def end(self, number):
        super().end(number)
        for kind, port in zip(("s3", "filer", "volume", "master"), self.ports[1::2]):
            Path(f"/tmp/seaweedfs-{kind}-grpc-{port}.sock").unlink(missing_ok=True)


class MinIO(S3Server):
    """MinIO on one folder, without its console."""

    name, program, prefix = "minio", "minio", "MINIO_TEST"

    def command(self):
        return [PROGRAMS / self.program, "server", "--quiet", "--address",
                f"127.0.0.1:{self.port}", self.folder / "data"]

    def environment(self):
        return {**super().environment(), "MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CI_CD": "on",
                "MINIO_DOMAIN": VIRTUAL_HOST}


def wire_ping(host, port):
    """Whether a MongoDB-speaking server answers `ping`: one OP_MSG there, one back."""
    def element(kind, name, value):
        return kind + name.encode() + b"\0" + value

    content = (element(b"\x10", "ping", struct.pack("<i", 1))
               + element(b"\x02", "$db", struct.pack("<i", 6) + b"admin\0") + b"\0")
    document = struct.pack("<i", len(content) + 4) + content
    message = struct.pack("<iB", 0, 0) + document
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(struct.pack("<iiii", len(message) + 16, 1, 0, 2013) + message)
        with connection.makefile("rb") as stream:
            header = stream.read(16)
            if len(header) < 16:
                return False
            answer = stream.read(struct.unpack("<i", header[:4])[0] - 16)
    return b"\x01ok\0" + struct.pack("<d", 1.0) in answer


class MongoDB:
    """`uri` of a server that speaks MongoDB's protocol."""

    prefix = "FERRETDB"

    def client(self, **options):
        """A pymongo client."""
        import pymongo

        return pymongo.MongoClient(self.uri, **options)

    def variables(self):
        return {f"{self.prefix}_URI": self.uri}


class FerretDB(MongoDB, Server):
    """FerretDB 1 on SQLite files. It has no login."""

    name, program = "ferretdb", "ferretdb"

    @property
    def uri(self):
        return f"mongodb://127.0.0.1:{self.port}/"

    def command(self):
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        return [PROGRAMS / self.program, "--handler=sqlite", f"--sqlite-url=file:{data}/",
                f"--listen-addr=127.0.0.1:{self.port}", "--debug-addr=-", "--telemetry=disable",
                f"--state-dir={self.folder}", "--log-level=warn"]

    def answers(self):
        return wire_ping("127.0.0.1", self.port)


class Given:
    """A server that somebody else runs: start and end are not ours."""

    pids = []

    def launch(self):
        pass

    def start(self):
        try:
            if self.answers():
                return self
        except OSError as error:
            raise StartFailed(f"{self.where}: {error}") from None
        raise StartFailed(f"{self.where} does not answer a list of its buckets as it should")

    def close(self):
        pass

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        pass


class GivenS3(Given, S3):
    """S3_TEST_ENDPOINT, S3_TEST_ACCESS_KEY, S3_TEST_SECRET_KEY, S3_TEST_REGION (us-east-1)."""

    prefix = "SEAWEEDFS"

    def __init__(self):
        self.where = self.endpoint = os.environ["S3_TEST_ENDPOINT"]
        self.region = os.environ.get("S3_TEST_REGION", S3.region)
        try:
            self.access_key = os.environ["S3_TEST_ACCESS_KEY"]
            self.secret_key = os.environ["S3_TEST_SECRET_KEY"]
        except KeyError as error:
            raise StartFailed(f"S3_TEST_ENDPOINT is set, {error} is not") from None


class GivenMongoDB(Given, MongoDB):
    """MONGODB_TEST_URI. Whether it answers is left to the driver that knows its options."""

    def __init__(self):
        self.uri = os.environ["MONGODB_TEST_URI"]
        self.where = urllib.parse.urlsplit(self.uri).hostname

    def answers(self):
        return True


def s3_store():
    """Not started yet: the store S3_TEST_ENDPOINT names, else a SeaweedFS."""
    return GivenS3() if os.environ.get("S3_TEST_ENDPOINT") else SeaweedFS()


def mongodb():
    """Not started yet: the server MONGODB_TEST_URI names, else a FerretDB."""
    return GivenMongoDB() if os.environ.get("MONGODB_TEST_URI") else FerretDB()


KINDS = {"seaweedfs": s3_store, "minio": MinIO, "ferretdb": mongodb}
