#!/usr/bin/env python3
"""Runs stages of the tests one after the other, each a target of make:

    MAKE=make tests/support/run-stages.py STAGE...

What a stage writes is in build/test/STAGE.log, and printed when the stage fails. At the end: a table of
the stages with their times, the slowest tests, the tests that passed only when they were run again
(FLAKY), and the sum. A stage's budget stands in docs/TESTING.md; half as much again is a warning.

With CI=true, end-to-end tests that failed are run once more, each by itself, if they are few.
"""

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOGS = REPOSITORY / "build" / "test"
SLOWEST = 30
LINES_OF_A_FAILURE = 200
LINES_OF_A_TEST = 5
RUN_AGAIN_MAX = 5  # more failures than these are no accident
BACKENDS = {"e2e": "fs+sqlite", "e2e-s3": "s3+mongodb", "e2e-minio": "minio+mongodb",
            "e2e-libs3": "libs3+sqlite", "e2e-nodes": "nodes"}
BUDGET = re.compile(r"^\| `make ([a-z0-9-]+)` \|.*\| (\d+) s \|$", re.MULTILINE)
CUNIT = re.compile(r"^ +tests +\d+ +\d+ +(\d+) +(\d+) +\d+$", re.MULTILINE)
SLOW = re.compile(r"^slow: ([\d.]+) s (\S+)$", re.MULTILINE)


@dataclass
class Stage:
    name: str
    seconds: float = 0
    passed: int = 0
    failed: int = 0
    ok: bool = True
    times: list = field(default_factory=list)   # (seconds, name of a test)
    broken: list = field(default_factory=list)  # node ids of end-to-end tests that failed
    flaky: list = field(default_factory=list)

    @property
    def log(self):
        return LOGS / f"{self.name}.log"

    @property
    def report(self):
        return LOGS / f"{self.name}.xml"


def run(stage):
    stage.report.unlink(missing_ok=True)
    started = time.monotonic()
    with open(stage.log, "wb") as log:
        code = subprocess.run(
            [os.environ.get("MAKE", "make"), "--no-print-directory", stage.name], cwd=REPOSITORY,
            env={**os.environ, "TEST_REPORT": str(stage.report)}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    stage.seconds = time.monotonic() - started
    stage.ok = code == 0
    if stage.report.exists():
        read_report(stage)
    else:
        read_log(stage)
    if stage.ok and stage.passed + stage.failed == 0:
        stage.passed = 1  # a stage that counts no tests is one
    if not stage.ok and stage.failed == 0:
        stage.failed = 1


def read_log(stage):
    text = stage.log.read_text(errors="replace")
    for passed, failed in CUNIT.findall(text):
        stage.passed += int(passed)
        stage.failed += int(failed)
    stage.times = [(float(seconds), f"{stage.name} {name}") for seconds, name in SLOW.findall(text)]


def node_id(case):
    module, *classes = (case.get("classname") or "pytest").split(".")
    return "::".join([f"tests/e2e/{module}.py", *classes, case.get("name")])


def read_report(stage):
    """What pytest wrote. A test may have failed twice, itself and at its end."""
    broken = {}
    cases = {}
    for case in ElementTree.parse(stage.report).iter("testcase"):
        name = node_id(case)
        cases[name] = cases.get(name, 0) + float(case.get("time"))
        if case.find("failure") is not None or case.find("error") is not None:
            broken[name] = True
    stage.broken = list(broken)
    stage.failed = len(broken)
    stage.passed = len(cases) - len(broken)
    stage.times = [(seconds, f"{stage.name} {name}") for name, seconds in cases.items()]


def run_again(stage):
    """Each by itself; those that pass now are flaky, not broken."""
    if os.environ.get("CI") != "true" or not 0 < len(stage.broken) <= RUN_AGAIN_MAX:
        return
    for name in stage.broken:
        with open(stage.log, "ab") as log:
            log.write(f"\nonce more: {name}\n".encode())
            log.flush()
            passed = subprocess.run(
                [".cache/venv/bin/python", "-B", "-m", "pytest", "-c", "tests/e2e/pytest.ini",
                 "-p", "no:cacheprovider", name], cwd=REPOSITORY,
                env={**os.environ, "COFFER_TEST_BACKEND": BACKENDS[stage.name]},
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                check=False).returncode == 0
        if passed:
            stage.flaky.append(name)
    stage.failed -= len(stage.flaky)
    stage.passed += len(stage.flaky)
    stage.ok = stage.failed == 0


def print_failure(stage):
    """What CUnit says of failed tests may stand far above the end."""
    lines = stage.log.read_text(errors="replace").splitlines()
    end = len(lines) - LINES_OF_A_FAILURE
    for number, line in enumerate(lines[:max(end, 0)]):
        if "had failures" in line:
            print("\n".join(lines[number:min(number + LINES_OF_A_TEST, end)]))
    print("\n".join(lines[max(end, 0):]))


def print_line(stage, budgets):
    budget = budgets.get(stage.name)
    print(f"{stage.name:12} {'ok' if stage.ok else 'FAILED':7} {stage.seconds:4.0f} s"
          f"{f' of {budget}' if budget else '':8} {stage.passed} passed, {stage.failed} failed",
          flush=True)


def print_warning(stage, budgets):
    budget = budgets.get(stage.name)
    if budget and stage.seconds > 1.5 * budget:
        print(f"warning: {stage.name} took {stage.seconds:.0f} s; its budget is {budget} s")


def print_summary(stages, budgets):
    print("\nslowest tests, seconds:")
    times = sorted((each for stage in stages for each in stage.times), reverse=True)
    for seconds, name in times[:SLOWEST]:
        print(f"{seconds:7.2f}  {name}")
    print("\nstages:")
    for stage in stages:
        print_line(stage, budgets)
    for stage in stages:
        print_warning(stage, budgets)
    print(f"{'in all':20} {sum(stage.seconds for stage in stages):4.0f} s\n")
    flaky = [(stage, name) for stage in stages for name in stage.flaky]
    for stage, name in flaky:
        print(f"FLAKY {stage.name} {name}")
    (LOGS / "flaky").write_text(
        "".join(f"{BACKENDS[stage.name]} {name}\n" for stage, name in flaky))
    print(f"{sum(stage.passed for stage in stages)} passed, "
          f"{sum(stage.failed for stage in stages)} failed", flush=True)


def main(names):
    LOGS.mkdir(parents=True, exist_ok=True)
    budgets = {name: int(seconds) for name, seconds in
               BUDGET.findall((REPOSITORY / "docs" / "TESTING.md").read_text())}
    stages = [Stage(name) for name in names]
    for stage in stages:
        run(stage)
        run_again(stage)
        if not stage.ok:
            print_failure(stage)
        print_line(stage, budgets)
    print_summary(stages, budgets)
    return 0 if all(stage.ok for stage in stages) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
