"""Log entry field completeness: whatever clients send, every line is one JSON object with every
required field, nothing forged in it, and not too long."""

import json
import os
import random
from collections import Counter

import pytest

from rawhttp import RawConnection, raw_request
from samples import UNKNOWN_ID, unique
from service import wait_for

pytestmark = pytest.mark.local("about log lines, whatever the stores")

REQUESTS = 1500
LINE_MAX = 8192
SEED = int(os.environ.get("COFFER_TEST_SEED", 1))

EVERY = (
    "@timestamp", "log.level", "message", "ecs.version", "service.name", "service.environment",
    "level", "service", "host.name", "process.pid", "event.id",
)
REQUEST = (
    "trace.id", "trace_id", "http.request.id", "http.request.method", "http.response.status_code",
    "http.route", "url.path", "event.duration", "http.request.body.bytes",
    "http.response.body.bytes", "client.ip",
)
LEVELS = ("debug", "info", "warn", "error")

# What a client may try: ends of strings, lines and objects, members of ours, halves of characters.
PIECES = [
    b"a", b"0", b"-", b"/", b"..", b"%2e", b"%0a", b"%0d%0a", b"%22", b"%5c", b"%1b[31m", b"%00", b"%ff",
    b"%c0%af", b"%e2%80%a8", b"\"", b"\\", b"\\\"", b"{", b"}", b"\"}", b"%22%7d%0a%7b%22",
    b"{\"message\":\"forged\"}", b"\",\"level\":\"forged\",\"x\":\"", b"\\u000a", b"\xff", b"\xc0\xaf",
    b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xe2\x80\xa8", b"\xc2\x85", b"\xc3\xa9",
    b"${jndi:ldap://x}", b"token=hunter2", b"?a=hunter2", b"<script>",
]
# Those may stand in a header only.
CONTROLS = [b"\x01", b"\x1b[31m", b"\x7f", b"\t", b" "]


def text(rng, more=(), longest=40):
    pieces = PIECES + list(more)
    long = longest if rng.random() < 0.9 else 20 * longest
    return b"".join(rng.choice(pieces) for _ in range(rng.randint(0, long)))[:6000]


def target(rng):
    stem = rng.choice([b"/live", b"/api/files", b"/api/files/", b"/api/files/upload/", b"/",
                       b"/api/files/" + UNKNOWN_ID.encode() + b"/", b"/api/search/", b"/-/"])
    return stem + text(rng, longest=20) + rng.choice([b"", b"?x=" + text(rng, longest=10)])


def hostile_request(rng, mark):
    headers = [("X-Request-Id", mark)] if rng.random() < 0.7 else [
        ("X-Request-Id", text(rng, CONTROLS))]
    for name in ("User-Agent", "Referer", "Cookie", "Authorization", "traceparent", "X-Forwarded-For",
                 "Content-Type", "Range", "If-None-Match", "Idempotency-Key", "X-" + mark):
        if rng.random() < 0.3:
            headers.append((name, text(rng, CONTROLS)))
    method = rng.choice(["GET", "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "BREW"])
    body = text(rng) if method in ("PUT", "POST", "PATCH") else b""
    host = "127.0.0.1" if rng.random() < 0.95 else text(rng)
    return method, raw_request(method, target(rng), headers, body, host)


def ask(service, method, request):
    with RawConnection(service, 20.0) as connection:
        connection.send_as_taken(request)
        return connection.read(method)


def check_line(raw):
    """One of ours, complete; returns it."""
    seen = Counter()

    def note(pairs):
        seen.update(name for name, _ in pairs)
        return dict(pairs)

    assert len(raw) < LINE_MAX, raw
    line = json.loads(raw.decode("utf-8"), object_pairs_hook=note)
    assert isinstance(line, dict) and not [name for name, count in seen.items() if count > 1], raw
    assert not [name for name in EVERY if name not in line], raw
    assert not any(byte < 0x20 or byte == 0x7f for byte in raw), raw
    assert line["service"] == line["service.name"] and line["service"].startswith("coffer-")
    assert line["level"] == line["log.level"] and line["level"] in LEVELS
    assert line["message"] != "forged" and line["@timestamp"] > "2020"
    if "http.route" in line or line["message"] in ("request", "answer"):
        assert not [name for name in REQUEST if name not in line], raw
        assert line["trace.id"] == line["trace_id"] and len(line["trace.id"]) == 32
    return line


def test_every_line_of_hostile_requests_is_complete(start_service):
    service = start_service()
    rng = random.Random(SEED)
    print(f"COFFER_TEST_SEED={SEED}")
    marks, traces = [], Counter()
    for number in range(REQUESTS):
        mark = unique(f"r{number}")
        method, request = hostile_request(rng, mark)
        answer = ask(service, method, request)
        assert answer.status or answer.closed, request
        if answer.header("x-request-id") == mark:
            marks.append(mark)
        if answer.header("traceparent"):
            traces[answer.header("traceparent").split("-")[1]] += 1
    assert len(marks) > REQUESTS // 4 and len(traces) > REQUESTS // 4
    file = service.create(b"still here", "a.txt")
    assert service.get(f"/api/files/{file['id']}").content == b"still here"
    service.stop()
    raw = service.log_file.read_bytes()
    assert b"hunter2" not in raw
    lines = [check_line(line) for line in raw.split(b"\n")[:-1]]
    assert raw.endswith(b"\n")
    # As many as there were: none forged, none lost.
    ids = Counter(line["event.id"] for line in lines)
    assert ids.most_common(1)[0][1] == 1
    requests = [line for line in lines if line["message"] == "request"]
    told = Counter(line["trace.id"] for line in requests)
    assert [trace for trace, count in traces.items() if told[trace] != count] == []
    assert set(marks) <= {line["http.request.id"] for line in requests}
    messages = {line["message"] for line in lines if not line["message"].startswith("sandbox: ")}
    assert messages <= {"request", "answer", "started", "stopped", "swept"}
