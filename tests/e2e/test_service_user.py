"""As whom a service runs that is started as root, and whose DATA_DIR must be."""

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from service import BASE_ENV, REPOSITORY, Service, free_port, read_proc, wait_for

pytestmark = pytest.mark.as_root

USER = "nobody"
UID = pwd.getpwnam(USER).pw_uid
STRANGER = 12345  # has no name
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
PORT_CAPABILITY = f"{1 << 10:016x}"  # CAP_NET_BIND_SERVICE


@pytest.fixture(scope="module")
def installed():
    """Coffer where every user can run it; the tree may lie in root's own folder."""
    prefix = Path(tempfile.mkdtemp(prefix="coffer-installed-"))
    prefix.chmod(0o755)
    subprocess.run(["make", "-s", "install", f"PREFIX={prefix}", "COFFER_USER=root"], cwd=REPOSITORY,
                   check=True, timeout=600)
    (prefix / "libexec/coffer/coffer").symlink_to(prefix / "bin/coffer")  # as in the tree
    yield prefix
    shutil.rmtree(prefix)


@pytest.fixture
def open_service(installed, monkeypatch):
    """open_service(uid, **env): a service in a folder of that user's, not started."""
    monkeypatch.setattr("service.LAUNCHER", installed / "bin/coffer-serve")
    made = []

    def make(uid=UID, **env):
        made.append(Service(binaries=installed / "libexec/coffer", **env))
        made[-1].folder.chmod(0o755)
        for folder in (made[-1].folder, made[-1].log_file.parent):
            os.chown(folder, uid, uid)
        return made[-1]

    yield make
    for service in made:
        service.close()


def status(pid):
    lines = read_proc(pid, "status").decode().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def identities(service, *programs):
    """{program: (uids, capabilities that are not empty, whether it may gain privileges)}"""
    found = {}
    for program in programs:
        for pid in service.pids(program):
            has = status(pid)
            found[program] = (set(map(int, has["Uid"].split())),
                              {has[name] for name in SETS} - {"0" * 16}, has["NoNewPrivs"])
    return found


def owners_below(folder):
    return {path.stat().st_uid for path in (folder, *folder.rglob("*"))}


PROGRAMS = ("lighttpd", "bash", "files_upload", "files_get", "files_list", "files_update",
            "files_delete", "health", "metrics", "access_log")


def test_root_gives_way_to_the_user(open_service):
    service = open_service(COFFER_USER=USER, AUTH_MODE="none").start()
    file = service.create(b"from a user")
    assert service.get(f"/api/files/{file['id']}").content == b"from a user"
    assert service.put("/api/files/pipe/x", data=iter([b"piped"])).status_code == 201
    assert identities(service, *PROGRAMS) == {each: ({UID}, set(), "1") for each in PROGRAMS}
    filters = "2" if Path("/proc/sys/kernel/seccomp/actions_avail").exists() else "0"
    assert {status(pid)["Seccomp"] for program in PROGRAMS[2:] for pid in service.pids(program)} == {filters}
    assert f"runs as user {USER} (uid {UID}), not as root" in service.output()
    started = [line for line in service.log_lines() if line["message"] == "started"]
    assert started and {line["process.user.id"] for line in started} == {UID}
    assert owners_below(service.data_dir) == {UID}
    spool = f" {service.runtime_dir}/spool tmpfs "
    assert spool in read_proc(service.pids("lighttpd")[0], "mounts").decode()
    # Logs can be opened anew, and what root does by hand is the user's too.
    service.log_file.rename(service.log_file.with_name("moved"))
    os.kill(service.process.pid, signal.SIGHUP)
    wait_for(service.log_file.exists, "a new log file")
    service.coffer("gc")
    service.coffer("token", "list")
    service.restart()
    assert service.get(f"/api/files/{file['id']}").content == b"from a user"
    assert owners_below(service.data_dir) == {UID}


@pytest.mark.local("about DATA_DIR")
def test_root_gives_way_to_the_owner_of_data_dir(open_service):
    service = open_service(STRANGER)
    service.data_dir.mkdir()
    os.chown(service.data_dir, STRANGER, STRANGER)
    service.start()
    service.create(b"x")
    assert identities(service, *PROGRAMS) == {each: ({STRANGER}, set(), "1") for each in PROGRAMS}


@pytest.mark.local("about DATA_DIR")
def test_root_stays_root_where_it_must_and_holds_no_capability(open_service):
    service = open_service(0, COFFER_USER="root").start()
    service.create(b"x")
    programs = [each for each in PROGRAMS if each != "bash"]
    assert identities(service, *programs) == {each: ({0}, set(), "1") for each in programs}
    assert "runs as root: COFFER_USER=root" in service.output()


def privileged_port():
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port below 1024 is free")


@pytest.mark.local("about a port")
def test_a_port_below_1024(open_service):
    service = open_service(COFFER_USER=USER, GATEWAY_PORT=privileged_port()).start()
    service.create(b"x")
    found = identities(service, "lighttpd", "health", "files_get", "access_log")
    assert found["lighttpd"] == ({UID}, {PORT_CAPABILITY}, "1")
    for program in ("health", "files_get", "access_log"):
        pid = service.pids(program)[0]
        has = status(pid)
        assert {has[name] for name in SETS if name != "CapBnd"} == {"0" * 16}, (program, has)


# ---- who is chosen ----

def run_as(user, words, folder, **env):
    base = {name: os.environ[name] for name in BASE_ENV if name in os.environ}
    return subprocess.run([str(word) for word in words], cwd=folder, env={**base, **env},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          check=False, user=user, group=user, extra_groups=[])


@pytest.mark.local("about users")
def test_a_new_data_dir_is_for_the_user_coffer(installed, tmp_path):
    """Where that user exists and can go; with a list of users of the test's own."""
    users = tmp_path / "passwd"
    # `make run` has made a user coffer of its own where it ran before.
    others = [line for line in Path("/etc/passwd").read_text().splitlines()
              if not line.startswith("coffer:")]
    users.write_text("\n".join([
        *others, f"coffer:x:{STRANGER}:{STRANGER}::/nonexistent:/usr/sbin/nologin", ""]))
    place = Path(tempfile.mkdtemp(prefix="coffer-"))
    (place / "data").mkdir()
    expected = {0o755: f"'{STRANGER}:{STRANGER}:coffer'", 0o700: "''"}
    try:
        for mode, wanted in expected.items():
            place.chmod(mode)
            for data in (place / "data", place / "new"):
                said = run_as(0, ["unshare", "--mount", "sh", "-c",
                                  'mount --bind "$1" /etc/passwd && shift && exec "$@"', "sh", users,
                                  installed / "bin/coffer", "config", "--shell"], place,
                              DATA_DIR=str(data))
                assert f"export COFFER_RUN_AS={wanted}\n" in said.stdout, said
        assert "user coffer can'\\''t enter the folder of DATA_DIR" in said.stdout
    finally:
        shutil.rmtree(place)


@pytest.mark.local("about users")
def test_a_user_that_is_not_there_or_can_not_get_there(open_service, installed):
    service = open_service(0, COFFER_USER="no-such-user")
    service.expect_unclean = True
    said = run_as(0, [installed / "bin/coffer-serve", "foreground"], service.folder, **service.env)
    assert said.returncode == 1 and "COFFER_USER no-such-user: there is no such user" in said.stderr
    service.folder.chmod(0o700)
    said = run_as(0, [installed / "bin/coffer-serve", "foreground"], service.folder,
                  **{**service.env, "COFFER_USER": USER})
    assert said.returncode == 1 and "can't enter the folder of DATA_DIR" in said.stderr, said
    assert not service.data_dir.exists() and not service.runtime_dir.exists()


# ---- whose DATA_DIR is ----

@pytest.fixture(scope="module")
def owned(installed):
    """DATA_DIR of the user, with a file in it."""
    folder = Path(tempfile.mkdtemp(prefix="coffer-"))
    folder.chmod(0o755)
    env = {"DATA_DIR": str(folder / "data"), "GATEWAY_PORT": str(free_port()),
           "RUNTIME_DIR": str(folder / "run"), "COFFER_USER": USER}
    assert run_as(0, [installed / "bin/coffer", "init"], folder, **env).returncode == 0
    (folder / "data/objects/00/object").write_text("x")
    os.chown(folder / "data/objects/00/object", UID, UID)
    (folder / ".data.coffer").write_text("in use")
    (folder / "run").mkdir(mode=0o700)
    os.chown(folder / "run", UID, UID)
    yield folder, env
    shutil.rmtree(folder)


@pytest.mark.local("about DATA_DIR")
@pytest.mark.parametrize("caller", [0, UID])
@pytest.mark.parametrize("path", ["", "/db", "/db/coffer.sqlite", "/log", "/objects",
                                  "/objects/00/object"])
def test_a_wrong_owner_is_told_with_the_remedy(owned, installed, path, caller):
    folder, env = owned
    wrong = Path(env["DATA_DIR"] + path)
    mode = wrong.stat().st_mode & 0o7777
    os.chown(wrong, 0, 0)
    commands = [["coffer", "init"], ["coffer-serve", "foreground"], ["coffer-serve", "start"]]
    if path != "/objects/00/object":
        commands += [["coffer", "token", "list"], ["coffer", "fsck"]]
    elif caller != 0:
        commands = []  # looking at every object is for root, who may have left it
    if caller != 0:
        env = {name: value for name, value in env.items() if name != "COFFER_USER"}
    for name, *words in commands:
        said = run_as(caller, [installed / "bin" / name, *words], folder, **env)
        last = said.stderr.splitlines()[-1]
        assert said.returncode == 1 and "ready" not in said.stderr, said
        assert f"belongs to root (mode {mode:04o})" in last, said
        assert f"the user here is {USER} (uid {UID})" in last, said
        assert f"run `chown -R {USER} {env['DATA_DIR']}`" in last, said
    subprocess.run(shlex.split(f"chown -R {USER} {env['DATA_DIR']}"), check=True)
    again = run_as(caller, [installed / "bin/coffer", "init"], folder, **env)
    assert again.returncode == 0, again


@pytest.mark.local("about DATA_DIR")
def test_a_folder_above_that_can_not_be_entered(owned, installed):
    folder, env = owned
    folder.chmod(0o700)
    try:
        said = run_as(UID, [installed / "bin/coffer", "fsck"], "/", DATA_DIR=env["DATA_DIR"])
        assert said.returncode == 1 and "a folder above it can't be entered by nobody" in said.stderr
    finally:
        folder.chmod(0o755)


@pytest.mark.local("about DATA_DIR")
def test_init_as_root_for_root_says_so(installed):
    folder = Path(tempfile.mkdtemp(prefix="coffer-"))
    try:
        for _ in range(2):
            said = run_as(0, [installed / "bin/coffer", "init"], folder, COFFER_USER="root")
            assert said.returncode == 0
            assert "as root, for a service that runs as root: COFFER_USER=root" in said.stderr
    finally:
        shutil.rmtree(folder)
