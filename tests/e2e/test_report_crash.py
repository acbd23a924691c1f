"""Where errors and crashes come from, as a real tracker is told: the failing function on top, equal
faults in one issue, each crash reported by the program's next start. And that a tracker that is
away, slow or full makes no request slower (F25)."""

import os
import re
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from bugsink import Bugsink
from faultproxy import FaultProxy
from samples import TEXT
from servers import FerretDB
from service import REPOSITORY, read_proc, wait_for

JSON = {"Content-Type": "application/json"}

# Program: a request to it, the crash point on its way, and the function that has the point.
STEPS = {
    "files_upload": (("PUT", "/api/files/upload/name", {"data": TEXT}), "step.upload",
                     "receive", "shared/files/files_create.c"),
    "files_get": (("GET", "/api/files/{id}", {}), "step.get",
                  "files_locate", "shared/files/files_open.c"),
    "files_list": (("GET", "/api/files", {}), "step.list",
                   "write_page", "shared/files/files_list.c"),
    "files_delete": (("DELETE", "/api/files/{id}", {}), "step.delete",
                     "mark", "shared/files/files_remove.c"),
    "files_update": (("PATCH", "/api/files/{id}",
                      {"data": b'{"visibility":"public"}', "headers": JSON}), "step.update",
                     "try_update", "shared/files/files_update.c"),
    "health": (("GET", "/health", {}), "step.health", "get_health", "fcgi-apps/health/health.c"),
    "metrics": (("GET", "/api/metrics", {}), "step.metrics",
                "answer", "fcgi-apps/metrics/metrics.c"),
}
SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)

pytestmark = pytest.mark.local("about the programs, and DATA_DIR")


@pytest.fixture(scope="module")
def tracker():
    with Bugsink() as tracker:
        yield tracker


@pytest.fixture
def project(tracker):
    return tracker.project()


@pytest.fixture
def proxy(tracker):
    with FaultProxy(tracker.endpoint) as proxy:
        yield proxy


class Steps:
    """A service whose steps fail or crash when they are told to."""

    def __init__(self, start_service, folder, **env):
        self.folder = folder / "points"
        self.folder.mkdir()
        self.service = start_service(crash=True, CRASH_FOLDER=str(self.folder), **env)
        self.service.expect_5xx = True
        self.service.expect_damage = True  # an upload that crashes leaves what the sweep removes
        self.id = self.service.create(TEXT)["id"]

    def provoke(self, program, how, request_id=None):
        """Until the point was passed; the answer of the request that did."""
        point = STEPS[program][1]
        armed = self.folder / point
        armed.with_suffix(".new").write_text(how)
        armed.with_suffix(".new").rename(armed)

        def passed():
            answer = self.ask(program, request_id or "any")
            return None if armed.exists() else [answer]

        [answer] = wait_for(passed, f"{program} at {point}", 20, 0.1)
        return answer

    def back(self, program):
        """Until the program serves again."""
        wait_for(lambda: self.ask(program, "any").status_code < 500, f"{program} serves")

    def ask(self, program, request_id):
        (method, path, options), *_ = STEPS[program]
        headers = {**options.get("headers", {}), "X-Request-Id": request_id}
        number = self.service.create(TEXT)["id"] if method == "DELETE" else self.id
        return self.service.request(method, path.replace("{id}", number),
                                    **{**options, "headers": headers})


@pytest.fixture
def steps(start_service, project, tmp_path):
    return Steps(start_service, tmp_path, SENTRY_DSN=project.dsn, ENVIRONMENT="testing")


def counted(service, outcome):
    return service.reports(outcome=outcome)


def crashes(project):
    """Without the errors: that the gateway had no answer for who met the crash."""
    return [event for event in project.events() if event["level"] == "fatal"]


def wait_for_crashes(project, count):
    wait_for(lambda: len(crashes(project)) >= count, f"{count} crashes", 30)
    return crashes(project)


def reports_of(service):
    return service.data_dir / "log" / "reports"


def end_pause(service):
    """Crashes of a program are told some seconds apart: they are over."""
    for path in reports_of(service).glob("crash-*.last"):
        os.utime(path, (time.time() - 60,) * 2)


def frames_of(event):
    [exception] = event["exception"]["values"]
    return exception["stacktrace"]["frames"]  # the oldest first


def top_in_app(event):
    return next(frame for frame in reversed(frames_of(event)) if frame["in_app"])


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True)
    return re.search(r"Build ID: ([0-9a-f]+)", notes.stdout).group(1)


def check_images(event, service):
    """Each frame lies in an image, whose debug id is that of its file."""
    images = event["debug_meta"]["images"]
    program = str(service.binaries / event["tags"]["program"])
    assert program in {image["code_file"] for image in images}
    for image in images:
        assert image["type"] == "elf"
        assert image["code_id"] == build_id(image["code_file"])
        plain = image["debug_id"].replace("-", "")
        first = bytes.fromhex(image["code_id"])
        assert bytes.fromhex(plain)[3::-1] == first[:4]
    for frame in frames_of(event):
        address = int(frame["instruction_addr"], 16)
        assert any(0 <= address - int(image["image_addr"], 16) < image["image_size"]
                   for image in images), frame


def check_place(event, program):
    """The failing function is on top, and all of ours have names."""
    _, _, function, file = STEPS[program]
    top = top_in_app(event)
    assert (top["function"], top["filename"]) == (function, file), frames_of(event)
    line = (REPOSITORY / file).read_text().splitlines()[top["lineno"] - 1]
    assert "crash_or_fail" in line or "err_set" in line, line
    for frame in frames_of(event):
        if frame["in_app"]:
            assert frame["function"] and frame["lineno"] and not frame["filename"].startswith("/")


# ---- errors ----

def test_the_failing_function_of_each_program_is_told(steps, project):
    answers = {program: steps.provoke(program, "error") for program in STEPS}
    events = {event["tags"]["program"]: event for event in project.wait_for(len(STEPS))}
    assert set(events) == set(STEPS) and len(project.events()) == len(STEPS)
    for program, event in events.items():
        answer = answers[program]
        assert answer.status_code == 500, answer.text
        assert event["level"] == "error"
        assert event["tags"]["request_id"] == answer.headers["X-Request-Id"]
        assert event["contexts"]["trace"]["trace_id"] == answer.json()["traceId"]
        check_place(event, program)
        check_images(event, steps.service)
        assert "stacktrace" not in answer.text and "shared/" not in answer.text
    assert len({event["issue"] for event in events.values()}) == len(STEPS)


def check_in_plugin(event, service):
    top = top_in_app(event)
    assert top["filename"].startswith("shared/metadata/mongodb/"), frames_of(event)
    assert top["function"] and top["lineno"]
    files = [image["code_file"] for image in event["debug_meta"]["images"]]
    assert str(service.binaries / "coffer-mongodb.so") in files


def test_errors_and_crashes_in_the_metadata_plugin_are_told(start_service, project, tmp_path):
    """Which is an object of its own, with a copy of the library of its own."""
    with FerretDB() as database:
        service = start_service(crash=True, CRASH_FOLDER=str(tmp_path), SENTRY_DSN=project.dsn,
                                METADATA_DRIVER="mongodb", MONGODB_URI=database.uri,
                                MONGODB_DATABASE="crash")
        service.expect_5xx = service.expect_unclean = True
        (tmp_path / "insert.committed").write_text("segv")
        assert service.upload(TEXT).status_code >= 500
        [crash] = wait_for_crashes(project, 1)
        check_in_plugin(crash, service)
        database.kill()
        assert service.get("/api/files").status_code == 503
        [error] = wait_for(lambda: [event for event in project.events()
                                    if event["tags"]["program"] == "files_list"], "it is told", 20)
        assert error["level"] == "error"
        check_in_plugin(error, service)


# ---- crashes ----

def test_a_crash_of_each_program_is_told_by_its_next_start(steps, project):
    for program in STEPS:
        steps.provoke(program, "segv", f"crash-of-{program}")
        steps.back(program)
    events = {event["tags"]["program"]: event for event in wait_for_crashes(project, len(STEPS))}
    assert set(events) == set(STEPS) and len(crashes(project)) == len(STEPS)
    for program, event in events.items():
        assert event["release"].startswith("coffer@") and event["environment"] == "testing"
        [exception] = event["exception"]["values"]
        assert exception["type"] == event["tags"]["code"] == "SIGSEGV"
        assert exception["mechanism"]["type"] == "signalhandler"
        assert exception["mechanism"]["handled"] is False
        assert exception["mechanism"]["meta"]["signal"]["number"] == signal.SIGSEGV
        assert event["timestamp"]
        check_place(event, program)
        check_images(event, steps.service)
        assert event["tags"]["request_id"] == f"crash-of-{program}"
        assert event["contexts"]["trace"]["trace_id"]
        assert event["tags"]["route"] in ("/health", "/api/metrics") or \
            event["tags"]["route"].startswith("/api/files")
    assert len({event["issue"] for event in events.values()}) == len(STEPS)
    # Besides, health may have told that the gateway had no answer for who met the crash.
    others = [event for event in project.events() if event["level"] != "fatal"]
    assert {(event["tags"]["program"], event["tags"]["operation"]) for event in others} <= \
        {("health", "gateway")}
    # What health sent just before it crashed itself may be uncounted.
    wait_for(lambda: counted(steps.service, "sent") >= len(STEPS), "each is counted")
    assert counted(steps.service, "sent") <= len(project.events())
    left = [path.name for path in reports_of(steps.service).iterdir()]
    assert not [name for name in left if not name.endswith(".last")], left
    said = steps.service.gateway_log()
    assert said.count("child signalled: 11") == len(STEPS)
    for program in STEPS:
        assert f"{program}: crashed by SIGSEGV, to be reported" in said


def test_crashes_outside_of_requests_are_told(steps, project):
    """Of the thread that asks the store how it is, and of the gateway's log."""
    outside = {"health": ("step.check", "/ready", "ask_part"),
               "access_log": ("step.access_log", "/live", "access_counter_take")}
    for point, path, _ in outside.values():
        armed = steps.folder / point
        armed.write_text("segv")

        def passed(armed=armed, path=path):
            steps.service.get(path)
            return not armed.exists()

        wait_for(passed, point, 20, 0.1)
    for event in wait_for_crashes(project, len(outside)):
        assert top_in_app(event)["function"] == outside[event["tags"]["program"]][2]
        assert "request_id" not in event["tags"]
        check_images(event, steps.service)
    assert {event["tags"]["program"] for event in crashes(project)} == set(outside)


def test_equal_crashes_are_one_issue_and_others_another(steps, project):
    issues = []
    for count, how in enumerate(("segv", "segv", "abort", "stack", "stack"), 1):
        steps.provoke("files_list", how)
        steps.back("files_list")
        issues.append(wait_for_crashes(project, count)[count - 1]["issue"])
        end_pause(steps.service)
    assert issues[0] == issues[1] and issues[3] == issues[4]
    assert len(set(issues)) == 3
    *_, aborted, overflowed, _ = crashes(project)
    assert aborted["tags"]["code"] == "SIGABRT" and overflowed["tags"]["code"] == "SIGSEGV"
    assert any(frame.get("function") == "write_page" for frame in frames_of(aborted))
    assert top_in_app(overflowed)["function"] == "fill_the_stack"


def test_a_signal_from_outside_is_a_crash_too(start_service, project):
    """Of programs as they are shipped."""
    service = start_service(SENTRY_DSN=project.dsn)
    service.expect_5xx = True
    waits = {**dict.fromkeys(STEPS, "wait_for_stop"), "access_log": "run"}
    service.wait_until_started()
    wanted = []
    for number, program in zip(SIGNALS + SIGNALS, waits, strict=False):
        [before] = service.kill(program, number)
        wait_for(lambda: [pid for pid in service.pids(program) if pid != before],
                 f"{program} is started again")
        wanted.append((program, number.name))
    events = project.wait_for(len(wanted), 30)
    assert {(event["tags"]["program"], event["tags"]["code"]) for event in events} == set(wanted)
    for event in events:
        assert top_in_app(event)["function"] == waits[event["tags"]["program"]], frames_of(event)
        assert event["exception"]["values"][0]["value"].endswith("sent by a process")
        check_images(event, service)
    for number in SIGNALS:
        assert f"child signalled: {number.value}" in service.gateway_log()


def test_a_crash_while_the_tracker_is_away_is_told_later(start_service, project, proxy):
    proxy.refuse()
    service = start_service(SENTRY_DSN=project.dsn_at(proxy.endpoint))
    service.expect_5xx = True
    service.wait_until_started()
    service.kill("files_get", signal.SIGSEGV)
    wait_for(lambda: list(reports_of(service).glob("*.envelope")), "it is kept")
    service.stop()
    proxy.accept()
    service.start()
    [event] = project.wait_for(1, 30)
    assert event["tags"]["program"] == "files_get" and event["level"] == "fatal"


def test_records_that_are_no_good_are_dropped_and_counted(start_service, project):
    """And never keep a program from starting. When there is no place for a new one, that is
    counted too."""
    service = start_service(SENTRY_DSN=project.dsn)
    service.expect_5xx = True
    service.wait_until_started()
    contents = [b"", b"\0" * 100000, b"coffer-crash 1\n", b"coffer-crash 1\nprogram files_list\n",
                os.urandom(4000), b"end 0\n", b"\n" * 500, b"x"]
    for number, content in enumerate(contents):
        (reports_of(service) / f"crash-files_list-{number}.record").write_bytes(content)
    service.kill("files_list", signal.SIGSEGV)
    wait_for(lambda: counted(service, "dropped_failed") == len(contents), "they are counted")
    assert counted(service, "dropped_limit") == 1
    assert service.get("/api/files").status_code == 200
    assert project.events() == []
    assert list(reports_of(service).iterdir()) == []


def caught(pid):
    """The signals that a process has handlers for."""
    mask = int(re.search(rb"SigCgt:\s*([0-9a-f]+)", read_proc(pid, "status")).group(1), 16)
    return {number for number in SIGNALS if mask >> (number - 1) & 1}


def test_without_a_dsn_nothing_is_installed_and_nothing_written(start_service, project):
    services = [start_service(SENTRY_DSN=dsn) for dsn in ("", project.dsn)]
    for service, wanted in zip(services, (set(), set(SIGNALS)), strict=True):
        service.expect_5xx = True
        service.wait_until_started()
        for program in (*STEPS, "access_log"):
            assert [caught(pid) for pid in service.pids(program)] == [wanted], program
    [before] = services[0].kill("files_list", signal.SIGSEGV)
    wait_for(lambda: set(services[0].pids("files_list")) - {before}, "it is started again")
    assert not list(services[0].folder.rglob("reports"))
    assert "crashed by" not in services[0].gateway_log()
    assert project.events() == []


def test_a_record_holds_no_memory(start_service, project, proxy, tmp_path):
    """No registers, no stack, nothing of the request but its ids and route."""
    proxy.refuse()
    steps = Steps(start_service, tmp_path, SENTRY_DSN=project.dsn_at(proxy.endpoint))
    parts = []
    service = steps.service
    [pid] = service.pids("files_list")
    # The next start must not take it before it is read here: the one before was told just now.
    (reports_of(service) / "crash-files_list.last").touch()
    answer = steps.provoke("files_list", "segv", "the-request")
    assert answer.status_code >= 500
    [path] = wait_for(lambda: list(reports_of(service).glob("crash-files_list-*.record")),
                      "a record")
    assert path.stat().st_mode & 0o777 == 0o600
    for line in path.read_text().splitlines():
        parts.append(line.split(" ")[0])
        assert re.fullmatch(
            r"coffer-crash 1|program files_list|release [0-9.]+|time \d+|signal 11 1 0x0|"
            r"request the-request [0-9a-f]{32} [0-9a-f]{16} - /api/files|"
            r"image 0x[0-9a-f]+ 0x[0-9a-f]+ [0-9a-f]{40} /\S+|frame 0x[0-9a-f]+|end [0-9a-f]{16}",
            line), line
    assert parts.count("frame") >= 5 and parts.count("image") >= 2 and pid


# ---- what it costs (F25) ----

def timed(service, path, status):
    began = time.perf_counter()
    answer = service.get(path)
    took = time.perf_counter() - began
    assert answer.status_code == status, answer.text
    return took


def p99(times):
    return statistics.quantiles(times, n=100)[98]


ROUNDS, ROUNDS_AT_MOST, PAIRS = 5, 15, 200


def has_settled(added):
    """Enough rounds: more of them where the machine does much else."""
    rounds = len(added[200])
    good = rounds >= ROUNDS and all(statistics.median(each) <= 0.005 for each in added.values())
    return good or rounds >= ROUNDS_AT_MOST


@pytest.mark.thorough("compares times of requests")
@pytest.mark.parametrize("fault", ["dead", "silent", "slow", "full"])
def test_f25_the_tracker_adds_nothing_to_p99(start_service, project, proxy, fault):
    """Requests that fail and requests that don't, in turns at a service that reports and one that
    does not, so that what else the machine does slows both. The medians of rounds are compared."""
    if fault == "dead":
        proxy.refuse()
    elif fault == "silent":
        proxy.silent()
    elif fault == "slow":
        proxy.delay(2)
    else:
        proxy.status(429, {"Retry-After": "1"})
    services = [start_service(SENTRY_DSN=dsn) for dsn in ("", project.dsn_at(proxy.endpoint))]
    paths = {}
    for service in services:
        service.expect_5xx = service.expect_damage = True
        lost, kept = service.create(b"lost"), service.create(TEXT)
        (service.data_dir / service.object_of(b"lost")).unlink()
        paths[service] = {500: f"/api/files/{lost['id']}", 200: f"/api/files/{kept['id']}"}
    added = {status: [] for status in (500, 200)}
    slowest = failed = 0
    while not has_settled(added):
        times = {(service, status): [] for service in services for status in added}
        for _ in range(PAIRS):
            failed += 1
            for service, status in times:
                times[service, status].append(timed(service, paths[service][status], status))
        for status, differences in added.items():
            without, reporting = (p99(times[service, status]) for service in services)
            differences.append(reporting - without)
            slowest = max(slowest, *times[services[1], status])
    medians = {status: statistics.median(differences) for status, differences in added.items()}
    print(fault, {status: f"{median * 1000:.2f} ms" for status, median in medians.items()})
    assert all(median <= 0.005 for median in medians.values()), added
    assert slowest < 1, "one waited for the tracker"
    wait_for(lambda: sum(counted(services[1], outcome) for outcome in
                         ("sent", "spooled", "dropped_limit", "dropped_queue")) >= failed - 20,
             "what is not told is counted", 20)
    if fault == "full":
        assert counted(services[1], "dropped_limit") >= failed - 20


def test_symbols_are_installed(tmp_path):
    """Frames get their names from the programs' own debug information."""
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}", "PREFIX=/usr/local"],
                   cwd=REPOSITORY, check=True, capture_output=True)
    programs = Path(tmp_path) / "usr/local/libexec/coffer"
    for name in [*STEPS, "coffer-mongodb.so"]:
        sections = subprocess.run(["readelf", "-S", "-W", programs / name], capture_output=True,
                                  text=True, check=True).stdout
        assert ".debug_info" in sections and ".symtab" in sections, name
