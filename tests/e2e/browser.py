"""Headless Chromium through chromedriver, spoken to in plain WebDriver
(https://www.w3.org/TR/webdriver2/)."""

import os
import shutil
import signal
import subprocess
import tempfile

import requests

from service import free_port, wait_for

OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="coffer-browser-")
        self.port = free_port()
        self.process = subprocess.Popen(
            ["chromedriver", f"--port={self.port}", "--silent"],
            env={
                "PATH": os.environ["PATH"], "HOME": self.home, "TMPDIR": self.home,
                "LANG": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.session = None
        self.http = requests.Session()
        self.http.trust_env = False
        wait_for(self.is_up, "chromedriver answers", 30)
        chrome = {"args": [*OPTIONS, f"--user-data-dir={self.home}/profile"]}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": chrome}}
        self.session = self.call("POST", "", {"capabilities": wanted})["sessionId"]

    def is_up(self):
        try:
            return self.http.get(f"http://127.0.0.1:{self.port}/status", timeout=5).ok
        except requests.RequestException:
            return False

    def call(self, method, path, body=None):
        session = f"/{self.session}" if self.session else ""
        answer = self.http.request(
            method, f"http://127.0.0.1:{self.port}/session{session}{path}",
            json={} if method == "POST" and body is None else body, timeout=60,
        )
        value = answer.json()["value"]
        assert answer.ok, value
        return value

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script, *arguments):
        """The script ends by calling its last argument."""
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def choose_file(self, selector, path):
        """Picks a file in an <input type=file>, as a user does."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{found[ELEMENT]}/value", {"text": str(path)})

    def text(self):
        return self.run("return document.body ? document.body.innerText : ''")

    def address(self):
        return self.call("GET", "/url")

    def close(self):
        try:
            if self.session:
                self.call("DELETE", "")
        finally:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            shutil.rmtree(self.home, ignore_errors=True)
