"""A service whose stores are behind a proxy that does what stores do on bad days (faultproxy.py). The
settings here are short where the defaults are long, so that tests are quick."""

import time

import pytest

import backends
from exchanges import call, problem_fault, upload_request
from faultproxy import FaultProxy
from history import RECOVERY_SECONDS, Load
from samples import MIB, unique
from service import open_service, wait_for

QUICK = 2         # seconds, until a store that refuses is told
NOISE = 6         # seconds, of a busy machine
STALL = 2
DEADLINE = 4
SMALL, LARGE = 20_000, 12 * MIB  # one PUT; three parts
LIMIT = 2 * DEADLINE + 2 * NOISE  # what became of an upload is asked for, too


class Faulty:
    """A service that reaches one of its stores through `proxy`."""

    def __init__(self, start_service, stores, proxy, settings):
        self.stores, self.objects, self.proxy = stores, stores.objects, proxy
        self.service = start_service(stores=stores,
                                     **{"SWEEP_INTERVAL_SECONDS": 2, **settings})
        self.service.expect_5xx = True

    def upload(self, way="put", content=b"x", name=None, key=None, timeout=60):
        return call(self.service.port, *upload_request(way, name or unique(), content, key),
                    timeout=timeout)

    def call(self, method, path, body=None, headers=None):
        return call(self.service.port, method, path, body, headers)

    def read(self, made, **options):
        return call(self.service.port, "GET", f"/api/files/{made['id']}", **options)

    def listed(self):
        return self.service.get("/api/files").json()["files"]

    def recovered(self):
        """I8: everything works again within ten seconds, of itself."""
        self.proxy.clear()
        # A load begins with a list.
        wait_for(lambda: self.call("GET", "/api/files?limit=1").status == 200, "lists again",
                 RECOVERY_SECONDS)
        load = Load(self.service, clients=0)
        load.recover()
        assert not load.violations, load.violations

    def empty(self):
        self.proxy.clear()
        self.proxy.forget()
        wait_for(lambda: call(self.service.port, "GET", "/ready").status == 200, "ready",
                 2 * RECOVERY_SECONDS)
        while ids := [each["id"] for each in self.service.get("/api/files?limit=20").json()["files"]]:
            assert self.service.post("/api/files/delete", json={"ids": ids}).status_code == 200
        self.service.coffer("gc", "--grace", "0")
        self.objects.abort_all()
        wait_for(lambda: self.service.stored_bytes() == {}, "nothing is stored", RECOVERY_SECONDS)

    def settled(self, files):
        """No object but those of so many files, and no unfinished upload."""
        self.service.coffer("gc", "--grace", "0")
        wait_for(lambda: len(self.objects.every()) == files, f"{files} objects", RECOVERY_SECONDS)
        assert self.objects.unfinished() == {}

    def close(self):
        self.proxy.clear()
        try:
            self.service.close()
        finally:
            self.proxy.close()


class FaultyStore(Faulty):
    def __init__(self, start_service, **env):
        stores = backends.current().open(None)
        proxy = FaultProxy(stores.objects.store.endpoint)
        # Parts as small as may be, and each download asks the store.
        super().__init__(start_service, stores, proxy,
                         {"S3_STALL_SECONDS": STALL, "S3_DEADLINE_SECONDS": DEADLINE,
                          "S3_PART_SIZE": "5M", "OBJECT_CACHE": "0",
                          "S3_ENDPOINT": proxy.endpoint, **env})
        # The first object of a bucket takes a store longer than all that follow.
        self.objects.write("first", b"x")
        self.objects.remove("first")

    def retries(self):
        return self.service.metric("storage_operations_total", operation="retry")


# ---- fixtures ----

def fixtures(kind):
    """Of a module: one for all its tests, the same emptied for each of them that leaves it running,
    and a factory of others."""

    @pytest.fixture(scope="module")
    def shared():
        made = kind(lambda **options: open_service(**options).start())
        yield made
        made.close()

    @pytest.fixture
    def quick(shared):
        shared.empty()
        yield shared
        shared.proxy.clear()

    @pytest.fixture
    def faulty(start_service):
        made = []

        def start(**env):
            made.append(kind(start_service, **env))
            return made[-1]

        yield start
        for each in made:
            each.close()

    return shared, quick, faulty


# ---- answers ----

def failed(answer, statuses, code=None, within=None, took=None):
    """A proper problem with one of these statuses, in time."""
    assert answer.status in statuses, str(answer)
    fault = problem_fault(answer)
    assert fault is None, f"{answer} {fault}"
    if code:
        assert answer.json()["code"] == code, str(answer)
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1
    if within:
        assert took < within, f"{took:.2f} s"


def timed(act, *args, **options):
    started = time.monotonic()
    return act(*args, **options), time.monotonic() - started
