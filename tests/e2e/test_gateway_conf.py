"""What coffer-serve takes and refuses in its roles, and that secrets stay in their files."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nodes import Gateway, Launched, NodeSet, StandIn, quiet_port
from service import LAUNCHER, Service, read_proc, wait_for

SECRET = "hunter2hunter2"


def run(service, *words, timeout=60, **env):
    """coffer-serve to its end, in a service's environment and folder."""
    return subprocess.run([str(LAUNCHER), *words], env={**service.env, **env}, cwd=service.folder,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False)


@pytest.fixture
def unstarted():
    service = Launched()
    service.expect_unclean = True
    yield service
    service.close()


# ---- the call ----

def test_help_names_every_role_and_command(unstarted):
    said = run(unstarted, "--help")
    assert said.returncode == 0
    for word in ("node", "gateway", "nodes [N]", "foreground", "start", "stop", "restart",
                 "status", "check"):
        assert f"\n  {word} " in said.stdout, word


@pytest.mark.parametrize("words", [("nodes", "0"), ("nodes", "65"), ("gateway", "3"), ("node", "x"),
                                   ("gateways",), ("start", "gateway"), ("gateway", "start", "x"),
                                   ("nodes", "3", "3")])
def test_words_that_are_refused(unstarted, words):
    said = run(unstarted, *words)
    assert said.returncode == 2 and said.stderr.startswith("coffer-serve: "), said
    assert len(said.stderr.splitlines()) == 1 and not said.stdout
    assert not unstarted.runtime_dir.exists()


@pytest.mark.parametrize("words", [(), ("gateway",), ("node",), ("nodes",), ("nodes", "5")])
def test_check_takes_each_roles_configuration(unstarted, words):
    said = run(unstarted, *words, "check", NODE_MODE="single", TRUSTED_PROXIES="10.0.0.1, fd00::/8",
               GATEWAY_NODES="10.0.0.1, localhost:3848")
    assert said.returncode == 0, said
    assert said.stdout.startswith("settings, DATA_DIR, LOG_FILE, port ")
    assert said.stdout.endswith(", lighttpd and its configuration are in order\n")
    assert not said.stderr


@pytest.mark.parametrize("words", [(), ("gateway",), ("nodes",)])
def test_check_wants_a_spool_that_holds_a_file(unstarted, words):
    limits = {"MAX_FILE_SIZE": "2G", "NODE_MODE": "single"}
    said = run(unstarted, *words, "check", **limits)
    assert said.returncode == 1, said
    assert "MAX_FILE_SIZE" in said.stderr and "SPOOL_MAX_BYTES" in said.stderr
    assert run(unstarted, *words, "check", SPOOL_MAX_BYTES="2G", **limits).returncode == 0


@pytest.mark.parametrize("words", [("node",), ("nodes", "2")])
@pytest.mark.parametrize("name, value, wanted", [
    ("STORAGE_DRIVER", "fs", "STORAGE_DRIVER=fs"),
    ("METADATA_DRIVER", "sqlite", "METADATA_DRIVER=sqlite"),
    ("NODE_HOST", "0.0.0.0", "NODE_HOST must be a loopback address"),
    ("S3_SECRET_KEY", "", "needs S3_ENDPOINT"),
    ("NODE_PORT", "0", "NODE_PORT must be"),
])
def test_nodes_that_keep_state_or_let_everyone_in_are_refused(unstarted, words, name, value, wanted):
    stores = {"STORAGE_DRIVER": "s3", "METADATA_DRIVER": "mongodb", "S3_ACCESS_KEY": "key",
              "S3_ENDPOINT": "http://127.0.0.1:1", "S3_SECRET_KEY": SECRET,
              "MONGODB_URI": f"mongodb://u:{SECRET}@127.0.0.1:1"}
    said = run(unstarted, *words, "foreground", **{**stores, name: value})
    assert said.returncode == 1 and wanted in said.stderr, said
    assert len(said.stderr.splitlines()) == 1 and SECRET not in said.stderr + said.stdout
    assert not unstarted.data_dir.exists()


def test_a_gateway_beyond_loopback_needs_logins(unstarted):
    said = run(unstarted, "gateway", "foreground", GATEWAY_HOST="0.0.0.0")
    assert said.returncode == 1 and "GATEWAY_HOST must be a loopback address" in said.stderr


# ---- in the background ----

def background(service, *words):
    service.expect_unclean = True
    service.expect_damage = True
    try:
        started = run(service, *words, "start")
        assert started.returncode == 0, started
        assert f"http://127.0.0.1:{service.port}/" in started.stdout
        status = run(service, *words, "status")
        assert f"running at http://127.0.0.1:{service.port}/" in status.stdout
        assert service.get("/live").status_code == 200
        again = run(service, *words, "start")
        assert again.returncode == 1 and "already running" in again.stderr
    finally:
        stopped = run(service, *words, "stop")
    assert stopped.returncode == 0, stopped
    assert run(service, *words, "status").returncode == 3
    mark = f"RUNTIME_DIR={service.runtime_dir}".encode()
    wait_for(lambda: not [pid for pid in proc_pids() if mark in read_proc(pid, "environ")],
             "nothing is left", 5)


def proc_pids():
    with subprocess.Popen(["ps", "-e", "-o", "pid="], stdout=subprocess.PIPE, text=True) as listing:
        return [int(line) for line in listing.stdout]


def test_gateway_in_the_background():
    node = StandIn()
    gateway = Gateway([node.port])
    try:
        background(gateway, "gateway")
    finally:
        gateway.close()
        node.stop()


def test_nodes_in_the_background():
    nodes = NodeSet(2)
    try:
        background(nodes, "nodes", "2")
    finally:
        nodes.close()


def test_node_has_a_port_and_a_folder_of_its_own(unstarted):
    """Beside a gateway on the same machine, with nothing said of either."""
    port = quiet_port()
    environment = {"NODE_MODE": "single", "NODE_PORT": str(port), "RUNTIME_DIR": ""}
    values = unstarted.coffer("config", **environment).stdout
    base = re.search(r"^RUNTIME_DIR=(.*)-\d+$", values, re.M).group(1)
    try:
        said = run(unstarted, "node", "start", **environment)
        assert f"http://127.0.0.1:{port}/" in said.stdout, said
        assert Path(f"{base}-{port}", "ready").exists()
    finally:
        assert run(unstarted, "node", "stop", **environment).returncode == 0
        shutil.rmtree(f"{base}-{port}")


# ---- secrets ----

@pytest.mark.parametrize("kind", [Service, NodeSet])
def test_a_secret_from_a_file_stays_there(kind):
    """In no environment, no command line, no log, no answer; the path may be relative."""
    variables = ("S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN")
    service = kind(**{f"{name}_FILE": f"secrets/{name}" for name in variables},
                   MONGODB_URI_FILE="secrets/MONGODB_URI")
    try:
        (service.folder / "secrets").mkdir()
        for name in variables:
            (service.folder / "secrets" / name).write_text(SECRET + "\n")
        (service.folder / "secrets" / "MONGODB_URI").write_text(f"mongodb://u:{SECRET}@127.0.0.1:1")
        service.start()
        service.create(b"x")
        programs = service.all_pids()
        assert len(programs) > 8
        for pid in programs:
            for name in ("cmdline", "environ"):
                assert SECRET.encode() not in read_proc(pid, name), (pid, name)
        assert SECRET not in service.output() + service.gateway_log()
        for path in service.log_file.parent.glob("*log*"):
            assert SECRET not in path.read_text(), path
        for words in (("config",), ("config", "--shell")):
            said = service.coffer(*words)
            assert SECRET not in said.stdout + said.stderr, words
        assert "S3_SECRET_KEY=***" in service.coffer("config").stdout
    finally:
        service.close()


@pytest.mark.parametrize("content", ["", "two\nlines\n", None])
def test_a_bad_secret_file_is_one_line_at_the_start(unstarted, content):
    path = unstarted.folder / "secret"
    if content is not None:
        path.write_text(content)
    said = run(unstarted, "foreground", S3_SECRET_KEY_FILE=str(path))
    assert said.returncode == 1 and len(said.stderr.splitlines()) == 1, said
    assert "S3_SECRET_KEY" in said.stderr and "two" not in said.stderr
