"""F29: what is wrong with the configuration or the stored data is said in one clear line at the
start, and nothing runs."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import tempfile

import pytest

from service import Service, wait_for

pytestmark = pytest.mark.local("about the start, whatever the stores")

PROGRAMS = ("files_upload", "files_get", "files_list", "files_delete", "files_update", "health",
            "metrics")


def refused(service, seconds=15):
    """Starts what must not start; what it said."""
    service.expect_unclean = True
    try:
        service.launch()
        wait_for(lambda: service.process.poll() is not None, "the service refuses to start",
                 seconds)
        assert service.process.returncode > 0, service.process.returncode
        wait_for(lambda: not service.all_pids(), "nothing is left running", 5)
        return service.output().strip()
    finally:
        service.kill_all()


def one_line(text):
    assert text and len(text.splitlines()) == 1, f"not one line:\n{text}"
    return text


@pytest.fixture
def unstarted():
    """A factory for services that are launched by the test."""
    made = []

    def make(**env):
        made.append(Service(**env))
        made[-1].expect_unclean = True
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def stored(unstarted):
    """A service that ran once and holds one file; stopped."""
    service = unstarted()
    service.start()
    service.create(b"stored")
    service.stop()
    service.output_file.unlink()
    return service


BAD_SETTINGS = [
    ("MAX_FILE_SIZE", "abc"), ("MAX_FILE_SIZE", "-1"), ("MAX_FILE_SIZE", "5x"),
    ("MAX_FILE_SIZE", "99999999999999999999"), ("MAX_FILE_SIZE", "0"),
    ("GATEWAY_PORT", "99999"), ("GATEWAY_PORT", "http"), ("AUTH_MODE", "nobody"),
    ("AUTH_MODE", "TOKEN "), ("DURABILITY", "maybe"), ("STORAGE_DRIVER", "tape"),
    ("METADATA_DRIVER", "paper"), ("LOG_LEVEL", "loud"), ("WORKERS", "0"), ("WORKERS", "-3"),
    ("UPLOAD_WORKERS", "1e9"), ("BODY_IDLE_SECONDS", ""), ("BODY_IDLE_SECONDS", "-1"),
    ("MIN_FREE_BYTES", "lots"), ("SPOOL_MAX_BYTES", "1 M"), ("ALLOW_ANONYMOUS", "yes please"),
    ("METRICS_ALLOW", "10.0.0.0/99"), ("METRICS_ALLOW", "example.org"), ("METRICS", "2"),
    ("METRICS_DURATION_BUCKETS", "1,0.5"), ("METRICS_DURATION_BUCKETS", "0"),
    ("SQLITE_BUSY_TIMEOUT_MS", "soon"), ("STOP_GRACE_SECONDS", "0x10"), ("DATA_DIR", ""),
    ("DATA_DIR", "x" * 2000),
]


@pytest.mark.parametrize("name, value", BAD_SETTINGS)
def test_f29_bad_setting(unstarted, name, value):
    service = unstarted(**({name: value} if name != "GATEWAY_PORT" else {}))
    if name == "GATEWAY_PORT":
        service.port = value
    if name == "BODY_IDLE_SECONDS" and value == "":
        # An empty value is the default, as in .env files.
        service.expect_unclean = False
        service.start()
        return
    if name == "DATA_DIR":
        service.data_dir = value
        if value == "":
            service.start()
            local = service.backend.storage == "fs"
            assert not local or (service.folder / "data").is_dir(), "an empty value is the default"
            return
    text = one_line(refused(service))
    assert name in text, text


@pytest.mark.parametrize("program", PROGRAMS)
def test_f29_programs_refuse_by_themselves(unstarted, program):
    """Started by another web server, without coffer-serve: the same line, the same end."""
    service = unstarted(WORKERS="many")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(folder + "/socket")
        listener.listen()
        done = subprocess.run([str(service.binaries / program)], env=service.env, stdin=listener,
                              capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "WORKERS" in one_line(done.stderr.strip())


def test_f29_log_file_that_cannot_be_opened(unstarted, tmp_path):
    for path in (tmp_path / "missing" / "log", tmp_path):
        text = refused(unstarted(LOG_FILE=path))
        # At a first start, stores were made before; it says so, a line for each.
        assert "LOG_FILE" in text.splitlines()[-1] and len(text.splitlines()) <= 3, text


@pytest.mark.local("about DATA_DIR")
def test_f29_data_dir_that_cannot_be_made(unstarted, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    for path in (file, file / "data"):
        text = one_line(refused(unstarted(DATA_DIR=path)))
        assert "DATA_DIR" in text or str(path) in text


@pytest.mark.local("about DATA_DIR")
def test_f29_data_dir_that_holds_something_else(unstarted, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "holiday.jpg").write_bytes(b"not ours")
    one_line(refused(unstarted(DATA_DIR=tmp_path / "data")))
    assert os.listdir(tmp_path / "data") == ["holiday.jpg"]


def database(service):
    found = [path for path in service.data_dir.rglob("*")
             if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3"]
    assert len(found) == 1, found
    return found[0]


def change_database(service, *statements):
    with sqlite3.connect(database(service)) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def schema_version(service):
    connection = sqlite3.connect(database(service))
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return version


@pytest.mark.local("about the database file")
def test_f29_newer_schema(stored):
    change_database(stored, f"PRAGMA user_version = {schema_version(stored) + 1}")
    before = database(stored).read_bytes()
    assert re.search(r"newer|version|schema", one_line(refused(stored)))
    assert database(stored).read_bytes() == before, "a newer database was touched"


@pytest.mark.local("about the database file")
def test_f29_version_without_its_schema(stored):
    """Older than anything that ever was: migrated to a whole schema, or refused; never half."""
    change_database(stored, "PRAGMA user_version = 0")
    assert re.search(r"schema|database|version", one_line(refused(stored)))


@pytest.mark.local("about the database file")
@pytest.mark.parametrize("content", [b"this is no database at all" * 400, b"SQLite format 3\0" +
                                     bytes(4096)])
def test_f29_garbage_database(stored, content):
    path = database(stored)
    for extra in path.parent.glob(path.name + "-*"):
        extra.unlink()
    path.write_bytes(content)
    assert re.search(r"database", one_line(refused(stored)))
    assert path.read_bytes() == content, "garbage was overwritten"


@pytest.mark.local("about the database file")
def test_f29_foreign_database(stored):
    path = database(stored)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    one_line(refused(stored))


@pytest.mark.local("about the database file")
def test_f29_missing_database_beside_objects(stored):
    """Bytes without their metadata are no first start: everything would be an orphan to sweep."""
    path = database(stored)
    for extra in path.parent.glob(path.name + "*"):
        extra.unlink()
    one_line(refused(stored))
    assert len(stored.objects()) == 1, "the bytes are gone"


@pytest.mark.local("about the database file")
@pytest.mark.parametrize("change", ["empty", "short", "gone"])
def test_f29_secret_problems(stored, change):
    """The secret that signs cursors: without it, or with too little of it, nothing starts."""
    statement = {"empty": "UPDATE settings SET value = x'' WHERE name = 'secret'",
                 "short": "UPDATE settings SET value = x'0102' WHERE name = 'secret'",
                 "gone": "DELETE FROM settings WHERE name = 'secret'"}[change]
    change_database(stored, statement)
    one_line(refused(stored))


def test_f29_port_taken(stored, service):
    stored.port = service.port
    text = refused(stored)
    assert str(service.port) in text, text


def test_f29_second_service_on_one_runtime_dir(unstarted, start_service):
    """Two services over one folder of sockets would answer for each other."""
    running = start_service()
    made = running.create(b"mine")
    second = unstarted(RUNTIME_DIR=running.runtime_dir, DATA_DIR=running.data_dir)
    second.launch()
    wait_for(lambda: second.process.poll() is not None, "the second refuses to start", 15)
    assert second.process.returncode > 0 and second.output().strip()
    assert running.get(f"/api/files/{made['id']}").content == b"mine"


@pytest.mark.smoke
def test_f29_config_check_tells_the_same(unstarted):
    good = unstarted()
    assert good.coffer("config", "--check").returncode == 0
    for name, value in (("MAX_FILE_SIZE", "abc"), ("AUTH_MODE", "nobody")):
        bad = good.coffer("config", "--check", check=False, **{name: value})
        assert bad.returncode != 0
        assert name in one_line(bad.stderr.strip())


@pytest.mark.local("about the database file")
def test_f29_a_failed_start_leaves_a_log_line_or_none(stored):
    """Whatever was written to the log before the refusal is whole."""
    change_database(stored, f"PRAGMA user_version = {schema_version(stored) + 1}")
    refused(stored)
    assert all(json.dumps(line) for line in stored.log_lines())
