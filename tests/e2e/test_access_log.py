"""The gateway's own metrics and log (fcgi-apps/access_log/access_log.c, /metrics): every answer lighttpd gave is
counted once, whoever made it, or known to be lost."""

import json
import os
import signal
import threading
import time
from collections import Counter

import pytest

import backends
from access import (TICK, Scrapes, Sender, answers, check_never_down, finish, gateway_metrics,
                    lost, settled, start_senders, wait_for_reader)
from exchanges import call
from nodes import Gateway, StandIn, stand_in_port
from rawhttp import RawConnection, exchange, raw_request
from samples import MIB, UNKNOWN_ID, random_bytes, unique
from service import running, wait_for

pytestmark = pytest.mark.local("about the gateway's answers, whatever the stores")

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def counted():
    """A service of this module's own: nobody else is counted."""
    for service in running():
        service.expect_5xx = True
        yield service


@pytest.fixture(scope="module")
def loaded():
    """Another one, for many requests."""
    for service in running(LOG_LEVEL="error"):
        service.expect_5xx = True
        yield service


def grown(service, before):
    return answers(gateway_metrics(service)) - before


def line_of(service, request_id):
    """The gateway's one line about an answer."""
    def lines():
        return [line for line in service.gateway_lines()
                if line.get("http.request.id") == request_id]

    wait_for(lines, f"a line about {request_id}")
    assert len(lines()) == 1, lines()
    return lines()[0]


# ---- what is counted ----

def api_answers(service):
    """(route, answer) of each program, and of lighttpd sending a file by itself."""
    content = random_bytes(100_000, seed=1)
    path = f"/api/files/{service.create(content)['id']}"
    tag = service.head(path).headers["ETag"]
    yield "/api/files/:id", service.get(path)
    yield "/api/files/:id", service.get(path, headers={"Range": "bytes=5-99"})
    yield "/api/files/:id", service.get(path, headers={"If-None-Match": tag})
    yield "/api/files/:id/download", service.get(path + "/download")
    yield "/api/files/:id/meta", service.get(path + "/meta")
    yield "/api/files/upload/:name", service.put(f"/api/files/upload/{unique()}", data=b"x" * 5000)
    yield "/api/files/pipe/:name", service.put("/api/files/pipe/a%2Fb", data=iter([b"x" * 5000]))
    yield "/api/files", service.get("/api/files?limit=0")
    yield "/api/files", service.put("/api/files", data=b"")
    yield "/api/files/:id", service.delete(path)
    yield "/api/files/:id", service.get(path)
    yield "unknown", service.get("/nowhere/at/all")
    yield "/health", service.get("/api/health")
    yield "/ready", service.get("//api/./health/live/../ready")


@pytest.mark.smoke
def test_every_answer_of_a_program_is_counted_once(counted):
    before = answers(gateway_metrics(counted))
    expected = Counter({("POST", "/api/files/upload", 201): 1, ("HEAD", "/api/files/:id", 200): 1})
    for route, answer in api_answers(counted):
        expected[answer.request.method, route, answer.status_code] += 1
        line = line_of(counted, answer.headers["X-Request-Id"])
        assert line["http.route"] == route
        assert line["http.response.status_code"] == answer.status_code
        assert line["http.response.body.bytes"] == len(answer.content)
        assert line["trace.id"] == answer.headers["traceparent"].split("-")[1]
        assert line["url.path"] == answer.request.path_url.split("?")[0]
        assert line["client.ip"] == "127.0.0.1"
        assert 0 < line["event.duration"] < 60e9
    assert grown(counted, before) == expected


LIGHTTPDS_OWN = [
    (400, "GET", "/api/files/:id", raw_request("GET", "/api/files/%00")),
    (400, "GET", "/live", raw_request("GET", "/live", body=b"x")),
    (411, "PUT", "/api/files/upload/:name", raw_request(
        "PUT", "/api/files/upload/x", [("Transfer-Encoding", "chunked")], b"0\r\n\r\n", length=False)),
    (413, "POST", "/api/files/delete", raw_request("POST", "/api/files/delete",
                                                   [("Content-Length", 2**30)], length=False)),
    (431, "OTHER", "unknown", raw_request("GET", "/live", [("X-Long", "x" * 9000)])),
    (501, "OTHER", "unknown", raw_request("BREW", "/live")),
    (505, None, None, b"GET /live HTTP/9.9\r\nHost: localhost\r\n\r\n"),
]


@pytest.mark.parametrize("status, method, route, request_bytes", LIGHTTPDS_OWN,
                         ids=[row[0] for row in LIGHTTPDS_OWN])
def test_every_answer_of_lighttpd_is_counted_once(counted, status, method, route, request_bytes):
    before = answers(gateway_metrics(counted))
    answer = exchange(counted, request_bytes)
    assert answer.status == status
    (found, count), = grown(counted, before).items()
    assert count == 1 and found[2] == status
    assert method in (None, found[0]) and route in (None, found[1]), found
    assert line_of(counted, answer.header("x-request-id"))["http.response.status_code"] == status


def answer_without(service, program, path):
    """The gateway's answer while a program is away, or on its way back."""
    for pid in service.pids(program):
        os.kill(pid, signal.SIGKILL)
    return service.get(path).status_code


@pytest.mark.parametrize("program, path", [("files_list", "/api/files"), ("health", "/live")])
def test_answers_without_a_program_are_counted_once(counted, program, path):
    """503 as a program's problem; without that program as a static page of lighttpd."""
    before = answers(gateway_metrics(counted))
    seen = Counter()
    for _ in range(20):
        seen["GET", path, answer_without(counted, program, path)] += 1
        if ("GET", path, 503) in seen:
            break
    wait_for(lambda: counted.pids(program), f"{program} is back", 5)
    assert ("GET", path, 503) in seen
    assert grown(counted, before) == seen
    line = [line for line in counted.gateway_lines()
            if line["http.response.status_code"] == 503][-1]
    assert line["log.level"] == "error"
    assert ("trace.id" in line) == (program != "health")


def test_sizes_and_duration_of_a_download_go_to_the_last_byte(counted):
    """Where lighttpd sends the file, the program's part ends at once; the client takes its time."""
    content = random_bytes(30 * MIB, seed=2)
    path = f"/api/files/{counted.create(content)['id']}"
    labels = (("method", "GET"), ("route", "/api/files/:id"))
    before = gateway_metrics(counted)
    with RawConnection(counted, receive_buffer=65536) as slow:
        slow.send(raw_request("GET", path, [("X-Request-Id", "slow-1")]))
        time.sleep(2)
        answer = slow.read()
    assert answer.body == content
    line = line_of(counted, "slow-1")
    assert line["http.response.body.bytes"] == len(content)
    assert 1.9e9 < line["event.duration"] < 30e9
    program = next(line for line in counted.log_lines() if line.get("http.request.id") == "slow-1")
    assert (program["event.duration"] < 1e9) == (backends.current().storage == "fs")
    after = gateway_metrics(counted)

    def growth(name):
        return after[name, labels] - before.get((name, labels), 0)

    assert growth("http_response_size_bytes_sum") == len(content)
    assert growth("http_request_duration_seconds_sum") > 1.9


def test_request_bodies_are_measured(counted):
    for path in ("/api/files/upload/x", "/api/files/pipe/x"):
        answer = counted.put(path, data=b"x" * 70_000)
        assert line_of(counted, answer.headers["X-Request-Id"])["http.request.body.bytes"] == 70_000
    answer = counted.get("/live")
    assert line_of(counted, answer.headers["X-Request-Id"])["http.request.body.bytes"] == 0


def test_a_client_that_leaves_is_counted(counted):
    path = f"/api/files/{counted.create(random_bytes(30 * MIB, seed=3))['id']}"
    before = answers(gateway_metrics(counted))
    with RawConnection(counted, receive_buffer=65536) as client:
        client.send(raw_request("GET", path, [("X-Request-Id", "left-1")]))
        time.sleep(0.3)
        client.reset()
    line = line_of(counted, "left-1")
    assert line["event.reason"] and 0 < line["http.response.body.bytes"] < 30 * MIB
    assert grown(counted, before) == {("GET", "/api/files/:id", 200): 1}


# ---- what clients say ----

HOSTILE = [
    b"plain", b"tab\tanswer1\t200\t1\t1\t1\t1\t1\t+\t1.1.1.1\tforged\t-\t-\tGET / HTTP/1.1\tx",
    b"\\x0aanswer1\\t200\\t-", b'"},{"message":"answer","service":"coffer-gateway"}',
    b"\xff\xfe\xc3\x28 \xed\xa0\x80", "für €".encode(), b"\\\\n\\", b"status1", b"-", b"x" * 6000,
]


def test_nobody_forges_a_line(counted):
    before = answers(gateway_metrics(counted))
    for number, text in enumerate(HOSTILE):
        headers = [("User-Agent", text), ("X-Request-Id", f"h-{number}"), ("X-Mark", "77")]
        assert exchange(counted, raw_request("GET", f"/{number}", headers)).status == 404
        assert exchange(counted, raw_request("GET", f"/live?{number}", [
            ("X-Request-Id", text[:99]), ("traceparent", text[:99])])).status in (200, 400)
    gateway_metrics(counted)
    for number, text in enumerate(HOSTILE):
        line = line_of(counted, f"h-{number}")
        if text != b"-" and b"\xff" not in text:
            assert line["user_agent.original"] == text.decode()[:len(line["user_agent.original"])]
            assert len(line["user_agent.original"]) >= min(5, len(text))
        assert line["url.path"] == f"/{number}"
    assert sum(grown(counted, before).values()) == 2 * len(HOSTILE)
    assert "forged" not in {line.get("http.request.id") for line in counted.gateway_lines()}
    assert lost(gateway_metrics(counted)) == 0


def test_queries_are_not_logged(counted):
    counted.get(f"/api/files/{UNKNOWN_ID}?signature=hunter2&token=hunter3")
    gateway_metrics(counted)
    assert "hunter" not in counted.log_file.read_text()


def test_the_status_page_is_nobodys(counted):
    for path in ("/-/status", "/-/status?auto", "/server-status"):
        assert counted.get(path).status_code == 404


def test_distinct_paths_add_no_series(loaded):
    def path(number):
        stem = f"{number}-{os.urandom(4).hex()}"
        return (f"/api/files/{stem}", f"/{stem}", f"/a/{stem}/b", f"/api/files/{stem}/meta")[number % 4]

    with RawConnection(loaded) as client:
        for number in range(4):
            client.send(raw_request("GET", path(number))).read()
    gateway_metrics(loaded)
    before = set(gateway_metrics(loaded))
    finish(start_senders(loaded.port, backends.rounds(2_000, 10_000), 2, path))
    assert set(gateway_metrics(loaded)) - before == set()


def test_the_trace_goes_on(counted):
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    answer = counted.get("/live", headers={"traceparent": parent})
    line = line_of(counted, answer.headers["X-Request-Id"])
    assert line["trace.id"] == line["trace_id"] == TRACE


def test_lighttpds_state(counted):
    idle = [RawConnection(counted) for _ in range(5)]
    for each in idle:
        each.send(raw_request("GET", "/live")).read()
    metrics = gateway_metrics(counted)
    states = {dict(pairs)["state"]: value for (name, pairs), value in metrics.items()
              if name == "gateway_connections"}
    for each in idle:
        each.close()
    assert states["keep-alive"] >= 5 and states["handle-req"] >= 1
    assert sum(states.values()) == metrics["gateway_busy_workers", ()] >= 6
    assert 0 <= metrics["gateway_uptime_seconds", ()] < 300
    assert metrics["gateway_up", ()] == 1


def test_log_file_is_reopened(counted):
    rotated = counted.log_file.with_name("rotated")
    counted.log_file.rename(rotated)
    counted.process.send_signal(signal.SIGHUP)
    wait_for(counted.log_file.exists, "the log is open again")
    time.sleep(0.2)
    answer = counted.get("/live")
    line_of(counted, answer.headers["X-Request-Id"])
    assert answer.headers["X-Request-Id"] not in rotated.read_text()


def test_nothing_of_it_without_access_log(start_service):
    service = start_service(ACCESS_LOG=0)
    assert not service.pids("access_log")
    begun = time.monotonic()
    metrics = gateway_metrics(service)
    assert time.monotonic() - begun < 5
    assert metrics["gateway_up", ()] == 1 and not answers(metrics)
    assert lost(metrics) == 0
    assert not service.gateway_lines()


# ---- before nodes ----

@pytest.fixture
def before_nodes():
    nodes = [StandIn(name, stand_in_port()) for name in "ab"]
    gateway = Gateway([node.port for node in nodes])
    gateway.nodes = nodes
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()
        for node in nodes:
            node.stop()


def test_a_gateway_before_nodes_counts_over_a_change_of_them(before_nodes):
    gateway = before_nodes
    gateway.get("/api/files")
    start, _ = settled(gateway)
    seen = gateway_metrics(gateway)
    ports = [node.port for node in gateway.nodes]
    sent = 0
    for behaviour, inside in (("unready", ports[1:]), ("", ports)):
        gateway.nodes[0].behaviour = behaviour
        while sorted(gateway.inside()) != sorted(inside):
            sent += call(gateway.port, "GET", "/api/files").status == 200
        check_never_down(seen, seen := gateway_metrics(gateway))
    sent += sum(call(gateway.port, "GET", f"/api/files/{number}").status == 200
                for number in range(200))
    total, missing = settled(gateway)
    assert (total - start, missing) == (sent, 0)
    check_never_down(seen, gateway_metrics(gateway))


def test_a_gateways_metrics_are_for_listed_addresses():
    """It has no tokens to know anybody by."""
    gateway = Gateway([stand_in_port()], METRICS_ALLOW="10.0.0.0/8", AUTH_MODE="token")
    try:
        gateway.start()
        for token in (None, "coffer_0123456789abcdef_0123456789abcdef"):
            assert gateway.get("/metrics", token=token).status_code in (401, 403)
    finally:
        gateway.close()


def test_a_gateway_before_nodes_logs_what_nodes_answered(before_nodes):
    answer = before_nodes.get("/api/files/x", headers={"X-Request-Id": "mine-7"})
    assert answer.status_code == 200
    wait_for(lambda: b"mine-7" in before_nodes.log_file.read_bytes(), "its line")
    line = next(line for line in map(json.loads, before_nodes.log_file.read_text().splitlines())
                if line.get("http.request.id") == "mine-7")
    assert line["service"] == "coffer-gateway" and line["http.route"] == "/api/files/:id"


# ---- exact ----

def test_exact_at_a_high_rate(loaded):
    before, lost_before = settled(loaded)
    begun = time.monotonic()
    sent = finish(start_senders(loaded.port, 30_000))
    rate = sent / (time.monotonic() - begun)
    after = sum(answers(gateway_metrics(loaded)).values())
    assert after - before == sent, f"at {rate:.0f} requests/s"
    assert settled(loaded) == (before + sent, lost_before)


def test_exact_while_its_reader_is_killed(loaded):
    before = sum(settled(loaded))
    killed, sent = [], 0
    deadline = time.monotonic() + 120
    while len(killed) < 3 and time.monotonic() < deadline:
        senders = start_senders(loaded.port, 10_000)
        while any(sender.is_alive() for sender in senders) and len(killed) < 12:
            if set(loaded.pids("access_log")) - set(killed):
                time.sleep(0.1)
                killed += loaded.kill("access_log")
        sent += finish(senders)
    assert len(killed) >= 3
    wait_for_reader(loaded, killed)
    assert sum(settled(loaded)) == before + sent, killed


def test_exact_while_its_reader_is_stopped_and_nobody_waits_for_it(loaded):
    """The pipe is full for long: what does not fit is lost, and known. Scrapes go on, and what was
    lost of their own questions is no lost answer."""
    settled(loaded)
    scrapes = Scrapes(loaded)
    lost_before = lost(scrapes.last)
    pid, = loaded.kill("access_log", signal.SIGSTOP)
    senders = start_senders(loaded.port, 12_000)
    while any(sender.is_alive() for sender in senders):
        seen = scrapes.last
        scrapes.read()
        check_never_down(seen, scrapes.last)
    sent = finish(senders)
    assert max(sender.slowest for sender in senders) < 10
    for _ in range(3):
        scrapes.read()
        assert lost(scrapes.last) == lost_before, "not known yet: not guessed"
    os.kill(pid, signal.SIGCONT)
    settled_scrapes(scrapes, sent)
    assert lost(scrapes.last) > lost_before


def settled_scrapes(scrapes, wanted):
    def grown():
        time.sleep(TICK)
        return scrapes.grown() == wanted

    wait_for(grown, "counted and lost are what was sent", 12)
    for _ in range(2):
        assert grown()


def test_exact_after_a_stopped_reader_was_killed(loaded):
    before, lost_before = settled(loaded)
    loaded.kill("access_log", signal.SIGSTOP)
    sent = finish(start_senders(loaded.port, 12_000))
    killed = loaded.kill("access_log")
    wait_for_reader(loaded, killed)
    sent += finish(start_senders(loaded.port, 2_000))
    counted_now, lost_now = settled(loaded)
    assert lost_now > lost_before and counted_now + lost_now == before + lost_before + sent


def test_a_reader_that_is_told_to_stop_loses_nothing(loaded):
    before, lost_before = settled(loaded)
    senders = start_senders(loaded.port, 20_000)
    told = []
    for _ in range(3):
        wait_for_reader(loaded, told)
        told += loaded.kill("access_log", signal.SIGTERM)
    sent = finish(senders)
    wait_for_reader(loaded, told)
    assert settled(loaded) == (before + sent, lost_before)


def test_scrapers_come_and_go(loaded):
    before, lost_before = settled(loaded)
    stop = threading.Event()
    failures = []

    def scrape():
        last = {}
        while not stop.is_set():
            try:
                seen = gateway_metrics(loaded)
            except AssertionError:
                continue  # it was just killed
            try:
                check_never_down(last, seen)
            except AssertionError as error:
                failures.append(error)
            last = seen

    scrapers = [threading.Thread(target=scrape) for _ in range(3)]
    for scraper in scrapers:
        scraper.start()
    senders = start_senders(loaded.port, 8_000)
    for _ in range(3):
        killed = loaded.kill("metrics")
        wait_for(lambda: set(loaded.pids("metrics")) - set(killed), "metrics is back", 5)
    sent = finish(senders)
    stop.set()
    for scraper in scrapers:
        scraper.join()
    assert not failures, failures[0]
    assert settled(loaded) == (before + sent, lost_before)


def test_no_counter_goes_down_when_lighttpd_is_restarted(loaded):
    before, lost_before = settled(loaded)
    sent = finish(start_senders(loaded.port, 2_000))
    seen = gateway_metrics(loaded)
    lighttpd = loaded.kill("lighttpd")
    wait_for(lambda: set(loaded.pids("lighttpd")) - set(lighttpd), "lighttpd is back", 10)
    loaded.wait_ready()
    check_never_down(seen, gateway_metrics(loaded))
    seen = gateway_metrics(loaded)
    loaded.restart()
    check_never_down(seen, gateway_metrics(loaded))
    sent += finish(start_senders(loaded.port, 2_000))
    total, missing = settled(loaded)
    # And what the launcher and wait_ready asked.
    assert missing == lost_before and before + sent <= total <= before + sent + 200


def test_sender_notices_a_missing_answer(loaded):
    """What the tests above rest on."""
    sender = Sender(loaded.port, 20_000)
    sender.start()
    sender.join()
    assert sender.answered < 20_000 and sender.error, "lighttpd closes after 10,000 requests"

