"""F24, F35, F36: keys of requests while the database is locked, after a clock was set back, and
without end."""

import contextlib
import json
import sqlite3
import threading
import time

import pytest

import backends
from exchanges import call, upload_request
from faultproxy import FaultProxy
from history import RECOVERY_SECONDS
from rawhttp import RawConnection, raw_request
from samples import unique
from service import open_service, running, wait_for

HAS_SQLITE = backends.current().metadata == "sqlite"
IDLE = 3    # seconds, BODY_IDLE_SECONDS
NOISE = 5   # of a busy machine
HOUR_MS = 3600 * 1000
KEYED = 4   # uploads at once


class Locked:
    """A service whose database can be held up, with leases that are short."""

    def __init__(self):
        self.proxy, stores = None, None
        if not HAS_SQLITE:
            stores = backends.current().open(None)
            self.proxy = FaultProxy(stores.database.uri)
        settings = {"MONGODB_URI": self.proxy.uri} if self.proxy else {}
        self.service = open_service(crash=True, stores=stores, AUTH_MODE="none",
                                    BODY_IDLE_SECONDS=IDLE, BODY_MIN_RATE=1,
                                    SWEEP_INTERVAL_SECONDS=1, **settings)
        self.service.expect_5xx = True

    def sqlite(self):
        return sqlite3.connect(self.service.data_dir / "db" / "coffer.sqlite", timeout=10,
                               isolation_level=None)

    @contextlib.contextmanager
    def held(self):
        """No change of a request gets through."""
        if self.proxy:
            fault = self.proxy.delay(5, method="update", path="requests")
            yield
            fault.clear()
            return
        with contextlib.closing(self.sqlite()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def move_leases(self, ms):
        """As if others had taken them when the clock was so much ahead."""
        if self.proxy:
            database = self.service.stores.database.database
            database["requests"].update_many({"finished": False}, {"$inc": {"leaseMs": ms}})
            database["leases"].update_many({}, {"$inc": {"untilMs": ms},
                                                "$set": {"holder": "another"}})
            return
        with contextlib.closing(self.sqlite()) as connection:
            connection.execute("UPDATE requests SET lease_until_ms = lease_until_ms + ?", (ms,))
            connection.execute("UPDATE leases SET until_ms = until_ms + ?, holder = 'another'",
                               (ms,))

    def close(self):
        try:
            self.service.close()
        finally:
            if self.proxy:
                self.proxy.close()


@pytest.fixture(scope="module")
def locked():
    made = Locked()
    try:
        made.service.start()
        yield made
    finally:
        made.close()


def begin_upload(connection, key=None):
    """Sends all but the end of a body."""
    headers = [("Idempotency-Key", key)] if key else []
    request = raw_request("PUT", f"/api/files/upload/{unique()}", headers, b"x" * 500)
    connection.send(request[:-400])


def drip(connections, left, ended):
    """Each goes on slowly, so that it is never late itself."""
    while not ended.wait(0.3) and left[0] > 1:
        left[0] -= 1
        for connection in connections:
            connection.send(b"x")


def test_f35_a_locked_database_delays_no_deadline(locked):
    ended, left = threading.Event(), [400]
    with contextlib.ExitStack() as stack:
        keyed = [stack.enter_context(RawConnection(locked.service)) for _ in range(KEYED)]
        for connection in keyed:
            begin_upload(connection, unique("key"))
        locked.service.wait_in_flight(KEYED)
        dripping = threading.Thread(target=drip, args=(keyed, left, ended))
        dripping.start()
        try:
            with locked.held(), RawConnection(locked.service, timeout=60) as silent:
                time.sleep(1)  # renewals are due, and wait
                began = time.monotonic()
                begin_upload(silent)
                answer = silent.read("PUT")
                took = time.monotonic() - began
        finally:
            ended.set()
            dripping.join()
        for connection in keyed:
            connection.send(b"x" * left[0])
        assert [connection.read("PUT").status for connection in keyed] == [201] * KEYED
    assert answer.status == 408 and b'"request_timeout"' in answer.body
    assert took < IDLE + NOISE, f"ended after {took:.1f} s"


def test_f24_a_key_is_free_after_the_clock_was_set_back(locked):
    """A lease that ends in an hour is none that was taken by this clock."""
    key, name = unique("key"), unique()
    request = upload_request("put", name, b"x" * 500, key)
    with RawConnection(locked.service) as first:
        begin_upload(first, key)
        locked.service.wait_in_flight()
        locked.service.kill("files_upload")
    locked.move_leases(HOUR_MS)
    seen = []

    def answered():
        seen.append(call(locked.service.port, *request))
        return seen[-1].status == 201

    wait_for(answered, "the key is free", RECOVERY_SECONDS, 0.1)
    assert {each.status for each in seen[:-1]} <= {409, 500, 503, None}, [str(e) for e in seen]


def test_f24_sweeps_go_on_after_the_clock_was_set_back(locked):
    service = locked.service
    made = service.create(b"expires", unique(), expiresIn="1")
    locked.move_leases(HOUR_MS)
    wait_for(lambda: made["key"] not in {str(name)[-len(made["key"]):]
                                         for name in service.objects()},
             "what has expired is swept", RECOVERY_SECONDS + NOISE)


# ---- F36 ----

KEYS, BYTES = 8, 256 * 1024


@pytest.fixture(scope="module")
def bounded():
    yield from running(AUTH_MODE="none", IDEMPOTENCY_KEYS=KEYS, IDEMPOTENCY_BYTES=BYTES)


def stored_answers(service):
    """[bytes of each answer that is kept]"""
    if not HAS_SQLITE:
        found = service.stores.database.database["requests"].find({"finished": True})
        return [len(each["answer"]["body"]) for each in found]
    path = service.data_dir / "db" / "coffer.sqlite"
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        return [size for (size,) in connection.execute(
            "SELECT length(body) FROM requests WHERE status <> 0")]


def delete_unknown(service, count, key):
    ids = [f"00000000-0000-7000-8000-{number:012x}" for number in range(count)]
    return call(service.port, "POST", "/api/files/delete", json.dumps({"ids": ids}),
                {"Content-Type": "application/json", "Idempotency-Key": key})


@pytest.mark.parametrize("ids, count", [(1, 3 * KEYS), (700, 7)])
def test_f36_answers_are_bounded_and_no_running_key_is_dropped(bounded, ids, count):
    """Small answers meet the bound on keys, large ones that on bytes; the newest stay."""
    running_key, keys = unique("key"), [unique("key") for _ in range(count)]
    with RawConnection(bounded, timeout=60) as oldest:
        begin_upload(oldest, running_key)
        bounded.wait_in_flight()
        for key in keys:
            assert delete_unknown(bounded, ids, key).status == 200
        kept = stored_answers(bounded)
        assert 0 < len(kept) <= KEYS and sum(kept) <= BYTES, kept
        again = delete_unknown(bounded, ids, keys[-1])
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in delete_unknown(bounded, ids, keys[0]).headers
        refused = call(bounded.port, *upload_request("put", unique(), b"x", running_key))
        assert refused.status == 409, str(refused)
        oldest.send(b"x" * 400)
        assert oldest.read("PUT").status == 201
