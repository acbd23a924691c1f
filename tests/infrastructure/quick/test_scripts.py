"""infrastructure/scripts that need no service."""

import subprocess
import time

import pytest

from monitoring import INFRASTRUCTURE
from prometheus_client.parser import text_string_to_metric_families
from servers import free_ports

CERTIFICATE = INFRASTRUCTURE / "scripts" / "certificate-metric.sh"


@pytest.fixture(name="server")
def tls_server(tmp_path):
    """host:port of one whose certificate lasts ten days."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "10", "-subj", "/CN=localhost", "-keyout", "key", "-out", "cert"],
                   cwd=tmp_path, check=True, capture_output=True)
    (port,) = free_ports(1)
    with subprocess.Popen(["openssl", "s_server", "-accept", str(port), "-key", "key", "-cert", "cert",
                           "-quiet"], cwd=tmp_path, stdin=subprocess.PIPE) as server:
        yield f"localhost:{port}"
        server.kill()


def read(text):
    return {sample.labels["name"]: sample.value for family in text_string_to_metric_families(text)
            for sample in family.samples}


def test_the_certificate_that_is_served_is_told(server, tmp_path):
    folder = tmp_path / "textfile"
    folder.mkdir()
    for _ in range(2):
        deadline = time.monotonic() + 20
        while subprocess.run([CERTIFICATE, folder, server], check=False).returncode:
            assert time.monotonic() < deadline
    assert [path.name for path in folder.iterdir()] == ["coffer-certificates.prom"]
    shown = read((folder / "coffer-certificates.prom").read_text())
    assert abs(shown[server] - time.time() - 10 * 86400) < 3600
    said = subprocess.run([CERTIFICATE, "--dry-run", folder, server, "localhost:1"], text=True,
                          capture_output=True, check=False)
    assert said.returncode == 1 and "localhost:1 does not answer" in said.stderr
    assert read(said.stdout) == shown


@pytest.mark.parametrize("arguments, code", [(["--help"], 0), ([], 2), (["/tmp"], 2), (["/tmp", "a b"], 2)])
def test_the_certificate_script_is_told_what_to_do(arguments, code):
    assert subprocess.run([CERTIFICATE, *arguments], capture_output=True, check=False).returncode == code


HEALTH = INFRASTRUCTURE / "scripts" / "health-check.sh"


def health(tmp_path, states, services):
    """What it says when docker compose shows these."""
    stand_in = tmp_path / "compose"
    stand_in.write_text(f"#!/bin/sh\ncase \"$*\" in\n*config*) printf '%s\\n' {services} ;;\n"
                        f"*) cat <<'END'\n{states}\nEND\n;;\nesac\n")
    stand_in.chmod(0o755)
    return subprocess.run([HEALTH, INFRASTRUCTURE.parent / "docker/compose.production.yaml"], text=True,
                          capture_output=True, check=False,
                          env={"PATH": "/usr/bin:/bin", "COMPOSE": str(stand_in)})


@pytest.mark.parametrize("states, code, words", [
    ("gateway running healthy 0\nbackend running healthy 0\nbackend running healthy 0", 0,
     ["ok", "ok", "ok"]),
    ("gateway running starting 0\nbackend running healthy 0", 1, ["starting", "ok"]),
    ("gateway running unhealthy 0\nbackend exited  137", 1, ["DOWN", "DOWN"]),
    ("gateway running  0\nbackend exited  0", 0, ["ok"]),
    ("gateway running healthy 0", 1, ["ok", "DOWN"])])
def test_each_service_has_its_line_of_health(tmp_path, states, code, words):
    said = health(tmp_path, states, "gateway backend")
    assert (said.returncode, [line.split()[0] for line in said.stdout.splitlines()]) == (code, words), said
