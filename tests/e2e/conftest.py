"""Fixtures: a service shared by a session, one with tokens, and a factory for special ones."""

import shutil

import pytest
from hypothesis import HealthCheck, settings

from service import Service

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

TOOLS = ("curl", "sha256sum", "lighttpd", "chromium", "chromedriver")


def pytest_sessionstart():
    missing = [tool for tool in TOOLS if not shutil.which(tool, path="/usr/bin:/usr/sbin:/bin")]
    if missing:
        pytest.exit(f"needed, but not installed: {', '.join(missing)}", 2)


def shared(**env):
    running = Service(**env)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def service():
    """AUTH_MODE=none, DURABILITY=full: everything as a stranger starts it."""
    yield from shared(AUTH_MODE="none", DURABILITY="full")


@pytest.fixture(scope="session")
def token_service():
    """AUTH_MODE=token."""
    yield from shared(AUTH_MODE="token", DURABILITY="full")


@pytest.fixture
def start_service():
    """start_service(crash=False, ready=True, **env): services that end with the test."""
    started = []

    def start(crash=False, ready=True, **env):
        running = Service(crash=crash, **env)
        started.append(running)
        return running.start(ready)

    yield start
    failures = []
    for running in reversed(started):
        try:
            running.close()
        except Exception as error:  # every service is closed before the first failure is told
            failures.append(error)
    if failures:
        raise failures[0]
