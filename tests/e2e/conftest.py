"""Fixtures: a service shared by a session, one with tokens, and a factory for special ones; and the
stores of a run (backends.py), with the tests that it is about."""

import os
import shutil
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings

import backends
from service import open_service, running, wait_for

settings.register_profile(
    "e2e",
    deadline=None,
    max_examples=backends.examples(100),
    derandomize=True,
    print_blob=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    # A smaller example is looked for where that is quick.
    phases=[phase for phase in Phase
            if phase != Phase.shrink or backends.current().is_local],
)
settings.load_profile("e2e")

TOOLS = ("curl", "sha256sum", "lighttpd", "chromium", "chromedriver",
         "promtool")
# These start what they need by themselves, or need no service: once, with the default backend.
BY_THEMSELVES = ("test_faultproxy", "test_gateway_", "test_history", "test_migrate",
                 "test_provisioning", "test_readme", "test_servers", "test_sigv4")

# The files that take longest, from the longest; `make test` prints the slowest tests.
LONGEST = ("test_fault_crash", "test_fault_database", "test_fault_store_answers", "test_fault_store",
           "test_elasticsearch", "test_migrate", "test_fault_gateway", "test_gateway_nodes",
           "test_metrics_live", "test_access_log", "test_fault_disk", "test_log", "test_traces",
           "test_concurrency", "test_report", "test_gateway_set", "test_report_crash",
           "test_fault_limits", "test_s3_downloads", "test_s3_objects", "test_fault_config",
           "test_fault_stop", "test_one_id", "test_abuse_multipart", "test_admin")

servers_started = pytest.StashKey[list]()
left_out = Counter()  # reason: how many tests


def pytest_sessionstart():
    missing = [tool for tool in TOOLS if not shutil.which(tool, path="/usr/bin:/usr/sbin:/bin")]
    if missing:
        pytest.exit(f"needed, but not installed: {', '.join(missing)}", 2)


# ---- the backend of the run ----

def is_worker(config):
    return hasattr(config, "workerinput")


def pytest_configure(config):
    """Servers are started once, by the process that begins the run, for all its workers."""
    if not is_worker(config) and not config.option.collectonly:
        config.stash[servers_started] = backends.start_servers(backends.current())


def pytest_sessionfinish():
    backends.finish_drops()


def pytest_unconfigure(config):
    backends.end_servers(config.stash.get(servers_started, []))


def pytest_report_header():
    return f"backend: {backends.current().name}"


def reason_to_leave_out(item, smoked):
    """Why a test is not for this run's backend; None when it is. `smoked` are the smoke tests of
    which a case is in the run already."""
    backend = backends.current()
    if item.get_closest_marker("as_root") and os.geteuid() != 0:
        return "needs root, to be started as root and as others"
    thorough = item.get_closest_marker("thorough")
    if thorough and not backends.THOROUGH:
        return f"in test-all: {thorough.args[0]}"
    about = item.get_closest_marker("backends")
    if about and backend.name not in about.args:
        return f"about {', '.join(about.args)}"
    if about and (len(about.args) == 1 or not backend.is_core):
        return None
    if backend.name == "fs+sqlite":
        return None
    if item.module.__name__.startswith(BY_THEMSELVES):
        return "needs no backend"
    nearest = next((mark for mark in item.iter_markers() if mark.name in ("local", "smoke", "core")),
                   None)
    if nearest and nearest.name == "core":
        return None
    if backend.is_core:
        return "not in the core"
    if nearest and nearest.name == "smoke" and item.function not in smoked:
        smoked.add(item.function)
        return None
    return f"local: {item.get_closest_marker('local').args[0]}" if nearest else None


def start_order(item):
    """The longest files first: a file is run by one worker."""
    name = item.module.__name__
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_modifyitems(config, items):
    kept, other, smoked = [], [], set()
    for item in items:
        reason = reason_to_leave_out(item, smoked)
        (other if reason else kept).append(item)
        if reason:
            left_out[reason] += 1
    if other:
        config.hook.pytest_deselected(items=other)
        items[:] = kept
    items.sort(key=start_order)
    if is_worker(config):
        config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Each worker collects everything: one of them tells."""
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}) if not left_out else {})


def pytest_terminal_summary(terminalreporter):
    failed = {report.nodeid for kind in ("failed", "error")
              for report in terminalreporter.stats.get(kind, ())}
    if failed:
        terminalreporter.section("run again")
    for name in sorted(failed):
        terminalreporter.line(f"make e2e BACKEND={backends.current().name} T='tests/e2e/{name}'")
    if left_out:
        terminalreporter.section(f"not for {backends.current().name}")
    for reason, count in left_out.most_common():
        terminalreporter.line(f"{count:5} {reason}")


# ---- services ----

@pytest.fixture(scope="session")
def service():
    """AUTH_MODE=none, DURABILITY=full: everything as a stranger starts it."""
    yield from running(AUTH_MODE="none", DURABILITY="full")


@pytest.fixture(scope="session")
def token_service():
    """AUTH_MODE=token."""
    yield from running(AUTH_MODE="token", DURABILITY="full")


@pytest.fixture(scope="module")
def impatient():
    """A service that waits three seconds for bytes."""
    yield from running(AUTH_MODE="none", BODY_IDLE_SECONDS=3)


@pytest.fixture
def nothing_stored(service):
    """Whatever the test sends leaves no row and no bytes."""
    before = service.state()
    yield
    wait_for(lambda: service.state() == before, f"state as before: {before}", 10)


@pytest.fixture
def start_service():
    """start_service(crash=False, ready=True, **options): services that end with the test."""
    started = []

    def start(crash=False, ready=True, **options):
        each = open_service(crash=crash, **options)
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
