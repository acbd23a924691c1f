"""One running Coffer: the real launcher, lighttpd and programs, on a free port and temporary
folders. Everything it starts is found through /proc by this service's own marks, never by name
alone, so several services and test runs can share a machine.
"""

import collections
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import requests
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import backends
from exchanges import CheckedLog
from multipart import encode_multipart

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCHER = REPOSITORY / "lighttpd" / "coffer-serve"
BASE_ENV = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS")

# What lighttpd says of a program that died of itself (tests kill with 9 and 15), and sanitizers.
CRASH = re.compile(r"child signalled: (?!(?:9|15)\b)\d+")
SANITIZER = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error:")
MAX_IDLE = 5  # seconds
# Seconds: nobody waits for others. On an idle machine it is milliseconds; whoever is held up by a slow
# client, a silent store or a tracker waits for longer than this.
PROMPT = 5
EXEC_SECONDS = 10  # after its start a process runs its own program
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
CLIENTS_5XX = (501, 505)  # an unknown method, another HTTP version


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=10.0, interval=0.02):
    """Polls until `condition()` is true and returns its value; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(interval)


def read_proc(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def proc_stat(pid):
    """(state, parent, session, start time) of a process, or None when it is gone."""
    text = read_proc(pid, "stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2:].split()
    return fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19])


def proc_name(pid):
    """The name of the program a process runs: its executable's, else what the kernel calls it."""
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        return name.removesuffix(" (deleted)")
    except OSError:
        return read_proc(pid, "comm").decode(errors="replace").strip()


class Service:
    """`expect_5xx`, `expect_damage` and `expect_unclean` say what a test causes on purpose, so that
    the checks of close() leave it out. `stores` is where it keeps what it is given: those of the
    run's backend, or of another one by its name."""

    def __init__(self, crash=False, binaries=None, stores=None, backend=None, **env):
        self.folder = Path(tempfile.mkdtemp(prefix="coffer-"))
        self.host = env.pop("GATEWAY_HOST", "127.0.0.1")
        self.port = int(env.pop("GATEWAY_PORT", 0) or free_port())
        self.data_dir = Path(env.pop("DATA_DIR", self.folder / "data"))
        self.runtime_dir = Path(env.pop("RUNTIME_DIR", self.folder / "run"))
        # A folder of its own, for programs can write in that of their log.
        (self.folder / "logs").mkdir()
        self.log_file = Path(env.pop("LOG_FILE", self.folder / "logs/log"))
        self.output_file = self.folder / "output"
        if binaries is None:
            default = REPOSITORY / "build" / ("crash" if crash else "release") / "bin"
            binaries = default if crash else os.environ.get("COFFER_BIN", default)
        self.binaries = Path(binaries).resolve()
        self.extra_env = {name: str(value) for name, value in env.items()}
        self.backend = backends.named(backend) if backend else backends.current()
        self.stores = stores or self.backend.open(self)
        self.process = None
        self.expect_5xx = False
        self.expect_damage = False
        self.expect_unclean = False
        self.closed = False
        self._threads = threading.local()
        self._seen = {}
        self._others = set()  # (pid, start time) of processes that are not of this service
        self.checked_logs = collections.defaultdict(CheckedLog)  # by inode

    # ---- processes ----

    @property
    def env(self):
        env = {name: os.environ[name] for name in BASE_ENV if name in os.environ}
        env.update(
            GATEWAY_HOST=self.host,
            GATEWAY_PORT=str(self.port),
            DATA_DIR=str(self.data_dir),
            RUNTIME_DIR=str(self.runtime_dir),
            LOG_FILE=str(self.log_file),
            COFFER_BIN=str(self.binaries),
        )
        env.update(self.stores.settings())
        env.update(self.extra_env)
        return env

    @property
    def url(self):
        host = "[::1]" if ":" in self.host else "127.0.0.1"
        return f"http://{host}:{self.port}"

    def start(self, ready=True):
        self.launch()
        if ready:
            self.wait_ready()
        return self

    def launch(self):
        """Starts the launcher without waiting for anything."""
        with open(self.output_file, "ab") as output:
            self.process = subprocess.Popen(
                [str(LAUNCHER), "foreground"],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._seen = {}

    def wait_ready(self, seconds=20.0):
        """Until /ready answers 200 and every other program takes requests."""

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the service left at once:\n{self.output()}")
            try:
                return all(
                    requests.get(self.url + path, timeout=5).status_code == status
                    for path, status in (("/ready", 200), ("/live", 200), ("/-/nothing", 404))
                )
            except requests.RequestException:
                return False

        try:
            wait_for(ready, "service ready", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    def output(self):
        """What launcher and lighttpd wrote, for messages."""
        text = self.output_file.read_text(errors="replace") if self.output_file.exists() else ""
        return text[-8000:]

    def gateway_log(self):
        """lighttpd's error log, where programs' standard error ends too."""
        path = self.log_file.with_name("lighttpd-error.log")
        return path.read_text(errors="replace") if path.exists() else ""

    def all_pids(self):
        """Every process this service started: descendants of the launcher, members of its session,
        and those that carry its RUNTIME_DIR (a killed parent leaves orphans)."""
        if self.process is None:
            return []
        mark = b"RUNTIME_DIR=" + str(self.runtime_dir).encode()
        # A process has its parent's environment until it runs its own program.
        young = (time.clock_gettime(time.CLOCK_BOOTTIME) - EXEC_SECONDS) * CLOCK_TICKS
        stats = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                stat = proc_stat(entry)
                if stat and stat[0] not in "ZX":
                    stats[int(entry)] = stat
        root = self.process.pid
        mine = {pid for pid, stat in stats.items() if pid == root or stat[2] == root}
        mine |= {
            pid for pid, start in self._seen.items() if pid in stats and stats[pid][3] == start
        }
        for pid, stat in stats.items():
            process = pid, stat[3]
            if pid in mine or process in self._others:
                continue
            if pid != os.getpid() and mark in read_proc(pid, "environ").split(b"\0"):
                mine.add(pid)
            elif stat[3] < young:
                self._others.add(process)
        grown = True
        while grown:
            more = {pid for pid, stat in stats.items() if stat[1] in mine} - mine
            mine |= more
            grown = bool(more)
        self._seen.update({pid: stats[pid][3] for pid in mine if pid in stats})
        return sorted(pid for pid in mine if pid in stats)

    def pids(self, program):
        """The processes that run `program`, e.g. "files_upload" or "lighttpd"."""
        return [pid for pid in self.all_pids() if proc_name(pid) == program]

    def kill(self, program, number=signal.SIGKILL):
        """Sends a signal to every process of a program; returns their pids."""
        found = self.pids(program)
        assert found, f"no process of {program} is running"
        for pid in found:
            os.kill(pid, number)
        return found

    def stop(self, expect=0, seconds=40.0):
        """SIGINT, as Ctrl-C does: drains, then all leave."""
        assert self.process.poll() is None, f"the service has left already:\n{self.output()}"
        self.all_pids()
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not stopped after {seconds} s: {self.doing()}\n"
                                 f"{self.output()}\n{self.gateway_log()[-4000:]}") from None
        assert expect is None or code == expect, f"exit {code}, not {expect}:\n{self.output()}"
        try:
            wait_for(lambda: not self.all_pids(), "all processes gone", 5)
        except AssertionError:
            left = {pid: proc_name(pid) for pid in self.all_pids()}
            raise AssertionError(f"left running: {left}\n{self.output()}") from None

    def doing(self):
        """What each process is at: its name, its state, where in the kernel its threads wait."""
        found = {}
        for pid in self.all_pids():
            stat = proc_stat(pid)
            tasks = Path(f"/proc/{pid}/task").glob("*/wchan")
            found[pid] = (proc_name(pid), stat and stat[0],
                          sorted({read_proc(f"{pid}/task/{task.parent.name}", "wchan").decode()
                                  for task in tasks}))
        return found

    def kill_all(self):
        """SIGKILL to everything, as a power cut."""
        if self.process is None:
            return
        while pids := self.all_pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.poll()
        self.process.wait(timeout=10)

    def restart(self):
        if self.process.poll() is None:
            self.stop()
        return self.start()

    def coffer(self, *args, check=True, timeout=60, **env):
        """Runs the admin command in the service's environment."""
        result = subprocess.run(
            [str(self.binaries / "coffer"), *args],
            env={**self.env, **env},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert result.returncode == 0, f"coffer {args}: {result}"
        return result

    def token(self, owner, scope="read,write", expires="90d"):
        """A new token's text."""
        made = self.coffer(
            "token", "create", "--owner", owner, "--scope", scope, "--expires", expires
        )
        return made.stdout.strip().splitlines()[-1].strip()

    # ---- HTTP ----

    @property
    def http(self):
        """This thread's requests.Session. One that was idle is not used again: the gateway may be
        about to close its connections (max-keep-alive-idle)."""
        idle = time.monotonic() - getattr(self._threads, "used", -MAX_IDLE)
        if idle >= MAX_IDLE or not hasattr(self._threads, "session"):
            self._threads.session = requests.Session()
            self._threads.session.trust_env = False
        self._threads.used = time.monotonic()
        return self._threads.session

    def request(self, method, path, token=None, headers=None, timeout=60, **options):
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.request(
            method, self.url + path, headers=headers, timeout=timeout, **options
        )

    def __getattr__(self, name):
        if name in ("get", "head", "post", "put", "patch", "delete", "options"):
            return functools.partial(self.request, name.upper())
        raise AttributeError(name)

    def upload(self, content, name="file.bin", token=None, headers=None, mime=None, **fields):
        """POST /api/files/upload; `fields` are the text parts, in their order."""
        parts = [
            (field, value if isinstance(value, str) else json.dumps(value))
            for field, value in fields.items()
        ]
        body, content_type = encode_multipart(parts, content, name, mime)
        headers = {**(headers or {}), "Content-Type": content_type}
        return self.request("POST", "/api/files/upload", token, headers, data=body)

    def create(self, content=b"content", name="file.bin", **options):
        """Uploads and returns the file object."""
        response = self.upload(content, name, **options)
        assert response.status_code == 201, f"{response.status_code}: {response.text}"
        return response.json()

    # ---- what it says about itself ----

    def log_files(self):
        return [self.log_file]

    def settle_log(self, quiet=0.1):
        """Waits until no more lines come: they are written a moment after the answer. At most a few
        seconds, for there may be a load."""
        sizes = [None]
        deadline = time.monotonic() + 3
        while len(sizes) * 0.02 < quiet or sizes.count(sizes[-1]) < len(sizes):
            if time.monotonic() > deadline:
                return
            size = [path.stat().st_size for path in self.log_file.parent.glob("log*")
                    if path.is_file()]
            sizes = [*sizes, size] if sizes[-1] == size else [size]
            time.sleep(0.02)

    def all_log_lines(self):
        """Every log line, parsed; a line that isn't JSON fails the test."""
        self.settle_log()
        if not self.log_file.is_file():
            return []
        lines = self.log_file.read_bytes().split(b"\n")
        assert lines.pop() == b"", "the log doesn't end with a whole line"
        return [json.loads(line) for line in lines]

    def wait_until_started(self):
        """Until every program says so. What is asked before is answered, too: it waits for the one
        program that answers it."""
        # All but the driver that programs load, and the admin command.
        programs = [path.name for path in self.binaries.iterdir()
                    if not path.suffix and path.name != "coffer"]
        wait_for(lambda: len({line["service"] for line in self.all_log_lines()
                              if line["message"] == "started"}) == len(programs),
                 "every program has started")

    def log_lines(self):
        """The programs' lines."""
        return [line for line in self.all_log_lines() if line["service"] != "coffer-gateway"]

    def gateway_lines(self):
        """The gateway's: one for each answer that lighttpd gave."""
        return [line for line in self.all_log_lines() if line["message"] == "answer"]

    def metrics_text(self, accept=None, path="/api/metrics", token=None):
        response = self.get(path, token=token, headers={"Accept": accept} if accept else {})
        assert response.status_code == 200, response.text
        return response

    def metrics(self, path="/api/metrics", token=None):
        """{(sample name, ((label, value), …)): value}; labels sorted by name."""
        text = self.metrics_text(path=path, token=token).text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name, path="/api/metrics", **labels):
        """The sum of a metric's samples that carry these labels."""
        wanted = set(labels.items())
        return sum(
            value
            for (sample, pairs), value in self.metrics(path).items()
            if sample == name and wanted <= set(pairs)
        )

    def reports(self, **labels):
        """Error reports, whoever sent them: programs, or the gateway's log."""
        return sum(self.metric("sentry_events_total", path, **labels)
                   for path in ("/api/metrics", "/metrics"))

    def in_flight(self):
        """Requests that programs work on, besides the one that asks."""
        return self.metric("http_requests_in_flight") - 1

    def wait_in_flight(self, count=1):
        wait_for(lambda: self.in_flight() >= count, f"{count} in flight")

    def wait_idle(self, seconds=10):
        wait_for(lambda: self.in_flight() <= 0, "no request in flight", seconds)

    @staticmethod
    def parse_openmetrics(text):
        return list(openmetrics.text_string_to_metric_families(text))

    def objects(self):
        """{name: size} of the bytes that are stored; on fs also of those on their way to be."""
        return self.stores.objects.every()

    def stored_bytes(self):
        """{name: size} of all that is stored, and of what is on its way to be: on fs everything
        below DATA_DIR but the database and the mark."""
        if isinstance(self.stores.objects, backends.BucketObjects):
            return {**self.objects(), **self.stores.objects.unfinished()}
        return {path: size for path, size in backends.sizes(self.data_dir).items()
                if ".sqlite" not in path.name and path.name != backends.MARK}

    def count_files(self):
        """How many files there are. MongoDB's kept total follows the rows, and is made right by a
        sweep when a process died in between: there the rows themselves are counted."""
        if self.stores.database:
            return self.stores.database.count_files()
        return self.get("/api/files?limit=1").json()["total"]

    def look(self):
        stored = self.stored_bytes()
        return self.count_files(), len(stored), sum(stored.values())

    def state(self):
        """(files, objects, bytes) stored now. In a bucket the bytes of deleted files go soon after
        the answer, those of expired ones with a sweep: it is settled when each file has an object
        and nothing has changed between two looks, or when it stays another way after a sweep."""
        seen = [self.look()]
        if isinstance(self.stores.objects, backends.FolderObjects):
            return seen[0]
        deadline, swept = time.monotonic() + 15, None
        while time.monotonic() < deadline:
            time.sleep(0.1)
            seen.append(self.look())
            files, objects, _ = seen[-1]
            if seen[-1] == seen[-2] and files == objects:
                return seen[-1]
            if swept is None and len(seen) == 20:
                self.coffer("gc", check=False)
                swept = len(seen)
            if swept and len(seen) >= swept + 10 and len(set(seen[-10:])) == 1:
                return seen[-1]
        raise AssertionError(f"what is stored does not settle: {seen[-3:]}")

    def object_of(self, content):
        """The name of the one object that holds this content."""
        found = [name for name, size in self.objects().items()
                 if size == len(content) and self.stores.objects.read(name) == content]
        assert len(found) == 1, f"{len(found)} objects hold it"
        return found[0]

    def spooled(self):
        """Names of bodies in the gateway's spool, which may be a mount only the gateway sees."""
        return [
            name
            for pid in self.pids("lighttpd")
            for name in os.listdir(f"/proc/{pid}/root{self.runtime_dir}/spool")
        ]

    # ---- the end ----

    def check(self):
        """What must hold at the end of every test: no crash and no 5xx nobody expected, and what
        is stored is what is known (fsck)."""
        said = self.gateway_log()
        assert not SANITIZER.search(said), f"a sanitizer spoke:\n{said[-8000:]}"
        if not self.expect_5xx:
            assert not CRASH.search(said), f"a program crashed:\n{said[-8000:]}"
            failed = [
                line for line in self.log_lines()
                if line.get("http.response.status_code", 0) >= 500
                and line["http.response.status_code"] not in CLIENTS_5XX
            ]
            assert not failed, f"5xx in the log: {failed[:3]}"
        if not self.expect_damage:
            fsck = self.coffer("fsck", check=False, timeout=300)
            assert fsck.returncode == 0, f"fsck: {fsck.stdout}\n{fsck.stderr}"

    def close(self):
        """Stops, checks, removes the folder and what is stored elsewhere; kills what is left
        whatever happens. Once: what its stores stand on may end after that."""
        if self.closed:
            return
        self.closed = True
        try:
            if self.process is None:
                return
            if self.process.poll() is None and not self.expect_unclean:
                self.stop()
            left = {pid: proc_name(pid) for pid in self.all_pids()}
            assert self.expect_unclean or not left, f"left running: {left}"
            self.kill_all()
            if not self.expect_unclean:
                self.check()
        finally:
            self.kill_all()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.stores.drop_later()


def open_service(**options):
    """A service, or as many nodes as this run's backend has, that answer as one."""
    if backends.current().nodes and "backend" not in options:
        from cluster import Cluster  # which is made of what stands here

        return Cluster(backends.current().nodes, **options)
    return Service(**options)


def running(**options):
    """For fixtures with `yield from`: a started service that is closed afterwards."""
    service = open_service(**options)
    try:
        service.start()
        yield service
    finally:
        service.close()
