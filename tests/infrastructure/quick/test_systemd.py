"""The systemd units: what systemd-analyze says of them, and that they agree with the programs' settings."""

import re
import subprocess

import pytest

from monitoring import INFRASTRUCTURE, REPOSITORY

UNITS = sorted((INFRASTRUCTURE / "systemd").glob("*.service"))
PROGRAM = "/usr/local/bin/coffer-serve"


@pytest.fixture(name="unit", params=UNITS, ids=lambda path: path.stem)
def a_unit(request):
    return request.param


def test_there_is_one_for_each_role():
    assert {path.stem for path in UNITS} == {"coffer", "coffer-gateway", "coffer-node"}


def test_it_is_valid(unit, tmp_path):
    """Under a root that has the program, as an installation has."""
    root = tmp_path / "root"
    for path, text in ((PROGRAM, "#!/bin/sh\n"), ("/bin/kill", "#!/bin/sh\n"),
                       (f"/etc/systemd/system/{unit.name}", unit.read_text()),
                       ("/etc/passwd", "coffer:x:999:999::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n"),
                       ("/etc/group", "coffer:x:999:\nroot:x:0:\n")):
        target = root / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755 if path.startswith(("/usr", "/bin")) else 0o644)
    # Targets and mounts that every machine has, from this one.
    subprocess.run(["cp", "-r", "--parents", "/usr/lib/systemd/system", root], check=True)
    (root / "lib").symlink_to("usr/lib")
    done = subprocess.run(["systemd-analyze", "verify", f"--root={root}", "--man=no",
                           "--recursive-errors=no", unit.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done


def test_its_exposure_is_low(unit):
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=20", unit],
                          capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
    assert done.returncode == 0, done.stdout[-3000:]
    assert float(re.search(r"level for \S+: ([\d.]+)", done.stdout)[1]) <= 2.0


def test_it_stops_as_the_programs_need(unit):
    text = unit.read_text()
    grace = re.search(r"^\| `STOP_GRACE_SECONDS` \| `(\d+)`",
                      (REPOSITORY / "docs/OPERATIONS.md").read_text(), re.MULTILINE)[1]
    assert int(re.search(r"^TimeoutStopSec=(\d+)s$", text, re.MULTILINE)[1]) > 2 * int(grace)
    assert "KillSignal=SIGINT\nKillMode=mixed\n" in text
    role = unit.stem.partition("-")[2]
    command = " ".join(filter(None, [PROGRAM, "--env-file", f"/etc/coffer/{unit.stem}.env", role]))
    assert f"ExecStart={command} foreground\n" in text
    assert f"ExecStartPre={command} check\n" in text
