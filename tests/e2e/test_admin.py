"""The admin command `coffer`, beside a running service."""

import os
import re

import pytest

from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import TEXT, random_bytes, unique
from service import wait_for

COMMANDS = ["init", "config", "token", "gc", "fsck"]


def refused(result, code=None):
    """It failed with one clear line for people and nothing on standard output."""
    assert result.returncode != 0
    assert code is None or result.returncode == code, result
    first = result.stderr.splitlines()[0]
    assert first.startswith("coffer"), result.stderr
    assert len(result.stderr.splitlines()) <= 2 and not result.stdout, result


# ---- calling it ----


@pytest.mark.local("about the command line, whatever the stores")
def test_help_everywhere(service):
    top = service.coffer("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\b", top, re.M)
        for flag in ("--help", "-h"):
            said = service.coffer(command, flag)
            assert said.stdout.startswith(f"usage: coffer {command}") and not said.stderr
    assert service.coffer("help").stdout == top
    assert "coffer" in service.coffer("--version").stdout


@pytest.mark.local("about the command line, whatever the stores")
@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"], ["init", "extra"], ["gc", "extra"], ["fsck", "--unknown"], ["fsck", "x"],
        ["config", "--unknown"], ["config", "x"], ["gc", "--grace", "soon"], ["gc", "--grace"],
        ["gc", "--grace", "-1"], ["token"], ["token", "nonsense"], ["token", "revoke"],
        ["token", "create"], ["token", "create", "--owner", "a"],
        ["token", "create", "--owner", "a", "--scope", "root", "--expires", "1d"],
        ["token", "create", "--owner", "a", "--scope", "", "--expires", "1d"],
        ["token", "create", "--owner", "a b", "--scope", "read", "--expires", "1d"],
        ["token", "create", "--owner", "", "--scope", "read", "--expires", "1d"],
        ["token", "create", "--owner", "a" * 129, "--scope", "read", "--expires", "1d"],
        ["token", "create", "--owner", "a", "--scope", "read", "--expires", "1"],
        ["token", "create", "--owner", "a", "--scope", "read", "--expires", "0d"],
        ["token", "create", "--owner", "a", "--scope", "read", "--expires", "-1d"],
        ["token", "create", "--owner", "a", "--owner", "b", "--scope", "read", "--expires", "1d"],
    ],
)
def test_wrong_calls(service, args):
    refused(service.coffer(*args, check=False), 2)


@pytest.mark.local("about the command line, whatever the stores")
def test_no_command_at_all(service):
    result = service.coffer(check=False)
    assert result.returncode == 2 and "usage" in result.stderr and not result.stdout


@pytest.mark.local("about the command line, whatever the stores")
@pytest.mark.parametrize(
    "env", [{"GATEWAY_PORT": "x"}, {"MAX_FILE_SIZE": "-1"}, {"DURABILITY": "perhaps"},
            {"AUTH_MODE": "magic"}, {"STORAGE_DRIVER": "tape"}, {"SQLITE_READERS": "0"}]
)
@pytest.mark.parametrize("command", ["config", "fsck", "gc", "init"])
def test_bad_settings_are_named(service, env, command):
    result = service.coffer(command, check=False, **env)
    refused(result, 1)
    assert next(iter(env)) in result.stderr


@pytest.mark.local("about DATA_DIR")
def test_unusable_data_dir(service, tmp_path):
    for command in (["fsck"], ["gc"], ["token", "list"]):
        said = service.coffer(*command, check=False, DATA_DIR=str(tmp_path / "none"))
        refused(said, 1)
        assert f"DATA_DIR {tmp_path}/none is not there: set DATA_DIR" in said.stderr
        assert not (tmp_path / "none").exists()


@pytest.mark.backends("s3+mongodb")
@pytest.mark.parametrize("command", [["fsck"], ["gc"], ["token", "list"]])
def test_a_misspelt_database_is_refused(service, command):
    """To `gc`, every object of the bucket would be one that no file knows."""
    before = service.objects()
    said = service.coffer(*command, check=False, MONGODB_DATABASE="mistyped")
    refused(said, 1)
    first, second = said.stderr.splitlines()
    assert f"bucket {service.stores.objects.bucket} at " in first
    assert "database mistyped at " in first and "://" not in first.split("database")[1]
    assert "set MONGODB_DATABASE" in second
    assert service.objects() == before
    assert "mistyped" not in service.stores.database.database.client.list_database_names()


# ---- init ----


@pytest.mark.local("about the folders of DATA_DIR; test_s3_objects has the bucket's")
def test_init_makes_and_keeps(service, tmp_path):
    data = tmp_path / "data"
    first = service.coffer("init", DATA_DIR=str(data))
    assert "ready" in first.stderr
    assert oct(data.stat().st_mode)[-3:] in ("700", "750")
    before = {path: path.stat().st_ino for path in data.rglob("*") if ".sqlite" not in path.name}
    second = service.coffer("init", DATA_DIR=str(data))
    assert not second.stdout
    lines = second.stderr.splitlines()
    assert lines[0] == f"coffer: works on DATA_DIR {data}"
    assert len(lines) == (2 if os.geteuid() == 0 else 1) and "ready" not in second.stderr
    assert all("as root, for a service that runs as root" in line for line in lines[1:])
    after = {path: path.stat().st_ino for path in data.rglob("*") if ".sqlite" not in path.name}
    assert before == after


@pytest.mark.local("about the folders of DATA_DIR")
def test_init_refuses_what_is_something_else(service, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    refused(service.coffer("init", check=False, DATA_DIR=str(foreign)), 1)
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("x")
    refused(service.coffer("init", check=False, DATA_DIR=str(tmp_path / "file")), 1)


# ---- config ----


def test_config_prints_effective_settings(service):
    values = dict(line.split("=", 1) for line in service.coffer("config").stdout.splitlines())
    assert values["GATEWAY_PORT"] == str(service.port)
    assert values["DATA_DIR"] == str(service.data_dir)
    assert values["MAX_FILE_SIZE"] == "52428800"
    assert values["AUTH_MODE"] == "none" and values["DURABILITY"] == "full"
    assert not service.coffer("config", "--check").stdout
    example = service.coffer("config", "--env-example").stdout
    table = service.coffer("config", "--markdown").stdout
    for name in values:
        assert re.search(rf"^#?\s*{name}=", example, re.M), name
        assert f"`{name}`" in table or f"| {name} |" in table, name


def test_no_secret_is_printed(token_service):
    token = token_service.token(unique("secret"))
    secret = token.split("_", 2)[2]
    for command in (["config"], ["config", "--shell"], ["token", "list"], ["fsck"], ["gc"]):
        said = token_service.coffer(*command)
        assert secret not in said.stdout + said.stderr
    token_service.get("/api/files", token=token)
    assert secret not in token_service.log_file.read_text()
    for path in token_service.data_dir.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()


# ---- tokens ----


def test_token_create_list_revoke(token_service):
    owner = unique("owner")
    made = token_service.coffer(
        "token", "create", "--owner", owner, "--scope", "read,write", "--expires", "90d"
    )
    token = made.stdout.splitlines()[-1]
    assert made.stdout == token + "\n" and " " not in token
    assert token_service.get("/api/files", token=token).status_code == 200
    assert token_service.create(TEXT, token=token)["owner"] == owner

    def row():
        lines = token_service.coffer("token", "list").stdout.splitlines()
        return next(row for line in lines if (row := line.split("\t"))[1] == owner)

    token_id = row()[0]
    assert token_id in token and row()[-1] == "in force"
    assert token not in token_service.coffer("token", "list").stdout
    token_service.coffer("token", "revoke", token_id)
    check_problem(token_service.get("/api/files", token=token), 401, "unauthorized")
    check_problem(token_service.upload(TEXT, token=token), 401, "unauthorized")
    assert row()[-1] == "revoked"
    token_service.coffer("token", "revoke", token_id)
    assert token_service.coffer("token", "list").stdout.count(owner) == 1


def test_revoking_one_token_leaves_the_owners_other(token_service):
    owner = unique("two")
    first, second = (token_service.token(owner) for _ in range(2))
    file = token_service.create(TEXT, token=first)
    token_service.coffer("token", "revoke", first.split("_")[1])
    assert token_service.get(f"/api/files/{file['id']}", token=second).content == TEXT


def test_revoking_an_unknown_token(token_service):
    for token_id in ("abcdefghijkl", "x", "' OR 1=1"):
        refused(token_service.coffer("token", "revoke", token_id, check=False), 1)


def test_token_expiry_units(token_service):
    for expires in ("1s", "5m", "12h", "90d", "never"):
        token = token_service.token(unique("units"), "read", expires)
        assert token_service.get("/api/files", token=token).status_code in (
            (200, 401) if expires == "1s" else (200,)
        )


# ---- fsck and gc ----


@pytest.fixture
def damaged(start_service):
    """A service of its own that may be damaged."""
    service = start_service(SWEEP_INTERVAL_SECONDS="0")
    service.expect_5xx = service.expect_damage = True
    return service


def findings(service, *args):
    """{(kind, id)} and the exit code."""
    result = service.coffer("fsck", *args, check=False)
    rows = [line.split("\t") for line in result.stdout.splitlines() if "\t" in line]
    return {(row[0], row[1]) for row in rows}, result.returncode


def test_fsck_of_a_whole_store(damaged):
    for size in (0, 1, 100_000):
        damaged.create(random_bytes(size))
    assert findings(damaged) == (set(), 0)
    assert "checked 3 files, 100001 bytes: 0 findings" in damaged.coffer("fsck").stdout


@pytest.mark.parametrize("kind", ["hash", "size", "missing"])
def test_fsck_finds_quarantines_and_releases(damaged, kind):
    content, other = random_bytes(50_000), random_bytes(40_000)
    file, whole = damaged.create(content), damaged.create(other)
    path, stored = f"/api/files/{file['id']}", damaged.object_of(content)
    objects = damaged.stores.objects
    if kind == "hash":
        objects.write(stored, content[:-1] + bytes([content[-1] ^ 1]))
    elif kind == "size":
        objects.write(stored, content[:-1])
    else:
        objects.remove(stored)
    assert findings(damaged) == ({(kind, file["id"])}, 1)
    if kind != "hash" or damaged.backend.storage != "fs":
        # A store's fault is told as one.
        expected = ((500, "internal") if damaged.backend.storage == "fs" else
                    (503, "storage_unavailable") if kind == "missing" else (502, "storage_error"))
        check_problem(damaged.get(path), *expected)
        check_problem(damaged.get(path, headers={"Range": "bytes=0-1"}), *expected)
    assert damaged.get(path + "/meta").json()["status"] == "ready", "fsck alone changed a row"

    assert findings(damaged, "--repair") == ({(kind, file["id"])}, 1)
    for target in (path, path + "/download", path + "?inline=1"):
        check_problem(damaged.get(target), 500, "internal")
    assert damaged.head(path).status_code == 500
    assert damaged.get(path + "/meta").json()["status"] == "damaged"
    assert damaged.get(f"/api/files/{whole['id']}").content == other
    assert findings(damaged) == ({("quarantined", file["id"])}, 1)

    objects.write(stored, content)
    damaged.coffer("fsck", "--repair", check=False)
    assert findings(damaged) == (set(), 0)
    assert damaged.get(path).content == content
    assert damaged.get(path + "/meta").json()["status"] == "ready"
    damaged.expect_damage = False


def test_damaged_files_can_be_deleted(damaged):
    content = random_bytes(1000)
    file = damaged.create(content)
    damaged.stores.objects.remove(damaged.object_of(content))
    damaged.coffer("fsck", "--repair", check=False)
    assert damaged.delete(f"/api/files/{file['id']}").status_code == 200
    check_problem(damaged.get(f"/api/files/{file['id']}"), 404, "not_found")
    assert findings(damaged) == (set(), 0)
    damaged.expect_damage = False


def test_orphans_are_found_and_swept_but_nothing_else(damaged):
    content = random_bytes(3000)
    file = damaged.create(content)
    objects, stored = damaged.stores.objects, damaged.object_of(content)
    orphan = objects.beside(stored)
    objects.write(orphan, b"nobody knows me")
    found, code = findings(damaged)
    assert [kind for kind, _ in found] == ["orphan"] and code == 0
    assert "1 orphans" in damaged.coffer("fsck").stdout
    assert "orphans 0" in damaged.coffer("gc", "--grace", "3600").stdout
    assert orphan in damaged.objects()
    assert "orphans 1" in damaged.coffer("gc", "--grace", "0").stdout
    assert set(damaged.objects()) == {stored}
    assert "orphans 0" in damaged.coffer("gc", "--grace", "0").stdout
    assert damaged.get(f"/api/files/{file['id']}").content == content
    damaged.expect_damage = False


def test_gc_takes_expired_files_and_leaves_uploads_in_progress(damaged):
    content = random_bytes(5000)
    expired = damaged.create(content, expiresIn="1")
    stored = damaged.object_of(content)
    path = f"/api/files/{expired['id']}"
    wait_for(lambda: damaged.get(path).status_code == 404, "expired", 5)
    request = raw_request("PUT", "/api/files/upload/slow.bin", [], b"s" * 600_000)
    with RawConnection(damaged) as connection:
        connection.send(request[:-10])
        damaged.wait_in_flight()
        swept = damaged.coffer("gc", "--grace", "0").stdout
        assert "expired 1" in swept
        assert stored not in damaged.objects()
        connection.send(request[-10:])
        answer = connection.read("PUT")
    assert answer.status == 201
    assert damaged.get("/api/files").json()["total"] == 1
    assert findings(damaged) == (set(), 0)
    damaged.expect_damage = False
