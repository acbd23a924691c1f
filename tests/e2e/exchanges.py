"""Requests as the fault tests send them: the outcome of each is a whole answer or unknown, and what
answers and log lines must keep whatever breaks can be asked of them."""

import http.client
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from multipart import encode_multipart

LOG_FIELDS = ("@timestamp", "log.level", "message", "ecs.version", "service.name", "level",
              "service", "event.id")
# What no answer may carry: paths of the server, SQL, sources, stacks.
LEAKS = re.compile(rb"sqlite|SELECT |INSERT |UPDATE \w|/proc/|/tmp/|/dev/shm|\.[ch]:\d+"
                   rb"|0x[0-9a-f]{8}|backtrace|libcoffer", re.IGNORECASE)
UNKNOWN_ERRORS = (OSError, http.client.HTTPException)


@dataclass
class Exchange:
    """One request and what came back; status is None when no whole answer did."""

    method: str
    path: str
    status: int | None = None
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    seen_status: int | None = None  # of an answer that broke off
    error: str = ""

    @property
    def ok(self):
        return self.status is not None and 200 <= self.status < 300

    @property
    def failed(self):
        """A failure that a fault excuses: no answer, or one of the server's own errors."""
        return self.status is None or self.status >= 500

    def json(self):
        return json.loads(self.body)

    def __str__(self):
        seen = self.status or f"none ({self.error or self.seen_status})"
        return f"{self.method} {self.path} -> {seen} {self.body[:200]!r}"


def call(port, method, path, body=None, headers=None, timeout=30, connection=None):
    """One request, on a connection of its own unless one is given."""
    exchange = Exchange(method, path)
    wire = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        wire.request(method, path, body=body, headers=headers or {})
        response = wire.getresponse()
        exchange.seen_status = response.status
        exchange.headers = {k.lower(): v for k, v in response.getheaders()}
        exchange.body = response.read()
        exchange.status = response.status
    except UNKNOWN_ERRORS as problem:
        exchange.error = f"{type(problem).__name__}: {problem}"
        wire.close()
    finally:
        if not connection:
            wire.close()
    return exchange


def upload_request(way, name, content, key=None):
    """Method, path, body and headers of one of the three ways to upload."""
    headers = {"Idempotency-Key": key} if key else {}
    if way == "form":
        body, headers["Content-Type"] = encode_multipart([], content, name)
        return "POST", "/api/files/upload", body, headers
    if way == "put":
        return "PUT", f"/api/files/upload/{quote(name)}", content, headers
    return "PUT", f"/api/files/pipe/{quote(name)}", content, headers


def problem_fault(exchange, bare=False):
    """Why an error answer is not a proper problem (I7, I9); None when it is. `bare`: lighttpd's own
    page will do, which stands in for the program that writes problems while that is away."""
    kind = exchange.headers.get("content-type", "")
    if not kind.startswith("application/problem+json"):
        return f"is {kind or 'untyped'}, not a problem"
    try:
        problem = exchange.json()
    except ValueError:
        return "has a body that is no JSON"
    if problem.get("status") != exchange.status:
        return f"names status {problem.get('status')}"
    if bare and "requestId" not in problem and {"type", "title", "code"} <= problem.keys():
        return None
    if not problem.get("requestId") or problem["requestId"] != exchange.headers.get("x-request-id"):
        return "has no request id, or two"
    if not re.fullmatch(r"[0-9a-f]{32}", problem.get("traceId", "")):
        return "has no trace id"
    wanted = {"type", "title", "detail", "code", "message", "ts", "path"}
    if wanted - problem.keys():
        return f"lacks {sorted(wanted - problem.keys())}"
    if LEAKS.search(exchange.body):
        return "tells what it should not"
    return None


@dataclass
class CheckedLog:
    """How far a log has been checked, and its ids so far: the log of a shared service is long."""

    bytes: int = 0
    lines: int = 0
    ids: set = field(default_factory=set)


def log_faults(log_file, secrets=(), checked=None):
    """What is wrong with the lines of a log: not JSON, fields missing, ids twice, secrets. With
    `checked`, of those alone that came since its last use."""
    checked = checked or CheckedLog()
    with open(log_file, "rb") as log:
        log.seek(checked.bytes)
        content = log.read()
    lines = content[:content.rfind(b"\n") + 1].split(b"\n")[:-1]
    first, seen, faults = checked.lines + 1, checked.ids, []
    checked.bytes += sum(map(len, lines)) + len(lines)
    checked.lines += len(lines)
    for number, line in enumerate(lines, first):
        try:
            entry = json.loads(line)
        except ValueError:
            faults.append(f"log line {number} is no JSON: {line[:200]!r}")
            continue
        missing = [name for name in LOG_FIELDS if name not in entry]
        if missing:
            faults.append(f"log line {number} lacks {missing}: {line[:200]!r}")
        if list(entry)[:3] != ["@timestamp", "log.level", "message"]:
            faults.append(f"log line {number} begins with {list(entry)[:3]}")
        if entry.get("event.id") in seen:
            faults.append(f"event id of log line {number} is there twice")
        seen.add(entry.get("event.id"))
        if any(secret.encode() in line for secret in secrets):
            faults.append(f"log line {number} carries a secret")
    return faults
