"""The images, built and run by a real Docker engine, with the limits and refusals of compose.production.yaml."""

import random
import re
import socket
import threading
import time

import pytest
import requests

from engine import Engine
from monitoring import REPOSITORY
from service import wait_for

VERSION = (REPOSITORY / "VERSION").read_text().strip()
EPOCH = 1796000000
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--init",
            "--memory=512m", "--cpus=2", "--pids-limit=1024",
            "--tmpfs=/run/coffer:size=32m,mode=0700,uid=5921,gid=5921,noexec,nosuid,nodev",
            "--tmpfs=/run/coffer/spool:size=256m,mode=0700,uid=5921,gid=5921,noexec,nosuid,nodev",
            "--tmpfs=/tmp:size=16m,mode=1777,noexec,nosuid,nodev")
PART = 4 << 20
STOP = "50"

pytestmark = pytest.mark.timeout(1800)  # the first of them builds


@pytest.fixture(scope="module", name="engine")
def docker_engine():
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="module", name="images")
def built_images(engine):
    return {target: engine.build(target, f"coffer/{target}:test", VERSION=VERSION, REVISION="abc",
                                 SOURCE_DATE_EPOCH=EPOCH)
            for target in ("all-in-one", "gateway", "backend")}


class Container:
    """An all-in-one on a volume."""

    def __init__(self, engine, image, volume):
        self.engine, self.image, self.volume = engine, image, volume
        self.name = None
        self.create()

    def create(self):
        self.name = self.engine("run", "-d", *HARDENED, "-v", f"{self.volume}:/data",
                                "-p", "127.0.0.1::5921", self.image)
        self.wait()

    def wait(self):
        def answers():
            assert self.engine.inspect(self.name)["State"]["Running"], self.engine("logs", self.name)
            try:
                return requests.get(self.url + "/ready", timeout=5).status_code == 200
            except requests.RequestException:
                return False

        wait_for(answers, "ready", 60)

    @property
    def port(self):
        return int(self.engine("port", self.name, "5921").splitlines()[0].rpartition(":")[2])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def inside(self, *command):
        return self.engine("exec", self.name, *command)

    def remove(self):
        self.engine("rm", "-f", self.name)

    def restart(self):
        self.engine("restart", "-t", STOP, self.name)
        self.wait()

    def kill(self):
        self.engine("kill", self.name)
        self.engine("start", self.name)
        self.wait()

    def recreate(self):
        self.engine("stop", "-t", STOP, self.name)
        self.remove()
        self.create()


@pytest.fixture(scope="module", name="container")
def running_container(engine, images):
    volume = engine("volume", "create")
    container = Container(engine, images["all-in-one"], volume)
    yield container
    container.remove()
    engine("volume", "rm", volume)


@pytest.fixture(scope="module", name="login")
def a_login(container):
    text = container.inside("coffer", "token", "create", "--owner", "alice", "--scope", "read,write",
                            "--expires", "1d")
    return {"Authorization": f"Bearer {text.split()[-1]}"}


def test_the_images_say_what_they_are(engine, images):
    for target, image in images.items():
        found = engine.inspect(image)
        config = found["Config"]
        assert config["User"] == "5921:5921" and config["StopSignal"] == "SIGINT"
        assert config["Healthcheck"]["Test"][0] == "CMD"
        labels = config["Labels"]
        assert labels["org.opencontainers.image.version"] == VERSION
        assert labels["org.opencontainers.image.revision"] == "abc"
        assert labels["org.opencontainers.image.licenses"] == "MIT"
        port = "3847/tcp" if target == "backend" else "5921/tcp"
        assert list(config["ExposedPorts"]) == [port]


def test_the_image_is_small_and_has_nothing_to_build_or_fetch_with(engine, images):
    assert engine.inspect(images["all-in-one"])["Size"] <= 120e6
    missing = "for each in gcc make curl wget python3 git; do ! command -v $each || exit 1; done"
    engine("run", "--rm", "--entrypoint", "/bin/bash", images["all-in-one"], "-c", missing)


def test_files_have_the_time_that_the_build_was_told(engine, images):
    newer = engine("run", "--rm", "--user=0", "--entrypoint", "/bin/bash", images["all-in-one"], "-c",
                   f"find /usr /etc /var -xdev -type f -newermt @{EPOCH}")
    assert {line for line in newer.splitlines() if not re.search("^/etc/(host|resolv)", line)} == set()


def test_from_the_inside_it_has_no_rights(container):
    status = container.inside("cat", "/proc/1/status", "/proc/self/status")
    assert set(re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE)) == {"5921"}
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapInh"):
        assert set(re.findall(rf"^{kind}:\s+(\w+)", status, re.MULTILINE)) == {"0" * 16}
    assert set(re.findall(r"^NoNewPrivs:\s+(\d)", status, re.MULTILINE)) == {"1"}
    for folder in ("/", "/usr/local", "/etc"):
        with pytest.raises(AssertionError, match="Read-only"):
            container.inside("touch", f"{folder}/x")
    mounts = container.inside("cat", "/proc/mounts")
    assert re.search(r"^tmpfs /run/coffer/spool tmpfs \S*noexec\S*size=262144k", mounts, re.MULTILINE)
    host = container.engine.inspect(container.name)["HostConfig"]
    assert host["Memory"] == 512 << 20 and host["PidsLimit"] == 1024 and host["NanoCpus"] == 2 * 10**9
    wait_for(lambda: container.engine.inspect(container.name)["State"]["Health"]["Status"] == "healthy",
             "healthy", 60)


def test_nothing_is_reached_without_a_token(container):
    assert requests.get(container.url + "/api/files", timeout=10).status_code == 401


def slow_upload(port, login, sent, done):
    """An upload of two parts, the second when `sent` is set; its answer goes to `done`."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = (f"PUT /api/files/upload/slow.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * PART}\r\n"
                f"Authorization: {login['Authorization']}\r\nConnection: close\r\n\r\n")
        connection.sendall(head.encode() + b"a" * PART)
        sent.wait(60)
        time.sleep(1)
        connection.sendall(b"b" * PART)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        done.append(answer)


def test_a_stop_lets_an_upload_end_and_it_is_there_in_the_next_container(container, login):
    stopping, done = threading.Event(), []
    client = threading.Thread(target=slow_upload, args=(container.port, login, stopping, done))
    client.start()
    wait_for(lambda: "http_requests_in_flight 2" in requests.get(
        container.url + "/api/metrics", timeout=10).text, "the upload is under way", 20)
    stopping.set()
    container.recreate()
    client.join(60)
    assert b"HTTP/1.1 201 " in done[0], done
    link = re.search(rb'"download":"([^"]+)"', done[0])[1].decode()
    assert requests.get(container.url + link, headers=login, timeout=30).content == (
        b"a" * PART + b"b" * PART)


@pytest.mark.parametrize("seed", range(5))
def test_files_outlive_any_sequence_of_ends(container, login, seed):
    chance = random.Random(seed)
    kept = {}
    for _ in range(3):
        content = chance.randbytes(chance.randrange(1, 100000))
        made = requests.put(container.url + "/api/files/upload/x.bin", data=content, headers=login,
                            timeout=30)
        assert made.status_code == 201
        kept[made.json()["id"]] = content
        chance.choice((container.restart, container.kill, container.recreate))()
        for name, wanted in kept.items():
            assert requests.get(f"{container.url}/api/files/{name}", headers=login,
                                timeout=30).content == wanted


def test_a_gateway_and_a_backend_start_as_what_they_are(engine, images):
    refused = engine("run", "--rm", *HARDENED, "--tmpfs=/data:uid=5921,gid=5921,mode=0700",
                     "--entrypoint", "/bin/bash", images["backend"], "-c",
                     "coffer-serve node check 2>&1; echo code $?")
    assert "S3_ENDPOINT" in refused or "STORAGE_DRIVER" in refused
    assert refused.endswith("code 1")
    said = engine("run", "--rm", *HARDENED, "--tmpfs=/data:uid=5921,gid=5921,mode=0700", "-e",
                  "AUTH_MODE=token", "--entrypoint", "/bin/bash", images["gateway"], "-c",
                  "coffer-serve gateway check 2>&1; echo code $?")
    assert said.endswith("code 0"), said
