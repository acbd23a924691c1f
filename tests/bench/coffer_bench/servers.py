"""Starts and stops what is measured: Coffer itself and its peers, each on a free loopback port."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import processes
from .tools import BENCH, ROOT, BenchError, run

LIGHTTPD_CONF = """\
server.document-root = "{folder}/www"
server.port = {port}
server.bind = "127.0.0.1"
server.errorlog = "{folder}/error.log"
server.upload-dirs = ( "{folder}/spool" )
server.max-connections = 1024
server.max-fds = 4096
server.max-keep-alive-requests = 100000
server.feature-flags += ( "server.h2proto" => "disable" )
"""

STATIC_CONF = LIGHTTPD_CONF + """\
mimetype.assign = ( ".bin" => "application/octet-stream" )
server.modules = ( "mod_webdav" )
$HTTP["url"] =~ "^/dav/" {{ webdav.activate = "enable" }}
"""

PROXY_CONF = LIGHTTPD_CONF + """\
server.modules = ( "mod_proxy" )
server.stream-response-body = 2
proxy.server = ( "" => ( ( "host" => "127.0.0.1", "port" => {behind} ) ) )
"""


def free_port():
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A program that listens on self.port and keeps everything in self.folder."""

    ready_path = "/"
    stop_signal = signal.SIGTERM

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.process = None
        self.start_seconds = 0.0

    def command(self):
        """Command line and environment."""
        raise NotImplementedError

    def start(self):
        """Starts it and waits for its first answer; start_seconds says how long that took."""
        command, environment = self.command()
        with open(self.folder / "output.log", "ab") as log:
            began = time.monotonic()
            self.process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True)
        while True:
            if self.answers():
                break
            if self.process.poll() is not None or time.monotonic() > began + 30:
                self.stop()
                words = (self.folder / "output.log").read_text(errors="replace")[-1500:]
                raise BenchError(f"{type(self).__name__} did not start: {words}")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - began
        return self

    def answers(self):
        """True when the ready path gives a 2xx now."""
        try:
            return self.request("GET", self.ready_path)[0] < 300
        except (OSError, http.client.HTTPException):
            return False

    def request(self, method, path, body=None, headers=None):
        """One exchange on a connection of its own: status, headers, body."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request(method, path, body=body, headers=headers or {})
            answer = link.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            link.close()

    def url(self, path):
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def stop(self):
        """Asks it to end, and ends what is left of its processes by their ids."""
        if self.process is None:
            return
        pids = processes.tree(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(timeout=25)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:
            if not processes.wait_gone(pid, 2):
                os.kill(pid, signal.SIGKILL)
        self.process = None

    def remove(self):
        """Stops it and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Lighttpd(Server):
    """lighttpd alone: static files below /, mod_webdav below /dav/. No log, no other module."""

    ready_path = "/ready.bin"
    stop_signal = signal.SIGINT

    def command(self):
        for name in ("www/dav", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "www/ready.bin").write_bytes(b"ok")
        conf = self.folder / "lighttpd.conf"
        conf.write_text(STATIC_CONF.format(folder=self.folder, port=self.port))
        return ["lighttpd", "-D", "-f", str(conf)], None

    def put_file(self, size, content):
        """Offers a file; returns its path."""
        (self.folder / f"www/{size}.bin").write_bytes(content)
        return f"/{size}.bin"

    def forget_uploads(self):
        """Deletes what was uploaded."""
        shutil.rmtree(self.folder / "www/dav")
        (self.folder / "www/dav").mkdir()


class LighttpdProxy(Server):
    """lighttpd alone before another server of this machine: no program, no log, nothing looked at."""

    stop_signal = signal.SIGINT

    def __init__(self, folder, behind):
        super().__init__(folder)
        self.behind = behind

    def command(self):
        for name in ("www", "spool"):
            (self.folder / name).mkdir()
        conf = self.folder / "lighttpd.conf"
        conf.write_text(PROXY_CONF.format(folder=self.folder, port=self.port, behind=self.behind))
        return ["lighttpd", "-D", "-f", str(conf)], None

    def answers(self):
        """True when anything answers: what is behind may refuse."""
        try:
            return self.request("GET", "/")[0] < 500
        except (OSError, http.client.HTTPException):
            return False


class Express(Server):
    """Express, multer and better-sqlite3 on Node."""

    ready_path = "/ready"
    script = "server.js"

    def __init__(self, folder, count=1):
        super().__init__(folder)
        self.count = count

    @classmethod
    def installed(cls):
        """The folder with the pinned modules; installs them at the first call."""
        home = ROOT / ".cache" / "bench-express"
        lock = (BENCH / "express" / "package-lock.json").read_bytes()
        mark = home / "node_modules" / ".coffer-lock"
        if not mark.exists() or mark.read_text() != hashlib.sha256(lock).hexdigest():
            home.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(BENCH / "express" / name, home / name)
            environment = dict(os.environ)
            if Path("/usr/include/node/node_version.h").exists():
                environment["npm_config_nodedir"] = "/usr"
            run(["npm", "ci", "--no-audit", "--no-fund"], cwd=home, env=environment)
            mark.write_text(hashlib.sha256(lock).hexdigest())
        shutil.copy(BENCH / "express" / cls.script, home / cls.script)
        return home

    def command(self):
        script = self.installed() / self.script
        environment = os.environ | {"PORT": str(self.port), "DATA_DIR": str(self.folder / "data"),
                                    "PROCESSES": str(self.count), "NODE_ENV": "production"}
        return ["node", str(script)], environment

    def put_file(self, size, content):
        """Uploads a file; returns its path."""
        boundary = "coffer-bench"
        body = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; "
                f"filename=\"{size}.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n"
                ).encode() + content + f"\r\n--{boundary}--\r\n".encode()
        status, headers, _ = self.request(
            "POST", "/upload", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        if status != 201:
            raise BenchError(f"express answered {status} to an upload")
        return headers["Location"]


class ExpressS3(Express):
    """Express, multer in memory, the minio client and MongoDB's driver; `settings` say where the
    store and the database are."""

    script = "server_s3.js"

    def __init__(self, folder, **settings):
        super().__init__(folder)
        self.settings = settings

    def command(self):
        script = self.installed() / self.script
        environment = os.environ | {"PORT": str(self.port), "NODE_ENV": "production"}
        return ["node", str(script)], environment | self.settings


class Coffer(Server):
    """The service as `make run` starts it, with default settings but for what is given."""

    ready_path = "/api/files?limit=1"

    def __init__(self, folder, **settings):
        super().__init__(folder)
        self.settings = settings

    def environment(self):
        """The settings of this instance."""
        return os.environ | {"GATEWAY_PORT": str(self.port), "GATEWAY_HOST": "127.0.0.1",
                             "DATA_DIR": str(self.folder / "data"),
                             "RUNTIME_DIR": str(self.folder / "runtime"),
                             "COFFER_BIN": str(ROOT / "build/release/bin")} | self.settings

    def command(self):
        return [str(ROOT / "lighttpd" / "coffer-serve")], self.environment()

    def spooled(self):
        """Bytes in the spool, which is a file system that lighttpd and the programs see."""
        for pid in processes.tree(self.process.pid):
            if processes.name(pid) == "lighttpd":
                spool = os.statvfs(f"/proc/{pid}/root{self.folder}/runtime/spool")
                return (spool.f_blocks - spool.f_bfree) * spool.f_frsize
        return 0

    def put_file(self, size, content):
        """Uploads a file; returns its path."""
        status, _, body = self.request("PUT", f"/api/files/upload/{size}.bin", content)
        if status != 201:
            raise BenchError(f"coffer answered {status} to an upload: {body[:300]!r}")
        return json.loads(body)["links"]["download"]
