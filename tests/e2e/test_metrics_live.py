"""Metrics as a scraper sees them: over all programs, exact after kill -9 and restart, never going
down, in both formats, for listed addresses only."""

import http.client
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import backends
from exchanges import call
from history import kill_now
from rawhttp import exchange, raw_request
from samples import random_bytes, unique
from service import REPOSITORY, read_proc, wait_for

pytestmark = pytest.mark.local("about counters, whatever the stores")

PROGRAMS = ("files_upload", "files_get", "files_list", "files_delete", "files_update", "health",
            "metrics")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def counted(start_service):
    """A service of its own, all of whose programs run: nobody else is counted."""
    service = start_service()
    service.wait_until_started()
    return service


# Of these a new process may have less.
NOT_KEPT = re.compile(r"^(process_|http_requests_in_flight$|\w+_connections$)")


def settled(service):
    """All counters once nothing but the scrape itself is under way."""
    service.wait_idle()
    return {key: value for key, value in service.metrics().items() if not NOT_KEPT.match(key[0])}


def check_never_down(before, after):
    down = [(key, value, after.get(key)) for key, value in before.items()
            if after.get(key, -1) < value]
    assert not down, f"counters went down: {down[:3]}"


def known_work(service, times):
    """Requests to every program; how often each (method, route, status) was answered."""
    for n in range(times):
        content = b"x" * (n + 1)
        path = f"/api/files/{service.create(content, unique())['id']}"
        for status, response in (
            (201, service.put(f"/api/files/upload/{unique()}", data=content)),
            (200, service.get(path)), (200, service.get(path + "/download")),
            (200, service.get(path + "/meta")), (200, service.get("/api/files?limit=1")),
            (400, service.get("/api/files?limit=0")),
            (200, service.patch(path, json={}, headers=MERGE_PATCH)),
            (200, service.delete(path)), (404, service.get(path)), (200, service.get("/live")),
        ):
            assert response.status_code == status, response.text
    return {row: times for row in (
        ("POST", "/api/files/upload", 201), ("PUT", "/api/files/upload/:name", 201),
        ("GET", "/api/files/:id", 200), ("GET", "/api/files/:id/download", 200),
        ("GET", "/api/files/:id/meta", 200), ("GET", "/api/files", 200),
        ("GET", "/api/files", 400), ("PATCH", "/api/files/:id", 200),
        ("DELETE", "/api/files/:id", 200), ("GET", "/api/files/:id", 404), ("GET", "/live", 200))}


def requests_of(metrics, method, route, status):
    labels = (("method", method), ("route", route), ("status", str(status)))
    return metrics.get(("http_requests_total", labels), 0)


def check_exact(before, after, expected):
    for row, count in expected.items():
        seen = requests_of(after, *row) - requests_of(before, *row)
        assert seen == count, f"{row}: {seen}, not {count}"


@pytest.mark.smoke
def test_counters_are_exact_over_kills_of_every_program(counted):
    counted.expect_5xx = True
    start = settled(counted)
    expected = known_work(counted, 5)
    # The launcher asks /live too while it starts: its last question may be answered late.
    ours = {row: count for row, count in expected.items() if row[1] != "/live"}
    check_exact(start, settled(counted), ours)
    for program in PROGRAMS:
        before = settled(counted)
        pids = counted.kill(program)
        wait_for(lambda: set(counted.pids(program)) - set(pids), f"{program} is back", 5)
        wait_for(lambda: call(counted.port, "GET", "/api/metrics").status == 200, "metrics", 5)
        check_never_down(before, settled(counted))
    check_exact(start, settled(counted), ours)
    middle = settled(counted)
    check_exact(middle, after := settled_after(counted, 7), dict.fromkeys(expected, 7))
    for name, amount in (("files_uploaded_total", 14), ("files_deleted_total", 7),
                         ("files_downloaded_total", 14), ("upload_bytes_total", 56),
                         ("download_bytes_total", 56)):
        assert after[(name, ())] - middle[(name, ())] == amount, name


def settled_after(service, times):
    known_work(service, times)
    return settled(service)


def test_counters_survive_a_restart_or_start_anew_whole(counted):
    """After a stop of the whole service, counters go on or begin at zero: never in between."""
    known_work(counted, 3)
    before = settled(counted)
    counted.restart()
    after = settled(counted)
    uploads = after.get(("files_uploaded_total", ()), 0)
    assert uploads in (0, before[("files_uploaded_total", ())])


def test_never_down_while_programs_are_killed_under_load(counted):
    counted.expect_5xx = True
    stop = threading.Event()

    def work():
        while not stop.is_set():
            call(counted.port, "PUT", f"/api/files/upload/{unique()}", b"x" * 1000)
            call(counted.port, "GET", "/api/files?limit=5")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        last = scrape(counted)
        for round_number in range(12):
            program = PROGRAMS[round_number % 6]
            kill_now(counted, program)
            wait_for(lambda: counted.pids(program), f"{program} is back", 5)
            seen = scrape(counted)
            check_never_down(last, seen)
            last = seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    wait_for(lambda: running_programs(counted) == set(PROGRAMS), "every program is back")
    for (name, labels), count in last.items():
        if name == "http_request_duration_seconds_bucket" and ("le", "+Inf") in labels:
            rest = tuple(pair for pair in labels if pair[0] != "le")
            assert last[("http_request_duration_seconds_count", rest)] == count


def scrape(service):
    return {key: value for key, value in service.metrics().items()
            if not NOT_KEPT.match(key[0]) and not key[0].endswith("_sum")}


def test_histograms_agree_with_the_counters(counted):
    known_work(counted, 3)
    metrics = settled(counted)
    for (name, labels), count in metrics.items():
        if name == "http_request_duration_seconds_count":
            total = sum(value for (other, pairs), value in metrics.items()
                        if other == "http_requests_total" and set(labels) <= set(pairs))
            assert total == count, labels
    buckets = {}
    for (name, labels), count in metrics.items():
        if name.endswith("_bucket"):
            key = (name, tuple(pair for pair in labels if pair[0] != "le"))
            buckets.setdefault(key, []).append((float(dict(labels)["le"]), count))
    for key, series in buckets.items():
        counts = [count for _, count in sorted(series)]
        assert counts == sorted(counts), key


def test_bytes_of_large_files(counted):
    before = settled(counted)
    content = random_bytes(3_000_000, seed=1)
    made = counted.create(content)
    assert counted.get(f"/api/files/{made['id']}").content == content
    part = counted.get(f"/api/files/{made['id']}", headers={"Range": "bytes=0-999"})
    assert len(part.content) == 1000
    after = settled(counted)
    assert after[("upload_bytes_total", ())] - before[("upload_bytes_total", ())] == 3_000_000
    assert after[("download_bytes_total", ())] - before[("download_bytes_total", ())] == 3_001_000


def running_programs(service):
    return {dict(labels)["program"] for name, labels in service.metrics()
            if name == "process_start_time_seconds"}


def test_every_program_is_in_a_scrape(counted):
    assert running_programs(counted) == set(PROGRAMS)


def test_killed_program_shows_its_new_process(counted):
    counted.expect_5xx = True
    key = ("process_start_time_seconds", (("program", "files_list"),))
    before = counted.metrics()[key]
    pids = counted.kill("files_list")
    wait_for(lambda: set(counted.pids("files_list")) - set(pids), "files_list is back", 5)
    wait_for(lambda: counted.metrics().get(key, 0) > before, "its start time is the new one", 5)
    assert sum(1 for name, labels in counted.metrics() if (name, labels) == key) == 1


@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
def test_text_format_passes_promtool(counted, path):
    known_work(counted, 1)
    response = counted.metrics_text("text/plain", path)
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    checked = subprocess.run(["promtool", "check", "metrics"], input=response.content,
                             capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()
    assert counted.metrics(path), "parsed by the client library, too"


def test_openmetrics_format(counted):
    known_work(counted, 1)
    response = counted.metrics_text(OPENMETRICS)
    kind = response.headers["Content-Type"]
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")
    families = {family.name: family for family in counted.parse_openmetrics(response.text)}
    text = {name for name, _ in counted.metrics()}
    assert "http_requests" in families and families["http_requests"].type == "counter"
    assert "http_requests_total" in text


@pytest.mark.parametrize("accept, openmetrics", [
    (None, False), ("*/*", False), ("text/plain", False), (OPENMETRICS, True),
    (f"{OPENMETRICS};q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
    (f"{OPENMETRICS};q=0.2,text/plain;version=0.0.4;q=0.5", False), ("garbage;;;", False),
])
def test_format_by_accept(service, accept, openmetrics):
    kind = service.metrics_text(accept).headers["Content-Type"]
    assert kind.startswith("application/openmetrics-text" if openmetrics else "text/plain")


NAMES = {
    "http_requests_total", "http_request_duration_seconds_bucket", "http_request_size_bytes_bucket",
    "http_response_size_bytes_bucket", "http_requests_in_flight", "storage_operations_total",
    "storage_operation_duration_seconds_bucket", "metadata_operations_total",
    "metadata_operation_duration_seconds_bucket", "files_uploaded_total", "files_deleted_total",
    "files_downloaded_total", "upload_bytes_total", "download_bytes_total", "auth_attempts_total",
}


def test_names_and_routes_are_the_documented_ones(counted):
    known_work(counted, 1)
    counted.get("/no/such/path/" + unique())
    metrics = counted.metrics()
    names = {name for name, _ in metrics}
    assert not NAMES - names, NAMES - names
    assert any(name.startswith("process_") for name in names)
    routes = {dict(labels)["route"] for name, labels in metrics if name == "http_requests_total"}
    assert "/api/files/:id" in routes
    assert not [route for route in routes if re.search(r"[0-9a-f]{8}-|such", route)], routes


def test_auth_attempts(start_service):
    service = start_service(AUTH_MODE="token")
    token = service.token("alice")
    before = service.metrics()
    service.get("/api/files", token=token)
    service.get("/api/files", token=token + "x")
    service.get("/api/files", token="nonsense")
    service.get("/api/files")
    after = service.metrics()

    def grown(outcome):
        key = ("auth_attempts_total", (("outcome", outcome),))
        return after.get(key, 0) - before.get(key, 0)

    # The scrape before is an anonymous request, too.
    assert (grown("accepted"), grown("rejected"), grown("anonymous")) == (1, 2, 2)


@pytest.mark.parametrize("allow, status", [
    ("127.0.0.1", 200), ("127.0.0.0/8", 200), ("10.0.0.0/8", 403), ("::1", 403),
    ("10.0.0.0/8,127.0.0.1", 200), ("0.0.0.0/0", 200),
])
def test_metrics_allow(start_service, allow, status):
    service = start_service(METRICS_ALLOW=allow, AUTH_MODE="token")
    admin = service.token("root", "admin")
    for path in ("/metrics", "/api/metrics"):
        seen = exchange(service, raw_request("GET", path)).status
        assert seen in ((200,) if status == 200 else (401, 403)), path
        assert service.get(path, token=admin).status_code == 200


def test_errors_of_the_gateway_are_counted(counted):
    """lighttpd's own errors pass a program, so they are counted with their status."""
    counted.expect_5xx = True
    before = settled(counted)
    assert exchange(counted, raw_request("GET", "/api/files/%00")).status == 400
    assert exchange(counted, b"GET /live HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n").status == 505
    after = settled(counted)
    for status in ("400", "505"):
        grown = sum(value - before.get(key, 0) for key, value in after.items()
                    if key[0] == "http_requests_total" and ("status", status) in key[1])
        assert grown == 1, status


# Not of requests: these may come at any time.
OF_UPKEEP = ("sweep", "ping", "retry", "list", "remove", "file_remove")


def series(service, path):
    """Every series that a scrape shows, but those of processes and of upkeep."""
    return {(name, labels) for name, labels in service.metrics(path)
            if not name.startswith("process_") and dict(labels).get("operation") not in OF_UPKEEP}


def test_distinct_paths_add_no_series(counted):
    """Not of files, names, unknown paths, queries, methods or statuses."""
    def ask(numbers):
        wire = http.client.HTTPConnection("127.0.0.1", counted.port, timeout=30)
        for number in numbers:
            name = f"{unique()}{number}"
            method, path = (
                ("GET", f"/api/files/0199c0de-7d1a-7c3e-9a55-{number:012x}"),
                ("GET", f"/no/such/{name}"), ("GET", f"/api/files?prefix={name}"),
                (f"M{number}", f"/api/{name}/files"), ("GET", f"/api/files/{name}/meta"),
                ("PUT", f"/api/files/upload/{name}"))[number % 6]
            call(counted.port, method, path, b"x" if method == "PUT" else None, connection=wire)
        wire.close()

    def both():
        """Once nothing new comes."""
        last = None
        while last != (last := (series(counted, "/metrics"), series(counted, "/api/metrics"))):
            time.sleep(0.3)
        return last

    ask(range(12))  # every kind
    before = both()
    total = counted.metric("http_requests_total")
    count = backends.rounds(2_000, 10_000)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, [range(12 + n, 12 + count, 4) for n in range(4)]))
    assert counted.metric("http_requests_total") >= total + count
    assert both() == before


@pytest.mark.smoke
def test_storage_and_metadata_operations(counted):
    """Each operation of known requests, by driver and outcome, with a duration."""
    before = settled(counted)
    created = counted.create(b"x" * 100)
    path = f"/api/files/{created['id']}"
    assert counted.get(path + "/meta").status_code == 200
    assert counted.get("/api/files?limit=1").status_code == 200
    assert counted.patch(path, json={}, headers=MERGE_PATCH).status_code == 200
    assert counted.delete(path).status_code == 200
    assert counted.get(path + "/meta").status_code == 404
    after = settled(counted)

    def grown(family, operation, outcome="ok"):
        wanted = {("operation", operation), ("outcome", outcome)}
        return sum(value - before.get((name, labels), 0)
                   for (name, labels), value in after.items()
                   if name == f"{family}_operations_total" and wanted <= set(labels))

    assert grown("storage", "put") == 1
    assert grown("metadata", "file_insert") == 1
    assert grown("metadata", "file_mark_deleted") == 1
    assert grown("metadata", "file_list") == 1
    assert grown("metadata", "file_update") == 1
    assert grown("metadata", "file_get") >= 2
    assert grown("metadata", "file_get", "refused") >= 1
    for family in ("storage", "metadata"):
        for (name, labels), count in after.items():
            if name == f"{family}_operation_duration_seconds_count":
                assert count == sum(
                    value for (other, pairs), value in after.items()
                    if other == f"{family}_operations_total" and set(labels) <= set(pairs)), labels
    # Looked at four times a second.
    wait_for(lambda: counted.metric("metadata_connections", state="idle") >= 1, "idle connections")


def test_without_metrics_there_is_nothing(start_service):
    service = start_service(METRICS="0")
    assert service.create(b"x")["size"] == 1
    assert service.get("/live").status_code == 200
    for path in ("/metrics", "/api/metrics"):
        answer = service.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert not [path.name for path in service.runtime_dir.iterdir() if "metrics" in path.name
                and not path.name.endswith(".sock")]
    for program in PROGRAMS:
        [pid] = service.pids(program)[:1]
        assert str(service.runtime_dir / "metrics") not in read_proc(pid, "maps").decode()


def test_bounds_of_durations_are_a_setting(start_service):
    service = start_service(METRICS_DURATION_BUCKETS="0.25,2,20")
    known_work(service, 1)
    buckets = {}
    for name, labels in service.metrics():
        if name.endswith("_seconds_bucket"):
            buckets.setdefault(name, set()).add(dict(labels)["le"])
    assert len(buckets) >= 3
    assert set(map(frozenset, buckets.values())) == {frozenset(("0.25", "2", "20", "+Inf"))}
    # Other bounds are other counters: they begin anew, none falls under a wrong bound.
    service.stop()
    service.extra_env["METRICS_DURATION_BUCKETS"] = "1"
    service.start()
    known_work(service, 1)
    metrics = settled(service)
    assert requests_of(metrics, "PUT", "/api/files/upload/:name", 201) == 1
    assert {dict(labels)["le"] for name, labels in metrics if name.endswith("_seconds_bucket")} == {
        "1", "+Inf"}


@pytest.mark.parametrize("path, where", [("/api/metrics", "programs"), ("/metrics", "gateway")])
def test_the_documented_families_are_those_that_are_shown(counted, path, where):
    """The table of docs/OPERATIONS.md, section Metrics, against a scrape."""
    text = (REPOSITORY / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    section = text.split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)(?:\{[a-z,]+\})?` \| (\w+) \| (\w+) \| ", section, re.MULTILINE)
    shown = re.findall(r"^# TYPE (\w+) (\w+)$", counted.metrics_text("text/plain", path).text,
                       re.MULTILINE)
    assert sorted(shown) == sorted((name, kind) for name, kind, place in rows
                                   if place in (where, "both"))
    assert {place for *_, place in rows} == {"programs", "gateway", "both"}
