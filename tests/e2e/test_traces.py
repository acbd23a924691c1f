"""Spans in a real OpenTelemetry collector: one tree for each request, with the caller above and the
store below; and a collector that is away, slow or full costs no request anything (F25)."""

import os
import secrets
import signal
import statistics
import time
from contextlib import ExitStack, contextmanager

import pytest

import backends
from collector import Collector
from faultproxy import FaultProxy
from rawhttp import exchange, raw_request
from samples import MIB, TEXT, UNKNOWN_ID, random_bytes
from servers import MinIO, SeaweedFS
from service import running, wait_for
from test_report import lose_bytes, threads

pytestmark = pytest.mark.local("about spans, whatever the stores")

INTERNAL, SERVER, CLIENT = 1, 2, 3
PROGRAMS = {  # program: (method, path, route, status) of a request that it answers
    "files_upload": ("PUT", "/api/files/upload/a-name", "/api/files/upload/:name", 201),
    "files_get": ("GET", "/api/files/{id}", "/api/files/:id", 200),
    "files_list": ("GET", "/api/files", "/api/files", 200),
    "files_update": ("PATCH", "/api/files/{id}", "/api/files/:id", 200),
    "files_delete": ("DELETE", "/api/files/{id}", "/api/files/:id", 200),
    "health": ("GET", "/live", "/live", 200),
    "metrics": ("GET", "/metrics", "/metrics", 200),
}
BODIES = {"files_upload": {"data": TEXT},
          "files_update": {"json": {"visibility": "public"}}}


@pytest.fixture(scope="module")
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector):
    """A service that sends its spans to the collector."""
    yield from running(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, ENVIRONMENT="testing")


class Caller:
    """A trace that a client began."""

    def __init__(self, flags="01"):
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        self.headers = {"traceparent": f"00-{self.trace}-{self.span}-{flags}"}


def counted(service, outcome):
    return service.metric("otel_spans_total", outcome=outcome)


def tree(spans, caller):
    """(gateway's span, program's, the steps) of one request; they form one tree."""
    assert len({span.id for span in spans}) == len(spans)
    [gateway] = [span for span in spans if span.service == "coffer-gateway"]
    [program] = [span for span in spans if span.kind == SERVER and span is not gateway]
    steps = [span for span in spans if span not in (gateway, program)]
    assert gateway.parent == caller.span
    assert program.parent == gateway.id
    for step in steps:
        assert step.parent == program.id and step.service == program.service
        assert step.kind in (INTERNAL, CLIENT)
        assert program.start <= step.start <= step.end <= program.end
    return gateway, program, steps


def has_gateway(spans):
    return "coffer-gateway" in {span.service for span in spans}


def has_both(spans):
    return {"coffer-gateway"} < {span.service for span in spans}


# ---- what is told ----

@pytest.mark.core
def test_each_program_and_its_gateway(traced, collector):
    file = traced.create(TEXT)
    callers, answers, instances = {}, {}, set()
    began = time.time_ns()
    for name, (method, path, _, _) in PROGRAMS.items():
        callers[name] = Caller()
        answers[name] = traced.request(
            method, path.format(id=file["id"]), **BODIES.get(name, {}),
            headers={**callers[name].headers, "X-Request-Id": f"of-{name}",
                     "User-Agent": "the test"})
    ended = time.time_ns()
    for name, (method, _, route, status) in PROGRAMS.items():
        caller, answer = callers[name], answers[name]
        assert answer.status_code == status
        gateway, program, steps = tree(collector.wait_for(has_both, caller.trace), caller)
        assert program.service == f"coffer-{name}"
        assert answer.headers["traceparent"] == f"00-{caller.trace}-{program.id}-01"
        for span in (gateway, program):
            instances.add((span.service, span.resource["service.instance.id"]))
            assert span.resource["deployment.environment"] == "testing"
            assert span.resource["service.version"] == span.scope["version"]
            assert span.name == f"{method} {route}" and span.kind == SERVER and not span.failed
            assert span.attributes["http.request.method"] == method
            assert span.attributes["http.route"] == route
            assert span.attributes["http.response.status_code"] == status
            assert span.attributes["url.scheme"] == "http"
            assert span.attributes["client.address"] == "127.0.0.1"
            assert span.attributes["user_agent.original"] == "the test"
            assert span.attributes["http.request.id"] == f"of-{name}"
            assert "a-name" not in str(span.raw)
            # Programs have a clock of milliseconds.
            assert began - 2e6 <= span.start <= span.end <= ended + 500e6
        if name.startswith("files"):
            assert {step.name.split()[0] for step in steps} >= {"metadata"}
            assert all(step.attributes["coffer.outcome"] == "ok" for step in steps)
    assert len(instances) == len(PROGRAMS) + 1


@pytest.mark.core
def test_steps_of_storage_and_metadata(traced, collector):
    caller = Caller()
    assert traced.upload(TEXT, headers=caller.headers).status_code == 201
    _, program, steps = tree(collector.wait_for(has_both, caller.trace), caller)
    assert program.attributes["http.response.status_code"] == 201
    by_name = {step.name: step for step in steps}
    put = by_name["storage put"]
    assert put.attributes["coffer.storage.operation"] == "put"
    driver = put.attributes["coffer.storage.driver"]
    assert driver == backends.current().storage
    assert put.kind == (INTERNAL if driver == "fs" else CLIENT)
    row = by_name["metadata file_insert"]
    assert row.attributes["db.operation.name"] == "file_insert"
    assert row.attributes["db.system.name"] == backends.current().metadata


@pytest.mark.local("bytes are taken from the folder")
def test_what_failed(start_service, collector):
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    service.expect_5xx = True
    file = service.create(TEXT)
    lose_bytes(service, TEXT)
    caller, unknown = Caller(), Caller()
    assert service.get(f"/api/files/{file['id']}", headers=caller.headers).status_code == 500
    gateway, program, steps = tree(collector.wait_for(has_both, caller.trace), caller)
    assert gateway.failed and program.failed
    assert program.attributes["error.type"] == "internal"
    assert gateway.attributes["error.type"] == "500"
    [get] = [step for step in steps if step.name == "storage get"]
    assert get.attributes["coffer.outcome"] == "not_found"
    # What the caller did wrong is no error of the server's.
    assert service.get(f"/api/files/{UNKNOWN_ID}", headers=unknown.headers).status_code == 404
    gateway, program, _ = tree(collector.wait_for(has_both, unknown.trace), unknown)
    assert not gateway.failed and not program.failed


def without_health(service, caller):
    """The gateway's answer to a probe while the program that would answer is away."""
    for pid in service.pids("health"):
        os.kill(pid, signal.SIGKILL)
    return service.get("/live", headers=caller.headers).status_code


def test_what_the_gateway_answers_by_itself(start_service, collector):
    """A program writes the page of an error; while it is away, the page is a file of lighttpd's."""
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    service.expect_5xx = True
    refused = Caller()
    request = raw_request("GET", "/api/files/%00", list(refused.headers.items()))
    assert exchange(service, request).status == 400
    _, program, _ = tree(collector.wait_for(has_both, refused.trace), refused)
    assert program.service == "coffer-health"
    alone = next(caller for caller in (Caller() for _ in range(20))
                 if without_health(service, caller) == 503)
    [gateway] = collector.wait_for(has_gateway, alone.trace)
    assert gateway.parent == alone.span and gateway.failed


def test_without_a_caller_a_trace_begins(traced, collector):
    answer = traced.get("/api/files")
    trace = answer.headers["traceparent"].split("-")[1]
    spans = collector.wait_for(has_both, trace)
    [root] = [span for span in spans if not span.parent]
    assert root.service == "coffer-gateway"


def test_not_sampled_is_not_sent(traced, collector):
    silent, heard = Caller("00"), Caller()
    for caller in (silent, heard):
        answer = traced.upload(TEXT, headers=caller.headers)
        assert answer.status_code == 201
        assert answer.headers["traceparent"].startswith(f"00-{caller.trace}-")
        assert answer.headers["traceparent"][-2:] == caller.headers["traceparent"][-2:]
    collector.wait_for(has_both, heard.trace)
    time.sleep(1)
    assert collector.spans(silent.trace) == []


def test_without_an_endpoint_nothing_is_made(start_service, collector):
    services = [start_service(OTEL_EXPORTER_OTLP_ENDPOINT=url) for url in ("", collector.endpoint)]
    for service in services:
        assert service.get("/api/files").status_code == 200
    wait_for(lambda: counted(services[1], "sent") > 0, "spans are sent")
    first, second = (threads(service) for service in services)
    assert second["files_list"] == first["files_list"] + 1
    assert not services[0].metric("otel_spans_total")


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://a b",
                                      "http://collector/?query", "http://"])
def test_a_wrong_endpoint_is_refused(service, endpoint):
    answer = service.coffer("config", check=False, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert answer.returncode != 0 and "OTEL_EXPORTER_OTLP_ENDPOINT" in answer.stderr


# ---- the store is told the trace ----

@pytest.mark.smoke
@pytest.mark.local("about a store of its own")
@pytest.mark.parametrize("kind", [SeaweedFS, MinIO])
def test_the_store_is_told(start_service, collector, kind):
    """Each request to the store names the step that it is for, also those of other threads; the
    store takes the signatures."""
    with kind() as store, FaultProxy(store.endpoint) as proxy:
        objects = backends.BucketObjects(store=store)
        for endpoint in (collector.endpoint, ""):
            service = start_service(stores=backends.Stores(objects), S3_ENDPOINT=proxy.endpoint,
                                    OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
            check_store_is_told(service, proxy, collector if endpoint else None)
            service.close()


def check_store_is_told(service, proxy, collector):
    content = random_bytes(17 * MIB, seed=3)  # in parts, which threads of their own send
    up, down = Caller(), Caller()
    proxy.forget()
    file = service.create(content, headers=up.headers)
    answer = service.get(f"/api/files/{file['id']}", headers=down.headers)
    assert answer.content == content
    for caller, methods, step in ((up, {"POST", "PUT"}, "storage put"),
                                  (down, {"GET"}, "storage get")):
        told = [each for each in proxy.requests() if each["method"] in methods
                and each["headers"].get("traceparent", "").split("-")[1:2] == [caller.trace]]
        assert told, f"the store was not told of {caller.trace}"
        assert all(each["status"] == 200 for each in told), told
        assert "traceparent" not in told[0]["headers"]["authorization"]
        parents = {each["headers"]["traceparent"].split("-")[2] for each in told}
        if collector:
            spans = collector.wait_for(has_both, caller.trace)
            assert {span.id for span in spans if span.name == step} >= parents, spans
        elif caller is down:
            assert parents == {answer.headers["traceparent"].split("-")[2]}
    for each in proxy.requests("PUT", "partNumber="):
        assert each["headers"]["traceparent"].split("-")[1] == up.trace


# ---- a collector that is away, slow, or wants none ----

@pytest.fixture
def proxy(collector):
    with FaultProxy(collector.endpoint) as proxy:
        yield proxy


def test_kept_while_the_collector_is_away(start_service, collector, proxy):
    proxy.refuse()
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=proxy.endpoint)
    callers = [Caller() for _ in range(5)]
    for caller in callers:
        assert service.get("/api/files", headers=caller.headers).status_code == 200
    time.sleep(2)
    assert counted(service, "sent") == 0
    proxy.accept()
    for caller in callers:
        tree(collector.wait_for(has_both, caller.trace, 30), caller)
    assert counted(service, "dropped_failed") == counted(service, "dropped_queue") == 0


def test_retry_after_is_obeyed(start_service, collector, proxy):
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=proxy.endpoint, ACCESS_LOG="0")
    time.sleep(2)  # what the start asked for has been sent
    limit = proxy.status(429, {"Retry-After": "3"}, times=1)
    caller = Caller()
    assert service.get("/api/files", headers=caller.headers).status_code == 200
    limit.wait()
    began = time.monotonic()
    collector.wait_for(lambda spans: len(spans) > 1, caller.trace, 30)
    assert time.monotonic() - began >= 2.5
    assert counted(service, "dropped_failed") == 0


@pytest.fixture(scope="module")
def pair(collector):
    """A service without a collector and one with a proxy before it, and that proxy."""
    with FaultProxy(collector.endpoint) as proxy, ExitStack() as stack:
        started = contextmanager(running)
        yield (stack.enter_context(started(OTEL_EXPORTER_OTLP_ENDPOINT="")),
               stack.enter_context(started(OTEL_EXPORTER_OTLP_ENDPOINT=proxy.endpoint)), proxy)
        began = time.monotonic()
    assert time.monotonic() - began < 20, "the stop waited for the collector"


@pytest.mark.thorough("compares times of requests")
@pytest.mark.parametrize("fault", ["dead", "full", "slow", "silent"])
def test_f25_no_request_waits_for_the_collector(pair, fault):
    """Requests take as long as without a collector; the exact figure is the benchmark's."""
    *services, proxy = pair
    proxy.clear()
    if fault == "dead":
        proxy.refuse()
    elif fault == "silent":
        proxy.silent()
    elif fault == "slow":
        proxy.delay(2)
    else:
        proxy.status(429, {"Retry-After": "1"})
    files = [service.create(TEXT)["id"] for service in services]
    times = [[], []]
    for _ in range(200):
        for at, service in enumerate(services):
            began = time.monotonic()
            assert service.get(f"/api/files/{files[at]}").status_code == 200
            times[at].append(time.monotonic() - began)
    without, traced = times
    assert statistics.median(traced) < statistics.median(without) + 0.005
    assert max(traced) < 1, "one waited"


def test_a_full_buffer_is_counted(start_service, proxy):
    """Each span is sent or counted as dropped, none twice."""
    proxy.status(503, {"Retry-After": "3600"})
    service = start_service(OTEL_EXPORTER_OTLP_ENDPOINT=proxy.endpoint, ACCESS_LOG="0", WORKERS="2")
    ids = [f"0199c0de-7d1a-7c3e-9a55-{number:012x}" for number in range(70)]
    for _ in range(500):
        assert service.post("/api/files/delete", json={"ids": ids}).status_code == 200
    assert counted(service, "dropped_queue") > 0
    assert counted(service, "dropped_limit") >= 500 * 6  # beyond 64 of a request
    at_least = 500 + service.metric("metadata_operations_total", operation="file_get")
    assert at_least >= 500 * 71
    service.restart()  # what was left is counted at the stop
    total = sum(counted(service, outcome) for outcome in
                ("sent", "dropped_queue", "dropped_limit", "dropped_failed"))
    # Not each operation is a request's.
    at_most = sum(value for (name, _), value in service.metrics().items() if name in (
        "http_requests_total", "metadata_operations_total", "storage_operations_total"))
    assert at_least <= total <= at_most
