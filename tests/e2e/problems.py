"""What every error answer must look like (RFC 9457 and the API's own members)."""

import re

MEMBERS = {
    "type", "title", "status", "detail", "code", "message", "traceId", "requestId", "ts", "path",
}
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
FORBIDDEN = re.compile(r"(?i)/tmp/|/usr/|sqlite|select |insert |\.c:\d|0x[0-9a-f]{6}|coffer-")


def check_problem(response, status, code=None):
    """Asserts a whole problem answer of requests and returns it parsed."""
    assert response.status_code == status, f"{response.status_code}, not {status}: {response.text}"
    assert response.headers["Content-Type"].split(";")[0] == "application/problem+json"
    problem = response.json()
    assert set(problem) - {"details"} == MEMBERS, sorted(problem)
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"] and problem["detail"]
    assert problem["message"] == problem["detail"]
    assert re.fullmatch(r"[0-9a-f]{32}", problem["traceId"])
    assert problem["requestId"] == response.headers["X-Request-Id"]
    assert problem["traceId"] == response.headers["traceparent"].split("-")[1]
    assert TIME.match(problem["ts"])
    assert not FORBIDDEN.search(problem["detail"]), problem["detail"]
    assert isinstance(problem.get("details", {}), dict)
    if code is not None:
        assert problem["code"] == code, f"{problem['code']}, not {code}: {problem}"
    return problem
