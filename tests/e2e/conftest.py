"""Fixtures: a service shared by a session, one with tokens, and a factory for special ones."""

import shutil

import pytest
from hypothesis import HealthCheck, settings

from forms import state
from service import Service, running, wait_for

settings.register_profile(
    "e2e",
    deadline=None,
    max_examples=100,
    derandomize=True,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("e2e")

TOOLS = ("curl", "sha256sum", "lighttpd", "chromium", "chromedriver",
         "promtool")


def pytest_sessionstart():
    missing = [tool for tool in TOOLS if not shutil.which(tool, path="/usr/bin:/usr/sbin:/bin")]
    if missing:
        pytest.exit(f"needed, but not installed: {', '.join(missing)}", 2)


@pytest.fixture(scope="session")
def service():
    """AUTH_MODE=none, DURABILITY=full: everything as a stranger starts it."""
    yield from running(AUTH_MODE="none", DURABILITY="full")


@pytest.fixture(scope="session")
def token_service():
    """AUTH_MODE=token."""
    yield from running(AUTH_MODE="token", DURABILITY="full")


@pytest.fixture
def nothing_stored(service):
    """Whatever the test sends leaves no row and no bytes."""
    before = state(service)
    yield
    wait_for(lambda: state(service) == before, f"state as before: {before}", 10)


@pytest.fixture
def start_service():
    """start_service(crash=False, ready=True, **env): services that end with the test."""
    started = []

    def start(crash=False, ready=True, **env):
        each = Service(crash=crash, **env)
        started.append(each)
        return each.start(ready)

    yield start
    failures = []
    for each in reversed(started):
        try:
            each.close()
        except Exception as error:  # every service is closed before the first failure is told
            failures.append(error)
    if failures:
        raise failures[0]
