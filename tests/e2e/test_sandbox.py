"""What the kernel keeps programs to (docs/decisions/0032). What each may do with files and system calls
is tested in C (tests/unit/test_sandbox.c, test_program_sandbox.c); here, that every program is kept so,
serves nevertheless, and tells what the kernel lacks."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from samples import unique
from service import LAUNCHER, Service, read_proc, wait_for

PROGRAMS = ("files_upload", "files_get", "files_list", "files_update", "files_delete", "health",
            "metrics", "access_log")
LACKING = Path(__file__).with_name("lacking.py")
UNGUARDED_FILES = "a program that is taken over can read and change what its user can"
UNGUARDED_CALLS = "a program that is taken over can make every system call"
KNOWN_ABI = 6  # newest that programs make use of


def kernel_landlock():
    """What programs say of this kernel's Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi > 0:
        return f"Landlock ABI {min(abi, KNOWN_ABI)}"
    return f"no Landlock ({os.strerror(ctypes.get_errno())}): {UNGUARDED_FILES}"


def kernel_seccomp():
    if Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return "seccomp"
    return f"no seccomp filter ({os.strerror(22)}): {UNGUARDED_CALLS}"


NO_LANDLOCK = f"no Landlock ({os.strerror(38)}): {UNGUARDED_FILES}"
NO_SECCOMP = f"no seccomp filter ({os.strerror(38)}): {UNGUARDED_CALLS}"
IS_WHOLE = not (kernel_landlock() + kernel_seccomp()).count("no ")


def statuses(service, name):
    """Of each program, a row of /proc/PID/status."""
    found = {}
    for program in PROGRAMS:
        [pid] = service.pids(program)
        rows = dict(line.split(":\t", 1) for line in read_proc(pid, "status").decode().splitlines()
                    if ":\t" in line)
        found[program] = rows[name]
    return found


def said(service):
    """{what a program said of its sandbox: with which level}, and how many programs."""
    service.wait_until_started()
    lines = [line for line in service.all_log_lines() if line["message"].startswith("sandbox: ")]
    assert len({line["service"] for line in lines}) == len(PROGRAMS), lines
    return {line["message"]: line["log.level"] for line in lines}


def use(service):
    """All that programs do."""
    name = unique()
    made = service.create(b"kept" * 1000, name=name)
    path = f"/api/files/{made['id']}"
    assert service.get(path).content == b"kept" * 1000
    [listed] = service.get(f"/api/files?prefix={name}").json()["files"]
    assert listed["id"] == made["id"]
    assert service.patch(path, json={"metadata": {"a": "b"}}).status_code == 200
    assert service.get("/health").json()["status"] == "ok"
    assert service.get("/api/metrics").status_code == service.get("/metrics").status_code == 200
    assert service.delete(path).status_code in (200, 204)
    assert service.get(path).status_code == 404


def test_every_program_is_kept_to_what_it_needs(service):
    use(service)
    assert statuses(service, "NoNewPrivs") == dict.fromkeys(PROGRAMS, "1")
    expected = "2" if kernel_seccomp() == "seccomp" else "0"
    assert statuses(service, "Seccomp") == dict.fromkeys(PROGRAMS, expected)
    assert said(service) == {f"sandbox: {kernel_landlock()}, {kernel_seccomp()}":
                             "info" if IS_WHOLE else "warn"}


@pytest.fixture
def start_lacking(start_service, tmp_path, monkeypatch):
    """start_lacking("landlock", **env): a service on a kernel that lacks that."""

    def start(lacks, **env):
        launcher = tmp_path / "launcher"
        launcher.write_text(f'#!/bin/sh\nexec {sys.executable} {LACKING} {lacks} {LAUNCHER} "$@"\n')
        launcher.chmod(0o755)
        monkeypatch.setattr("service.LAUNCHER", launcher)
        return start_service(**env)

    return start


@pytest.mark.local("about the kernel")
@pytest.mark.parametrize("lacks, expected", [
    ("landlock", f"{NO_LANDLOCK}, {kernel_seccomp()}"),
    ("seccomp", f"{kernel_landlock()}, {NO_SECCOMP}"),
])
def test_what_the_kernel_lacks_is_told_and_done_without(start_lacking, lacks, expected):
    service = start_lacking(lacks)
    use(service)
    if kernel_seccomp() != "seccomp":  # nothing can be taken from such a kernel
        expected = f"{kernel_landlock()}, {kernel_seccomp()}"
    assert said(service) == {f"sandbox: {expected}": "warn"}


@pytest.mark.local("about the kernel")
@pytest.mark.parametrize("lacks, missing", [("landlock", "no Landlock"),
                                            ("seccomp", "no seccomp filter")])
def test_a_required_sandbox_that_can_not_be_is_no_start(lacks, missing):
    service = Service(SANDBOX="require")
    service.expect_unclean = True
    words = [sys.executable, str(LACKING), lacks, str(LAUNCHER)]
    for command in ("check", "foreground"):
        result = subprocess.run([*words, command], env=service.env, cwd=service.folder,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                                check=False)
        assert result.returncode == 1, result
        assert f"SANDBOX=require, and this kernel has {missing}" in result.stderr, result
    service.close()


@pytest.mark.local("about the kernel")
def test_a_required_sandbox(start_service):
    """Starts where the kernel has all of it."""
    if IS_WHOLE:
        service = start_service(SANDBOX="require")
        use(service)
        assert set(said(service).values()) == {"info"}
    else:
        with pytest.raises(AssertionError, match="SANDBOX=require"):
            start_service(SANDBOX="require").expect_unclean = True


@pytest.mark.local("about settings")
def test_no_sandbox_where_it_is_off(start_service):
    service = start_service(SANDBOX="off")
    use(service)
    assert statuses(service, "Seccomp") == dict.fromkeys(PROGRAMS, "0")
    assert said(service) == {"sandbox: off (SANDBOX=off)": "info"}


@pytest.mark.local("about DATA_DIR")
def test_another_data_dir_at_the_path_is_taken(start_service):
    """Landlock knows the folder that was there. Here the log is in a folder with DATA_DIR, which is
    told."""
    service = Service()
    service.log_file = service.folder / "log"
    service.start()
    try:
        files = {unique(): os.urandom(1000) for _ in range(3)}
        made = [service.create(content, name=name) for name, content in files.items()]
        assert set(said(service).values()) == {"warn"}
        assert all("LOG_FILE lies in a folder with DATA_DIR" in text for text in said(service))
        copy = service.data_dir.with_name("copy")
        shutil.copytree(service.data_dir, copy)
        service.expect_5xx = True
        service.data_dir.rename(service.data_dir.with_name("former"))
        copy.rename(service.data_dir)

        def is_back():
            got = [service.get(f"/api/files/{each['id']}") for each in made]
            return ([each.content for each in got] == list(files.values())
                    and service.upload(b"new").status_code == 201
                    and service.get("/ready").status_code == 200)

        wait_for(is_back, "everything is served from the new folder", 20)
        use(service)
    finally:
        service.close()
