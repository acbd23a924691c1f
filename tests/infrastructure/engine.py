"""A Docker engine for tests: started here from Debian's packages (docker.io, iptables), with its own folders,
socket and bridge, and ended by its own pid; and a base image made by debootstrap, as none can be counted on to be
pulled. COFFER_TEST_DOCKER=unix:///var/run/docker.sock uses an engine that runs already."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from monitoring import REPOSITORY

DOCKER = "/usr/bin/docker"  # one in PATH may lack BuildKit
BASE = "debian:coffer-test"
ROOT = REPOSITORY / ".cache" / "servers" / "debian-bookworm.tar"
MIRROR = "http://deb.debian.org/debian"
BRIDGE = "172.30.249.1/24"
# What Debian's own slim images leave out.
SLIM = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/groff",
        "usr/share/lintian", "var/cache/apt", "var/lib/apt/lists", "var/log")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False, **options)
    assert done.returncode == 0, f"{command[:6]}: {done.stdout[-4000:]}"
    return done.stdout.strip()


def make_base():
    """A tar of Debian 12 as its slim image has it, with this machine's sources of packages."""
    if ROOT.exists():
        return
    folder = Path(tempfile.mkdtemp(prefix="coffer-base."))
    try:
        root = folder / "root"
        run("debootstrap", "--variant=minbase", "bookworm", root, MIRROR)
        for part in SLIM:
            shutil.rmtree(root / part, ignore_errors=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (root / "var/lib/apt/lists/partial").mkdir(parents=True)
        (root / "var/log").mkdir()
        for name in Path("/etc/apt/apt.conf.d").glob("*artifact*"):
            shutil.copy(name, root / "etc/apt/apt.conf.d")
        (root / "etc/apt/sources.list").write_text("".join(
            f"deb {MIRROR}{suffix} {suite} main\n" for suffix, suite in (
                ("", "bookworm"), ("", "bookworm-updates"), ("-security", "bookworm-security"))))
        ROOT.parent.mkdir(parents=True, exist_ok=True)
        new = ROOT.with_suffix(".new")
        with tarfile.open(new, "w") as archive:
            archive.add(root, ".")
        new.rename(ROOT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_network(forward):
    """What dockerd leaves behind: its bridge, its chains, the rules that lead there, the policy of FORWARD."""
    subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
    run("iptables", *forward.split())
    for table in ("filter", "nat"):
        rules = run("iptables", "-t", table, "-S").splitlines()
        for rule in rules:
            if rule.startswith("-A") and ("DOCKER" in rule or "docker0" in rule or "172.30.249." in rule):
                subprocess.run(["iptables", "-t", table, "-D", *rule.split()[1:]], capture_output=True,
                               check=False)
        for rule in rules:
            if rule.startswith("-N DOCKER"):
                subprocess.run(["iptables", "-t", table, "-X", rule.split()[1]], capture_output=True,
                               check=False)


class Engine:
    def __init__(self):
        self.host = os.environ.get("COFFER_TEST_DOCKER")
        self.process = self.folder = self.forward = None

    def __enter__(self):
        if not self.host:
            assert not Path("/sys/class/net/docker0").exists(), (
                "a Docker engine runs here, or left its bridge docker0: name it in COFFER_TEST_DOCKER")
            self.forward = run("iptables", "-S", "FORWARD").splitlines()[0]  # dockerd changes it
            self.folder = Path(tempfile.mkdtemp(prefix="coffer-docker."))
            self.host = f"unix://{self.folder}/docker.sock"
            with (self.folder / "log").open("wb") as log:
                self.process = subprocess.Popen(
                    ["/usr/sbin/dockerd", "--data-root", self.folder / "data", "--exec-root",
                     self.folder / "exec", "--pidfile", self.folder / "pid", "-H", self.host,
                     "--bip", BRIDGE], stdout=log, stderr=log, start_new_session=True)
            deadline = time.monotonic() + 60
            while subprocess.run([DOCKER, "-H", self.host, "version"], capture_output=True,
                                 check=False).returncode:
                assert self.process.poll() is None and time.monotonic() < deadline, (
                    (self.folder / "log").read_text()[-3000:])
                time.sleep(0.2)
        if not self("images", "-q", BASE):
            make_base()
            self("import", ROOT, BASE)
        return self

    def __exit__(self, *_):
        if self.process:
            for container in self("ps", "-aq").split():
                self("rm", "-fv", container)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)
            remove_network(self.forward)

    def __call__(self, *arguments, **options):
        return run(DOCKER, "-H", self.host, *arguments, **options)

    def build(self, target, tag, **arguments):
        words = [f"--build-arg={name}={value}" for name, value in
                 {"DEBIAN": BASE, "JOBS": os.cpu_count(), **arguments}.items()]
        self("build", "--target", target, "-f", REPOSITORY / "docker/Dockerfile", "-t", tag, *words,
             REPOSITORY, env={**os.environ, "DOCKER_BUILDKIT": "1"})
        return tag

    def inspect(self, name):
        return json.loads(self("inspect", name))[0]
