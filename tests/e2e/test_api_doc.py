"""The examples of docs/API.md, word by word: the shell ones in one shell, the JavaScript ones in one
page of another origin in Chromium. Every call that a heading names has an example of both kinds."""

import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from browser import Browser
from service import REPOSITORY, running, wait_for

pytestmark = pytest.mark.local("about a document; other tests try its calls on every store")

PAGE = (REPOSITORY / "docs/API.md").read_text()
ADDRESS = "127.0.0.1:5921"
APP = "https://app.example"
HEADING = re.compile(r"^### .*`(\w+) (/api/\S+)`$", re.M)
SCRIPT = """
const done = arguments[0];
(async () => {
%s
})().then(() => done("done"), (error) => done(`${error.stack} ${JSON.stringify(error.problem)}`));
"""


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    assert found, f"docs/API.md has no example in {language}"
    assert PAGE.count(f"```{language}\n") == len(found)
    return found


def calls():
    """(method, route template) of every call that has a heading."""
    found = {(method, path.replace("{id}", ":id").replace("{name}", ":name"))
             for method, path in HEADING.findall(PAGE)}
    assert len(found) >= 10, found
    return found


@pytest.fixture(scope="module")
def site():
    """The application whose page calls the API: a page, and the route that gives it a token."""
    class Site(BaseHTTPRequestHandler):
        def answer(self, kind, text):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self):
            self.answer("text/html", "<!DOCTYPE html><title>application</title><body></body>")

        def do_POST(self):
            assert self.path == "/session/coffer-token"
            self.answer("text/plain", self.server.make_token())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def origin(site):
    return f"http://127.0.0.1:{site.server_address[1]}"


@pytest.fixture(scope="module")
def documented(origin):
    yield from running(AUTH_MODE="token", ALLOWED_ORIGINS=f"{origin},{APP}")


def answered(service, agent):
    """(method, route) of the requests of a kind of client that a program answered well."""
    return {(line["http.request.method"], line["http.route"]) for line in service.log_lines()
            if line["message"] == "request" and agent in line.get("user_agent.original", "")
            and line["http.response.status_code"] < 400}


def expect_all_calls(service, agent):
    wait_for(lambda: calls() <= answered(service, agent),
             f"an example of {calls() - answered(service, agent)} by {agent}")


def test_shell_examples(documented, tmp_path):
    script = "\n".join(blocks("sh"))
    assert ADDRESS in script
    done = subprocess.run(
        ["bash", "-c", "set -eu -o pipefail\n" + script.replace(ADDRESS, f"127.0.0.1:{documented.port}")],
        env={**documented.env, "PATH": f"{documented.binaries}:{os.environ['PATH']}",
             "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    statuses = re.findall(r"# (\d{3})$", script, re.M)
    assert statuses and statuses == re.findall(r"(?:^|\})(\d{3})$", done.stdout, re.M)
    expect_all_calls(documented, "curl/")


def test_javascript_examples(documented, site, origin):
    site.make_token = lambda: documented.token("alice")
    script = "\n".join(blocks("js"))
    assert ADDRESS in script
    browser = Browser()
    try:
        browser.open(origin)
        said = browser.run_async(SCRIPT % script.replace(ADDRESS, f"127.0.0.1:{documented.port}"))
    finally:
        browser.close()
    assert said == "done"
    expect_all_calls(documented, "Chrome/")
