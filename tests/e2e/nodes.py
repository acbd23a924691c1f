"""Gateways and sets of nodes for tests: the real launcher in its roles `gateway` and `nodes`, and
small HTTP servers that stand for a node and do what a real one does only when it breaks.
"""

import http.server
import os
import random
import signal
import socket
import socketserver
import struct
import subprocess
import threading
from dataclasses import dataclass

import requests

from exchanges import call, log_faults
from history import Load
from service import LAUNCHER, Service, read_proc, wait_for

SETTLE_SECONDS = 20  # checks, a change of nodes, and a machine under load


def quiet_port():
    """The first of some ports for nodes, below those that the kernel gives to clients: a node that
    is started again gets its own back, whoever connects meanwhile."""
    return random.SystemRandom().randrange(12000, 19900, 10)


def stand_in_port():
    """The same for one server, and free now."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", random.SystemRandom().randrange(20000, 32000)))
                return probe.getsockname()[1]
            except OSError:
                pass


# ---- a node's stand-in ----

@dataclass
class Seen:
    """One request as it reached a node."""

    method: str
    path: str
    headers: list  # (lower-case name, value)
    body: bytes
    whole: bool    # the body was as long as announced

    def all(self, name):
        return [value for key, value in self.headers if key == name.lower()]

    def one(self, name):
        values = self.all(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]


class StandIn:
    """Answers 200 with its name; `behaviour` changes that:
    hang: takes connections and says nothing; reset: takes a whole request and resets;
    fail: answers 500; unready: /ready is 503, the rest goes on."""

    def __init__(self, name="node", port=None):
        self.name = name
        self.behaviour = ""
        self.seen = []
        self.port = port or stand_in_port()
        self.released = threading.Event()
        self.server = None
        self.start()

    def start(self):
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except ConnectionError:
                    self.close_connection = True

            def parse_request(self):
                parsed = super().parse_request()
                if parsed:
                    method = self.command
                    setattr(self, f"do_{method}", lambda: node.answer(self))
                return parsed

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, handler):
        if self.behaviour == "hang":
            self.released.wait(120)
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        if handler.headers.get("Transfer-Encoding") == "chunked":
            body, length = self.read_chunks(handler.rfile)
        if handler.path == "/ready":
            return self.send(handler, 503 if self.behaviour == "unready" else 200, b"{}")
        headers = [(name.lower(), value) for name, value in handler.headers.items()]
        self.seen.append(Seen(handler.command, handler.path, headers, body, len(body) == length))
        if self.behaviour == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                          struct.pack("ii", 1, 0))
            handler.connection.close()
            raise ConnectionResetError
        return self.send(handler, 500 if self.behaviour == "fail" else 200, self.name.encode())

    @staticmethod
    def read_chunks(stream):
        """A chunked body, and its length when it came to its end; else -1."""
        body = b""
        while line := stream.readline():
            size = int(line, 16)
            body += stream.read(size + 2)[:size]
            if size == 0:
                return body, len(body)
        return body, -1

    def send(self, handler, status, body):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("X-Request-Id", handler.headers.get("X-Request-Id", "made-by-node"))
        handler.send_header("traceparent", handler.headers.get("traceparent", "none"))
        handler.end_headers()
        handler.wfile.write(body)

    def hang(self):
        self.released.clear()
        self.behaviour = "hang"

    def recover(self):
        self.behaviour = ""
        self.released.set()

    def stop(self):
        """From now on connections are refused."""
        if self.server:
            self.released.set()
            self.server.shutdown()
            self.server.server_close()
            self.server = None


# ---- the launcher's roles ----

class Launched(Service):
    """A service in another role than that of a single host."""

    words = ()

    def launch(self):
        with open(self.output_file, "ab") as output:
            self.process = subprocess.Popen(
                [str(LAUNCHER), *self.words, "foreground"], env=self.env, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True)
        self._seen = {}

    def log_lines(self):
        return []

    def environments(self):
        """{pid: (command line, environment)} of every process."""
        return {pid: (read_proc(pid, "cmdline"), read_proc(pid, "environ"))
                for pid in self.all_pids()}


class Gateway(Launched):
    """`coffer-serve gateway` before the given ports."""

    words = ("gateway",)

    def __init__(self, ports, **env):
        nodes = ",".join(f"127.0.0.1:{port}" for port in ports)
        super().__init__(**{"GATEWAY_NODES": nodes, **env})
        self.expect_5xx = self.expect_damage = True

    def wait_ready(self, seconds=20.0):
        wait_for(lambda: (self.runtime_dir / "ready").exists() or self.process.poll() is not None,
                 "the gateway is up", seconds)
        assert self.process.poll() is None, self.output()

    def inside(self):
        """The ports that get requests."""
        text = (self.runtime_dir / "nodes.conf").read_text().split("var.nodes_uploads")[0]
        return [int(part.split(",")[0]) for part in text.split('"port" => ')[1:]]

    def wait_inside(self, ports):
        wait_for(lambda: sorted(self.inside()) == sorted(ports), f"requests go to {ports} alone",
                 SETTLE_SECONDS)


class NodeSet(Launched):
    """`coffer-serve nodes N`: a gateway and nodes over one DATA_DIR, or over the stores that `env`
    names."""

    def __init__(self, count=3, **env):
        self.words = ("nodes", str(count))
        super().__init__(**{"NODE_MODE": "single", "NODE_PORT": quiet_port(), **env})

    def wait_ready(self, seconds=40.0):
        wait_for(lambda: (self.runtime_dir / "ready").exists() or self.process.poll() is not None,
                 "the set is up", seconds)
        assert self.process.poll() is None, self.output()
        wait_for(lambda: requests.get(self.url + "/ready", timeout=5).status_code == 200, "ready")

    def nodes(self):
        return sorted(path.name for path in self.runtime_dir.glob("node-*"))

    def node_pids(self, name):
        """Every process of one node, by its RUNTIME_DIR; the launcher's own shell too."""
        mark = b"RUNTIME_DIR=" + str(self.runtime_dir / name).encode()
        return [pid for pid in self.all_pids()
                if mark in read_proc(pid, "environ").split(b"\0")]

    def signal_node(self, name, number):
        for pid in self.node_pids(name):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def hang_node(self, name):
        """Stops every process of a node; the kernel still takes its connections."""
        self.signal_node(name, signal.SIGSTOP)

    def wake_node(self, name):
        self.signal_node(name, signal.SIGCONT)

    def node_url(self, name):
        return f"http://127.0.0.1:{name.removeprefix('node-')}"

    def logs(self):
        self.settle_log()
        return {path.name: path.read_text() for path in self.log_file.parent.glob("log*")}


class SetLoad(Load):
    """A load on a set's gateway. Metrics and logs are each node's own."""

    def request(self, method, path, *args, **options):
        if path == "/api/metrics":
            port = int(self.service.nodes()[0].removeprefix("node-"))
            return call(port, method, path)
        return super().request(method, path, *args, **options)

    def _check_log(self):
        for path in self.service.log_file.parent.glob("log-*"):
            for fault in log_faults(path):
                self._violate("I9", fault)
