"""Settings from a file: `coffer` and coffer-serve read the same one, and say what is wrong in it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import requests

from service import BASE_ENV, LAUNCHER, REPOSITORY, free_port

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
    """A service all of whose settings are in .env of its folder, in the background."""
    folder = place / "started"
    folder.mkdir()
    port = free_port()
    write(folder / ".env", GATEWAY_PORT=port, DATA_DIR="files", RUNTIME_DIR=place / "run",
          AUTH_MODE="token")
    said = run(folder, LAUNCHER, "start")
    assert said.returncode == 0, said
    yield folder, f"http://127.0.0.1:{port}"
    assert run(folder, LAUNCHER, "stop").returncode == 0


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
                GATEWAY_HOST="127.255.255.254", LOG_FILE=str(folder))
    assert began.returncode == 1 and began.stderr.count(warning) == 1, began


def test_an_env_file_that_is_not_there_is_an_error(place):
    for script in SCRIPTS.values():
        said = run(place, *script, "--env-file", "missing", "check" if script == [LAUNCHER]
                   else "config")
        assert said.returncode == 1 and "missing can't be read" in said.stderr, said
        misused = run(place, *script, "config", "--env-file")
        assert misused.returncode == 2, misused
