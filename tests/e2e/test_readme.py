"""What README.md has the reader paste, word by word: the session with curl, the lines about tokens."""

import os
import re
import shutil
import subprocess

from service import BASE_ENV, REPOSITORY

PORT = "5921"


def block(name):
    text = (REPOSITORY / "README.md").read_text()
    found = re.findall(rf"<!-- test: {name} -->\s*\n```sh[^\n]*\n(.*?)^```", text, re.S | re.M)
    assert len(found) == 1, f"README.md has no block marked <!-- test: {name} -->"
    assert PORT in found[0] and "curl" in found[0]
    return found[0]


def test_the_session_of_the_readme(start_service, tmp_path):
    script = block("session")
    service = start_service()
    # `coffer` in the session is the admin command of the tree.
    path = f"{service.binaries}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "set -eu -o pipefail\n" + script.replace(PORT, str(service.port))],
        env={**service.env, "PATH": path, "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, f"{script}\n--- said\n{done.stdout}\n{done.stderr}"
    assert "problem+json" not in done.stdout and '"status": 5' not in done.stdout
    methods = {line.split('"http.request.method":"')[1].split('"')[0]
               for line in service.log_file.read_text().splitlines()
               if '"http.request.method":"' in line}
    assert {"GET", "DELETE"} <= methods and methods & {"POST", "PUT"}


def test_token_lines_of_the_readme(start_service, tmp_path):
    """In a source tree whose service was started without DATA_DIR, so with ./data."""
    script = block("tokens")
    service = start_service(AUTH_MODE="token", DATA_DIR=tmp_path / "data")
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    (tmp_path / "build/release").mkdir(parents=True)
    (tmp_path / "build/release/bin").symlink_to(service.binaries)
    done = subprocess.run(
        ["bash", "-c", "set -eu -o pipefail\n" + script.replace(PORT, str(service.port))],
        env={name: os.environ[name] for name in BASE_ENV if name in os.environ},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, f"{script}\n--- said\n{done.stdout}\n{done.stderr}"
    assert '"originalName":"README.md"' in done.stdout and '"total":1' in done.stdout
    assert "\talice\t" in done.stdout and str(tmp_path / "data") in done.stderr
