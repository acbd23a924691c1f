"""The session with curl in README.md, word by word."""

import os
import re
import subprocess

from service import REPOSITORY

BLOCK = re.compile(r"<!-- test: session -->\s*\n```sh[^\n]*\n(.*?)^```", re.S | re.M)
PORT = "5921"


def test_the_session_of_the_readme(start_service, tmp_path):
    text = (REPOSITORY / "README.md").read_text()
    blocks = BLOCK.findall(text)
    assert blocks, "README.md has no block marked <!-- test: session -->"
    script = "".join(blocks)
    assert PORT in script and "curl" in script
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
