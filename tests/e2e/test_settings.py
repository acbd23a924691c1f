"""Settings from a file: `coffer` and coffer-serve read the same one, and say what is wrong in it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import requests

from service import BASE_ENV, LAUNCHER, REPOSITORY, free_port, wait_for

pytestmark = pytest.mark.local("about files of settings; fs+sqlite needs none besides")

BINARIES = Path(os.environ.get("COFFER_BIN", REPOSITORY / "build/release/bin")).resolve()
COFFER = BINARIES / "coffer"
SCRIPTS = {"coffer": [COFFER], "coffer-serve": [LAUNCHER]}


@pytest.fixture(scope="module")
def place():
    """A folder with nothing but what a test puts there; short, for sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="coffer-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(folder, *words, **env):
    """A command in a folder whose environment names no setting but these."""
    base = {name: os.environ[name] for name in BASE_ENV if name in os.environ}
    return subprocess.run([str(word) for word in words], cwd=folder, stdin=subprocess.DEVNULL,
                          env={**base, "COFFER_BIN": str(BINARIES), **env},
                          capture_output=True, text=True, timeout=60, check=False)


def write(path, **settings):
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@pytest.fixture(scope="module")
def started(place):
    """A service all of whose settings are in .env of its folder, in the background: started in a
    login session whose folder is not that of the tests."""
    folder = place / "started"
    session = place / "session"
    for each in (folder, session):
        each.mkdir()
    port = free_port()
    write(folder / ".env", GATEWAY_PORT=port, DATA_DIR=folder / "files", AUTH_MODE="token")
    said = run(folder, LAUNCHER, "start", XDG_RUNTIME_DIR=str(session))
    assert said.returncode == 0, said
    session.rmdir()  # nothing was put there
    runtime_dir = settings(folder)["RUNTIME_DIR"]
    yield folder, f"http://127.0.0.1:{port}"
    stopped = run(folder, LAUNCHER, "stop")
    shutil.rmtree(runtime_dir)
    assert stopped.returncode == 0, stopped


def settings(folder):
    return dict(line.split("=", 1) for line in run(folder, COFFER, "config").stdout.splitlines())


def test_the_admin_command_reads_the_services_file(started):
    folder, url = started
    made = run(folder, COFFER, "token", "create", "--owner", "a", "--scope", "write",
               "--expires", "1h")
    assert made.returncode == 0 and f"DATA_DIR {folder}/files" in made.stderr, made
    answer = requests.put(url + "/api/files/upload/x", data=b"x", timeout=20,
                          headers={"Authorization": "Bearer " + made.stdout.strip()})
    assert answer.status_code == 201, answer.text
    checked = run(folder, COFFER, "fsck")
    assert "checked 1 files" in checked.stdout, checked
    assert sorted(path.name for path in folder.iterdir()) == [".env", ".files.coffer", "files"]


def test_another_file_for_both(started, place):
    folder, _ = started
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    for words in ([COFFER, "--env-file", folder / ".env", "config"],
                  [COFFER, "config", f"--env-file={folder / '.env'}"]):
        assert "\nAUTH_MODE=token\n" in run(elsewhere, *words).stdout
    assert "\nAUTH_MODE=token\n" in run(elsewhere, COFFER, "config",
                                        COFFER_ENV_FILE=str(folder / ".env")).stdout
    status = run(elsewhere, LAUNCHER, "--env-file", folder / ".env", "status")
    assert status.returncode == 0 and "running at" in status.stdout, status
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("command", [["gc"], ["fsck"], ["token", "list"]])
def test_a_database_that_is_not_there_is_not_made(place, command):
    folder = place / "nothing"
    folder.mkdir(exist_ok=True)
    said = run(folder, COFFER, *command)
    assert said.returncode == 1 and not said.stdout
    assert f"DATA_DIR {folder}/data is not there: set DATA_DIR" in said.stderr
    (folder / "data" / "db").mkdir(parents=True)
    said = run(folder, COFFER, *command)
    assert said.returncode == 1 and not said.stdout
    assert f"there is no database {folder}/data/db/coffer.sqlite: set DATA_DIR" in said.stderr
    assert not list((folder / "data" / "db").iterdir())
    shutil.rmtree(folder / "data")


# ---- a service that is looked for ----

def is_up(url):
    try:
        return requests.get(url + "/ready", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def test_a_runtime_dir_that_vanishes_is_made_anew(started):
    folder, url = started
    runtime_dir = Path(settings(folder)["RUNTIME_DIR"])
    assert runtime_dir.parent == Path("/tmp") and (runtime_dir / "ready").exists()
    for what in (runtime_dir, runtime_dir / "sockets"):
        shutil.rmtree(what)
        wait_for(lambda: is_up(url) and (runtime_dir / "ready").exists(), f"{what} is there again",
                 40)
        status = run(folder, LAUNCHER, "status")
        assert status.returncode == 0 and "running at" in status.stdout, status


def test_reopen_opens_the_logs_anew(started):
    folder, url = started
    log = folder / "files/log/coffer.ndjson"
    wait_for(log.exists, "a log")
    log.rename(log.with_name("moved"))
    assert run(folder, LAUNCHER, "reopen").returncode == 0

    def is_written():
        return is_up(url) and log.exists() and "/ready" in log.read_text()

    wait_for(is_written, "the log is written again", 20)


@pytest.mark.parametrize("command", ["stop", "reopen", "status"])
def test_nothing_is_found_where_nothing_runs(place, command):
    said = run(place, LAUNCHER, command, GATEWAY_PORT=str(free_port()))
    assert said.returncode == 3 and "not running" in said.stdout + said.stderr, said


def test_the_version(place):
    said = run(place, LAUNCHER, "--version")
    assert said.stdout == f"coffer-serve {(REPOSITORY / 'VERSION').read_text().strip()}\n"


def test_check_while_it_runs(started):
    folder, _ = started
    said = run(folder, LAUNCHER, "check")
    assert said.returncode == 0 and not said.stderr and "in order" in said.stdout, said


def test_check_before_the_first_start(place):
    folder = place / "first"
    folder.mkdir()
    said = run(folder, LAUNCHER, "check", GATEWAY_PORT=str(free_port()))
    assert said.returncode == 0 and not said.stderr, said
    assert not list(folder.iterdir()), "something was made"


def taken_port(started, place):
    _, url = started
    return {"GATEWAY_PORT": url.rsplit(":", 1)[1], "DATA_DIR": str(place / "first")}


TRIED = {
    "is already in use": taken_port,
    "is no address of this machine": lambda _, place: {
        "GATEWAY_HOST": "192.0.2.1", "AUTH_MODE": "token", "DATA_DIR": str(place / "data")},
    "LOG_FILE": lambda _, place: {"LOG_FILE": str(place)},
    "LOG_FILE: ": lambda _, place: {"LOG_FILE": str(place / "none/log")},
    "DATA_DIR: ": lambda _, place: {"DATA_DIR": str(place / "none/data")},
    "neither empty nor a data folder": lambda started, _: {"DATA_DIR": str(started[0])},
    "is no folder": lambda started, _: {"DATA_DIR": str(started[0] / ".env")},
}


@pytest.mark.parametrize("message", TRIED)
def test_check_tries_what_a_start_needs(started, place, message):
    folder = place / "tried"
    folder.mkdir(exist_ok=True)
    env = {"GATEWAY_PORT": str(free_port()), **TRIED[message](started, place)}
    said = run(folder, LAUNCHER, "check", **env)
    assert said.returncode == 1 and not said.stdout, said
    assert len(said.stderr.splitlines()) == 1 and message in said.stderr, said
    assert not list(folder.iterdir())


# ---- wrong settings ----

WRONG = {
    "AUTHMODE=token\n": "line 1: there is no setting AUTHMODE; did you mean AUTH_MODE?",
    "LOG_LEVEL=info\nLOG_LEVEL=debug\n": "line 2: LOG_LEVEL is set a second time",
    "LOG_LEVEL\n": "line 1: not of the form NAME=value",
    "S3_SECRET_KEY=x\nS3_SECRET_KEY_FILE=/y\n": "S3_SECRET_KEY is set and S3_SECRET_KEY_FILE",
}


@pytest.mark.parametrize("script, words", [("coffer", ["config", "--check"]),
                                           ("coffer", ["token", "list"]), ("coffer", ["init"]),
                                           ("coffer-serve", ["check"]),
                                           ("coffer-serve", ["foreground"])])
@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_line_is_an_error(place, script, words, text):
    folder = place / "wrong"
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(text)
    said = run(folder, *SCRIPTS[script], *words)
    assert said.returncode == 1 and not said.stdout, said
    assert len(said.stderr.splitlines()) == 1 and WRONG[text] in said.stderr, said
    assert [path.name for path in folder.iterdir()] == [".env"]


def test_a_name_near_a_settings_in_the_environment_is_a_warning(place):
    folder = place / "near"
    folder.mkdir()
    warning = "warning: AUTHMODE in the environment is not a setting; did you mean AUTH_MODE?"
    for words in ([COFFER, "config", "--check"], [LAUNCHER, "check"]):
        said = run(folder, *words, AUTHMODE="token", GATEWAY_PORT=str(free_port()))
        assert said.returncode == 0 and warning in said.stderr, said
    began = run(folder, LAUNCHER, "start", AUTHMODE="token", GATEWAY_PORT="1",
                RUNTIME_DIR=str(folder / "run"), LOG_FILE=str(folder))
    assert began.returncode == 1 and began.stderr.count(warning) == 1, began


def test_an_env_file_that_is_not_there_is_an_error(place):
    for script in SCRIPTS.values():
        said = run(place, *script, "--env-file", "missing", "check" if script == [LAUNCHER]
                   else "config")
        assert said.returncode == 1 and "missing can't be read" in said.stderr, said
        misused = run(place, *script, "config", "--env-file")
        assert misused.returncode == 2, misused
