"""Requests that came through a proxy: who is an operator, and who may come in without login. Peers are
told apart by the address they connect from: 127.0.0.2 is listed, 127.0.0.1 is not."""

import http.client

import pytest

from exchanges import call
from nodes import NodeSet
from problems import check_problem
from service import running, wait_for

pytestmark = pytest.mark.local("about proxies, whatever the stores")

LISTED, UNLISTED = "127.0.0.2", "127.0.0.1"
HEADERS = {"X-Forwarded-For": "10.1.1.1", "Forwarded": "for=10.1.1.1", "Via": "1.1 proxy"}


def ask(service, path, headers, peer=UNLISTED, port=None):
    wire = http.client.HTTPConnection("127.0.0.1", port or service.port, timeout=30,
                                      source_address=(peer, 0))
    try:
        return call(None, "GET", path, headers=headers, connection=wire)
    finally:
        wire.close()


@pytest.fixture(scope="module")
def guarded():
    yield from running(AUTH_MODE="token", TRUSTED_PROXIES=LISTED)


@pytest.fixture(scope="module")
def pair():
    """A gateway that lists one proxy, and a node."""
    nodes = NodeSet(1, TRUSTED_PROXIES=LISTED)
    try:
        yield nodes.start()
    finally:
        nodes.close()


OPERATORS = [
    (UNLISTED, {}, True),
    (UNLISTED, {"X-Forwarded-For": "203.0.113.7"}, False),
    (UNLISTED, {"X-Forwarded-For": "127.0.0.1"}, False),
    (UNLISTED, {"Forwarded": "for=10.1.1.1"}, False),
    (LISTED, {}, True),
    (LISTED, {"X-Forwarded-For": "10.1.1.1"}, True),
    (LISTED, {"X-Forwarded-For": "10.1.1.1", "Forwarded": "for=10.1.1.1", "Via": "1.1 p"}, True),
    (LISTED, {"X-Forwarded-For": f"10.1.1.1, {LISTED}"}, True),
    (LISTED, {"X-Forwarded-For": "203.0.113.7"}, False),
    (LISTED, {"X-Forwarded-For": "203.0.113.7, 10.1.1.1"}, False),
    (LISTED, {"X-Forwarded-For": "unknown"}, False),
    (LISTED, {"X-Forwarded-For": "203.0.113.7:4711"}, False),
    (LISTED, {"Forwarded": "for=203.0.113.7"}, False),
]


@pytest.mark.smoke
@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
def test_metrics_behind_a_proxy(guarded, path):
    token = {"Authorization": f"Bearer {guarded.token('root', 'admin')}"}
    for peer, headers, allowed in OPERATORS:
        answer = ask(guarded, path, headers, peer)
        assert answer.status == (200 if allowed else 401), (peer, headers, str(answer))
        assert ask(guarded, path, {**headers, **token}, peer).status == 200


@pytest.mark.local("moves the folder of objects away")
def test_details_of_health_behind_a_proxy(guarded):
    objects = guarded.data_dir / "objects"
    away = objects.rename(guarded.data_dir / "objects.away")
    try:
        wait_for(lambda: guarded.get("/health").json()["status"] == "degraded", "degraded")
        for peer, headers, allowed in OPERATORS:
            health = ask(guarded, "/health", headers, peer).json()
            assert ("detail" in health["checks"]["storage"]) == allowed, (peer, headers, health)
    finally:
        away.rename(objects)
    wait_for(lambda: guarded.get("/health").json()["status"] == "ok", "well again")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("path", ["/api/files", "/metrics", "/"])
def test_without_login_no_proxy_makes_admins(service, path, name):
    """The Host is a loopback name, as a proxy on the same machine sends it."""
    for value in (HEADERS[name], "x", "127.0.0.1"):
        answer = service.get(path, headers={name: value})
        check_problem(answer, 403, "forbidden")
        detail = answer.json()["detail"]
        assert "AUTH_MODE" in detail and "TRUSTED_PROXIES" in detail, detail
    assert service.get("/api/files").status_code == 200


@pytest.mark.local("a set over a folder")
def test_a_gateway_tells_its_nodes_of_unlisted_proxies(pair):
    for name, value in HEADERS.items():
        assert ask(pair, "/api/files", {name: value}).status == 403, name
        assert ask(pair, "/api/files", {name: value}, LISTED).status == 200, name
        both = {name: value, "X-Forwarded-For": "10.1.1.1"}
        assert ask(pair, "/api/files", both).status == 403, name
        assert ask(pair, "/api/files", both, LISTED).status == 200, name
    assert ask(pair, "/api/files", {}).status == 200
    chain = {"X-Forwarded-For": "203.0.113.7, 10.1.1.1"}
    assert ask(pair, "/api/files", chain, LISTED).status == 403


@pytest.mark.local("a set over a folder")
def test_metrics_of_a_gateway_behind_a_proxy(pair):
    """The gateway knows no tokens."""
    for peer, headers, allowed in OPERATORS:
        answer = ask(pair, "/metrics", headers, peer)
        assert answer.status == (200 if allowed else 403), (peer, headers, str(answer))
