"""What the framing tests share: strict checks of raw answers, and a watch over other clients."""

import json
import time

from background import Background
from rawhttp import raw_request
from samples import random_bytes
from service import PROMPT

MEMBERS = {"type", "title", "status", "detail", "code", "message", "traceId", "requestId", "ts",
           "path"}


def check_raw_problem(response, status, code=None):
    """A problem with a request id, whoever made it."""
    assert response.status == status, f"{response.status}, not {status}: {response.body[:300]}"
    assert response.complete, "the answer broke off"
    assert response.header("content-type") == "application/problem+json"
    problem = json.loads(response.body)
    assert MEMBERS <= problem.keys(), sorted(problem)
    assert problem["status"] == status
    assert problem["requestId"] and problem["requestId"] == response.header("x-request-id")
    assert problem["traceId"] == response.header("traceparent").split("-")[1]
    if code:
        assert problem["code"] == code
    return problem


def upload_head(name, length, *headers):
    """The head of a PUT that promises `length` bytes."""
    return raw_request("PUT", f"/api/files/upload/{name}",
                       [("Content-Length", length), *headers])


class Prober(Background):
    """Normal requests while something slow goes on; `slowest` is the longest of them, seconds."""

    pause = 0.05

    def __init__(self, service):
        super().__init__()
        self.service = service
        self.made = service.create(random_bytes(2000, seed=53))
        self.slowest = 0.0
        self.count = 0
        self.failures = []

    def step(self):
        for path in ("/live", f"/api/files/{self.made['id']}", "/api/files?limit=5"):
            started = time.monotonic()
            status = self.service.get(path, timeout=20).status_code
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.count += 1
            if status != 200:
                self.failures.append((path, status))

    def verify(self):
        assert not self.failures, self.failures[:3]
        assert self.count > 0 and self.slowest < PROMPT, f"{self.slowest:.2f} s"
