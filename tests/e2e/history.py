"""A history checker: clients write down what they did and saw while something breaks, and the
invariants I1–I9 of the design are checked against it, during the load and after the fault.

Load runs clients in threads. Every request is an Exchange; its outcome is known when a whole answer
came back, else unknown: the change happened or not, and both are allowed from then on. What a
reader may see follows from the order of calls and returns alone, so no clock is compared.

    load = Load(service, clients=8)
    with load:            # clients run
        break_something()
    load.check()          # waits for the service, then verifies everything

Violations are collected as text and raised together by check().
"""

import hashlib
import http.client
import json
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from exchanges import call, log_faults, problem_fault, upload_request
from service import wait_for

RECOVERY_SECONDS = 10
# For a call; where one database does all tests' writes, one after the other, it takes longer.
PROBE_SECONDS, SHARED_PROBE_SECONDS = 5, 9
LATE_SECONDS = 10  # a store may end a PUT whose client is dead, behind the back of a gc


def kill_now(service, program, number=signal.SIGKILL):
    """Kills what runs of a program; one that is dead already is fine. Returns the pids."""
    pids = service.pids(program)
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    return pids


@dataclass
class Record:
    """One file as its uploads, changes and deletes were seen. Written by one client."""

    name: str
    content_hash: str
    size: int
    key: str | None
    id: str | None = None          # known once acknowledged
    attempts: int = 0
    delete_called: bool = False    # a delete was sent: it may be gone
    delete_acked: bool = False     # a delete was acknowledged: it must be gone
    labels: set = field(default_factory=lambda: {None})  # metadata values it may have now


class Load:
    """Mixed load by `clients` threads. Use as a context manager, then call check()."""

    WAYS = ("form", "put", "pipe")
    SIZES = (0, 1, 700, 20_000, 300_000, 1_500_000)

    def __init__(self, service, clients=8, seed=1, sizes=SIZES, pause=0.002, bare=False):
        self.service = service
        self.port = service.port
        self.clients = clients
        self.sizes = sizes
        self.pause = pause
        self.is_gateway = bool(getattr(service, "words", ()))  # metrics are its nodes'
        self.bare = bare  # the program that writes problems is among those that fail
        self.seed = seed
        self.records = []
        self.violations = []
        self.counts = {}
        self.statuses = {}
        self.failures = []  # exchanges without a whole answer, or with a server's own error
        self.other_names = {f["originalName"] for f in self.list_all()}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = []
        self._started = 0  # clients so far: each has names and a random sequence of its own

    # ---- running ----

    def __enter__(self):
        self._stop.clear()
        numbers = range(self._started, self._started + self.clients)
        self._started += self.clients
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True)
                         for number in numbers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                self._violate("I8", "a client hangs for a minute after the load")

    def acknowledged(self):
        return sum(1 for r in self._snapshot() if r.id)

    def wait_for(self, uploads, within=20):
        """Waits until that many more uploads were acknowledged."""
        goal = self.acknowledged() + uploads
        deadline = time.monotonic() + within
        while self.acknowledged() < goal:
            assert time.monotonic() < deadline, f"only {self.acknowledged()} of {goal} uploads"
            time.sleep(0.02)

    def _snapshot(self):
        with self._lock:
            return list(self.records)

    def _violate(self, invariant, text):
        with self._lock:
            self.violations.append(f"{invariant}: {text}")

    def _run(self, number):
        rng = random.Random(self.seed * 1000 + number)
        worker = Client(self, rng, number)
        while not self._stop.is_set():
            try:
                worker.step()
            except Exception as problem:  # a bug in the checker must not pass for silence
                self._violate("checker", f"{type(problem).__name__}: {problem}")
                return
            time.sleep(self.pause)

    # ---- requests ----

    def request(self, method, path, body=None, headers=None, timeout=30, connection=None):
        """Sends, counts and judges what every answer must keep."""
        exchange = call(self.port, method, path, body, headers, timeout, connection)
        with self._lock:
            self.statuses[exchange.status] = self.statuses.get(exchange.status, 0) + 1
            if exchange.failed:
                self.failures.append(exchange)
        if exchange.status and exchange.status >= 400 and method != "HEAD":
            fault = problem_fault(exchange, self.bare)
            if fault:
                self._violate("I7/I9", f"{exchange} {fault}")
        if exchange.status and not self.bare and not exchange.headers.get("x-request-id"):
            self._violate("I7", f"{exchange} has no X-Request-Id")
        return exchange

    def list_all(self):
        """Every file in the list, page by page."""
        files, cursor = [], ""
        while True:
            page = call(self.port, "GET", f"/api/files?limit=1000{cursor}")
            assert page.status == 200, f"listing failed: {page}"
            files += page.json()["files"]
            if not page.json()["nextCursor"]:
                return files
            cursor = f"&cursor={quote(page.json()['nextCursor'])}"

    # ---- what readers may see ----

    def judge_read(self, record, was_deleted, exchange):
        """One whole read of a record whose upload was acknowledged before it was sent."""
        if exchange.failed:
            if exchange.seen_status == 200 and record.delete_called:
                # What comes from a store ends where the bytes were when they were removed.
                with self._lock:
                    self.failures.remove(exchange)
            return
        if exchange.status == 200:
            if was_deleted:
                self._violate("I3", f"{exchange.path} read after its delete was acknowledged")
            if hashlib.sha256(exchange.body).hexdigest() != record.content_hash:
                self._violate("I1", f"{exchange.path} has other bytes ({len(exchange.body)} of "
                                    f"{record.size})")
        elif exchange.status == 404:
            if not record.delete_called:
                self._violate("I1", f"{exchange.path} was acknowledged and is gone")
        else:
            self._violate("I7", f"unexpected {exchange}")

    # ---- after the fault ----

    def recover(self, within=RECOVERY_SECONDS):
        """I8: within ten seconds of the fault's end every program works."""
        began = time.monotonic()
        seen = []
        while failing := self._probe():
            took = time.monotonic() - began
            seen.append(f"after {took:.1f} s: {failing}")
            if took > within:
                raise AssertionError("\n".join([
                    f"I8: not back within {within} s",
                    *dict.fromkeys(seen[:3] + seen[-3:]), *self._slowest()]))
            time.sleep(0.05)

    def _slowest(self, count=10):
        """What the log says of the requests that took longest."""
        lines = [json.loads(line) for file in self.service.log_files()
                 for line in Path(file).read_bytes().split(b"\n")[:-1]]
        lines.sort(key=lambda line: line.get("event.duration", 0))
        return [json.dumps(line) for line in lines[:-count - 1:-1]]

    def _probe(self):
        """The first call that does not work yet, else None."""
        patience = PROBE_SECONDS if self.service.backend.is_local else SHARED_PROBE_SECONDS
        ready = self.request("GET", "/ready", timeout=patience)
        if ready.status != 200:
            return ready
        content = os.urandom(100)
        record = Record(f"probe-{os.urandom(8).hex()}", hashlib.sha256(content).hexdigest(), 100,
                        None, attempts=1)
        with self._lock:
            self.records.append(record)
        method, path, body, headers = upload_request("put", record.name, content)
        made = self.request(method, path, body, headers, timeout=patience)
        if made.status != 201:
            return made
        record.id = made.json()["id"]
        calls = [("GET", f"/api/files/{record.id}"), ("GET", "/api/files?limit=1"),
                 ("PATCH", f"/api/files/{record.id}"), ("GET", f"/api/files/{record.id}/meta"),
                 ("GET", "/health"), ("GET", "/api/metrics"), ("DELETE", f"/api/files/{record.id}")]
        if self.is_gateway:
            calls.remove(("GET", "/api/metrics"))
        for method, path in calls:
            body, headers = None, {}
            if method == "PATCH":
                body, headers = b"{}", {"Content-Type": "application/merge-patch+json"}
            if method == "DELETE":
                record.delete_called = True
            seen = self.request(method, path, body, headers, timeout=patience)
            if seen.status != 200:
                return seen
        record.delete_acked = True
        return None

    def check(self, fsck=True):
        """Everything the design promises, against everything that was seen."""
        self.recover()
        listed = {}
        for entry in self.list_all():
            if entry["originalName"] not in self.other_names:
                listed.setdefault(entry["originalName"], []).append(entry)
        for record in self._snapshot():
            self._check_record(record, listed.pop(record.name, []))
        for name in listed:
            self._violate("I4", f"{name} is listed and nobody uploaded it")
        if fsck:
            self._check_disk()
        self._check_log()
        assert not self.violations, "\n".join(
            [f"{len(self.violations)} violations ({self.statuses})", *self.violations[:20]])

    def clean_up(self):
        """Deletes its files, so that checks of the next load of the same service take no longer."""
        mine = {record.name for record in self._snapshot()}
        ids = [row["id"] for row in self.list_all() if row["originalName"] in mine]
        for first in range(0, len(ids), 1000):
            done = call(self.port, "POST", "/api/files/delete",
                        json.dumps({"ids": ids[first:first + 1000]}),
                        {"Content-Type": "application/json"}, timeout=60)
            assert done.status == 200, f"files of the load can't be deleted: {done}"
        # Their bytes may be removed after the answer; the next fault shall meet the next load.
        wait_for(lambda: len(self.service.objects()) == self.service.count_files(),
                 "the bytes of the load's files are removed", 60, 0.1)

    def _check_record(self, record, rows):
        if record.key and len(rows) > 1:
            self._violate("I6", f"{len(rows)} files for the key of {record.name}")
        if len(rows) > record.attempts:
            self._violate("I4", f"{len(rows)} files of {record.attempts} uploads of {record.name}")
        if record.delete_acked:
            self._check_gone(record, rows)
            return
        if record.id and record.id not in [row["id"] for row in rows] and not record.delete_called:
            self._violate("I1", f"{record.name} ({record.id}) was acknowledged and is not listed")
        for row in rows:
            self._check_whole(record, row)

    def _check_gone(self, record, rows):
        if record.id in [row["id"] for row in rows]:
            self._violate("I3", f"{record.name} ({record.id}) is listed after its delete")
        base = f"/api/files/{record.id}"
        for method, path, headers in (("GET", base, {}), ("HEAD", base, {}),
                                      ("GET", base + "/meta", {}), ("GET", base + "/download", {}),
                                      ("GET", base, {"Range": "bytes=0-0"}),
                                      ("GET", base, {"If-None-Match": f'"{record.content_hash}"'}),
                                      ("DELETE", base, {})):
            seen = self.request(method, path, headers=headers)
            if seen.status != 404:
                self._violate("I3", f"after its delete {seen} {headers}")

    def _check_whole(self, record, row):
        if (row["size"], row["sha256"]) != (record.size, record.content_hash):
            self._violate("I4", f"{record.name} is listed with {row['size']} bytes")
        seen = self.request("GET", f"/api/files/{row['id']}")
        if seen.status != 200 or hashlib.sha256(seen.body).hexdigest() != record.content_hash:
            self._violate("I2", f"{record.name} ({row['id']}) is listed, not whole: {seen}"[:300])
        label = row["metadata"].get("label")
        if label not in record.labels:
            self._violate("I1", f"{record.name} has label {label!r}, not of {record.labels}")

    def _check_disk(self):
        deadline = time.monotonic() + LATE_SECONDS
        while not self._is_swept(may_wait=time.monotonic() < deadline):
            time.sleep(0.5)
        checked = self.service.coffer("fsck", check=False)
        if checked.returncode != 0:
            self._violate("I2", f"fsck ends with {checked.returncode}: {checked.stdout}"
                                f"{checked.stderr}")

    def _is_swept(self, may_wait):
        """What is stored after a gc is the files' alone; False when something else came to the store
        since the gc began, and nothing else is wrong."""
        began = time.time()
        collected = self.service.coffer("gc", "--grace", "0", check=False)
        if collected.returncode != 0:
            self._violate("I5", f"gc ends with {collected.returncode}: {collected.stderr}")
        rows = self.list_all()
        found = self.service.objects()
        wanted = sorted(row["size"] for row in rows)
        if sorted(found.values()) == wanted:
            return True
        late = set()
        if may_wait and not self.service.backend.is_local:
            late = self.service.stores.objects.since(began) - {row["key"] for row in rows}
        if late and sorted(size for name, size in found.items() if name not in late) == wanted:
            return False
        self._violate("I5", f"{len(found)} objects with {sum(found.values())} bytes for "
                            f"{len(rows)} files after gc: {collected.stdout}")
        return True

    def _check_log(self):
        for file in self.service.log_files():
            checked = self.service.checked_logs[os.stat(file).st_ino]
            for fault in log_faults(file, checked=checked):
                self._violate("I9", fault)


class Client:
    """One thread's part of the load: a random step at a time."""

    STEPS = (("upload", 40), ("read", 30), ("look", 12), ("list", 6), ("label", 8), ("delete", 12),
             ("delete_batch", 3))

    def __init__(self, load, rng, number):
        self.load = load
        self.rng = rng
        self.number = number
        self.own = []
        self.connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=30)
        self.steps, self.weights = zip(*self.STEPS)

    def step(self):
        getattr(self, self.rng.choices(self.steps, self.weights)[0])()

    def request(self, method, path, body=None, headers=None):
        """On the kept connection, or now and then on a new one."""
        kept = None if self.rng.random() < 0.2 else self.connection
        return self.load.request(method, path, body, headers, connection=kept)

    def upload(self):
        content = self.rng.randbytes(self.rng.choice(self.load.sizes))
        name = f"c{self.number}-{self.rng.getrandbits(64):016x}"
        key = f"key-{name}" if self.rng.random() < 0.8 else None
        record = Record(name, hashlib.sha256(content).hexdigest(), len(content), key)
        way = self.rng.choice(self.load.WAYS)
        with self.load._lock:
            self.load.records.append(record)
        self._send(record, way, content)
        # A client with a key tries again until it knows, most of the time.
        if key and not record.id and self.rng.random() < 0.8:
            deadline = time.monotonic() + 2 * RECOVERY_SECONDS
            while not record.id and time.monotonic() < deadline and not self.load._stop.is_set():
                time.sleep(0.1)
                self._send(record, way, content)
        if record.id:
            self.own.append(record)

    def _send(self, record, way, content):
        record.attempts += 1
        method, path, body, headers = upload_request(way, record.name, content, record.key)
        made = self.request(method, path, body, headers)
        if made.status == 201:
            answer = made.json()
            if (answer["sha256"], answer["size"]) != (record.content_hash, record.size):
                self.load._violate("I1", f"acknowledged with other bytes: {made}")
            record.id = answer["id"]
        elif not made.failed and not (made.status == 409 and record.attempts > 1):
            self.load._violate("I7", f"unexpected {made}")

    def read(self):
        known = [r for r in self.load._snapshot()[-200:] if r.id]
        if not known:
            return
        record = self.rng.choice(known)
        was_deleted = record.delete_acked
        path = f"/api/files/{record.id}" + self.rng.choice(("", "/download"))
        self.load.judge_read(record, was_deleted, self.request("GET", path))

    def look(self):
        """HEAD, meta and a range of one file."""
        known = [r for r in self.load._snapshot()[-200:] if r.id]
        if not known:
            return
        record = self.rng.choice(known)
        was_deleted = record.delete_acked
        path = f"/api/files/{record.id}"
        kind = self.rng.choice(("head", "meta", "range"))
        if kind == "head":
            seen = self.request("HEAD", path)
            good = seen.headers.get("content-length") == str(record.size)
        elif kind == "meta":
            seen = self.request("GET", path + "/meta")
            good = seen.status != 200 or seen.json()["sha256"] == record.content_hash
        else:
            seen = self.request("GET", path, headers={"Range": "bytes=0-0"})
            good = len(seen.body) == 1
        if seen.failed:
            return
        if seen.status == 404 and not record.delete_called:
            self.load._violate("I1", f"acknowledged and gone: {seen}")
        if seen.ok and (was_deleted or not good):
            self.load._violate("I3" if was_deleted else "I1", f"{kind}: {seen} {seen.headers}")

    def list(self):
        gone = {r.id for r in self.load._snapshot() if r.delete_acked}
        seen = self.request("GET", "/api/files?limit=100&sort=-createdAt")
        if seen.status == 200:
            back = gone & {row["id"] for row in seen.json()["files"]}
            if back:
                self.load._violate("I3", f"listed after their deletes: {sorted(back)[:3]}")

    def label(self):
        if not self.own:
            return
        record = self.rng.choice(self.own)
        label = f"{self.rng.getrandbits(32):08x}"
        before = set(record.labels)
        record.labels.add(label)
        seen = self.request("PATCH", f"/api/files/{record.id}",
                            json.dumps({"metadata": {"label": label}}),
                            {"Content-Type": "application/merge-patch+json"})
        if seen.status == 200:
            record.labels = {label}
        elif seen.status and seen.status < 500 and not record.delete_called:
            record.labels = before
            self.load._violate("I7", f"unexpected {seen}")

    def delete(self):
        if not self.own:
            return
        record = self.own.pop(self.rng.randrange(len(self.own)))
        again = record.delete_called
        record.delete_called = True
        seen = self.request("DELETE", f"/api/files/{record.id}")
        if seen.status == 200 or (again and seen.status == 404):
            record.delete_acked = True
        elif seen.failed:
            self.own.append(record)
        else:
            self.load._violate("I1", f"unexpected {seen}")

    def delete_batch(self):
        picked = [self.own.pop() for _ in range(min(3, len(self.own)))]
        if not picked:
            return
        again = {r.id: r.delete_called for r in picked}
        for record in picked:
            record.delete_called = True
        seen = self.request("POST", "/api/files/delete",
                            json.dumps({"ids": [r.id for r in picked]}),
                            {"Content-Type": "application/json"})
        if seen.status != 200:
            self.own += picked
            return
        results = {entry["id"]: entry["deleted"] for entry in seen.json()["results"]}
        for record in picked:
            if results.get(record.id) or again[record.id]:
                record.delete_acked = True
            else:
                self.load._violate("I1", f"{record.id} could not be deleted: {seen}")
