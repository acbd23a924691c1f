"""A real Elasticsearch (servers.py) on free loopback ports, and the shipper of log lines.

    with Elasticsearch() as store:
        store.install_templates()
        with Shipper(store, service.log_file):
            ...
        store.find("logs-*", {"term": {"level": "error"}})

It is the build that Elasticsearch's own tests run: without its modules, so without login and
without what removes old data; templates, data streams, _bulk and searches are all there.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from servers import PROGRAMS, REPOSITORY, START_SECONDS, Server

FOLDER = REPOSITORY / "infrastructure" / "elasticsearch"
JVM = "-Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
PAGE = 5000


class Elasticsearch(Server):
    name = program = "elasticsearch"
    port_count = 2
    start_seconds = 180
    stop_seconds = 30

    def command(self):
        http, transport = self.ports
        data = self.folder / "data"
        config = self.folder / "config"
        (self.folder / "tmp").mkdir(exist_ok=True)
        if not config.exists():
            shutil.copytree((PROGRAMS / self.program).resolve().parent / "config", config)
            (config / "jvm.options").write_text("-Djava.io.tmpdir=${ES_TMPDIR}\n"
                                                "-XX:+ExitOnOutOfMemoryError\n")
        command = [PROGRAMS / self.program]
        settings = {
            "discovery.type": "single-node", "xpack.security.enabled": "false",
            "network.host": "127.0.0.1", "http.port": http, "transport.port": transport,
            "path.data": data, "path.logs": self.folder / "logs",
            # A nearly full disk is the machine's matter.
            "cluster.routing.allocation.disk.threshold_enabled": "false"}
        for name, value in settings.items():
            command += ["-E", f"{name}={value}"]
        if os.geteuid() == 0:
            # It refuses to run as root; here root goes by another number.
            command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--",
                       "setpriv", "--pdeathsig", "KILL", "--", *command]
        return command

    def environment(self):
        java = Path(shutil.which("java")).resolve().parents[1]
        return {"ES_JAVA_HOME": str(java), "ES_JAVA_OPTS": JVM,
                "ES_TMPDIR": str(self.folder / "tmp"), "ES_PATH_CONF": str(self.folder / "config"),
                "CLI_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}

    @property
    def pid(self):
        """Of the process that listens: a child of the one that was started, which watches it."""
        if not self.process:
            return None
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = []
        try:
            for thread in path.parent.parent.iterdir():
                children += (thread / "children").read_text().split()
        except OSError:
            pass
        return int(children[0]) if children else self.process.pid

    def end(self, number):
        """To both processes: a SIGKILL leaves neither."""
        server = self.pid
        if self.running() and server != self.process.pid:
            try:
                os.kill(server, number)
            except ProcessLookupError:
                pass
        super().end(number)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def answers(self):
        return self.request("GET", "/_cluster/health")[1]["number_of_pending_tasks"] == 0

    def request(self, method, path, content=None):
        """(status, JSON)"""
        request = urllib.request.Request(
            self.endpoint + path, method=method, headers={"Content-Type": "application/json"},
            data=None if content is None else json.dumps(content).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def variables(self):
        return {"ELASTICSEARCH_URL": self.endpoint}

    def install_templates(self, *arguments, **environment):
        """Runs the installer; the completed process."""
        return subprocess.run(
            [FOLDER / "install", *arguments], env={"PATH": os.environ["PATH"], **self.variables(),
                                                   **environment},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)

    # ---- what is in it ----

    def find(self, indices, query):
        """Every line that a query finds, as it was sent."""
        self.request("POST", f"/{indices}/_refresh")
        found, after = [], None
        while True:
            search = {"size": PAGE, "query": query, "sort": [{"event.id": "asc"}]}
            if after:
                search["search_after"] = after
            answer = self.search(indices, search)
            hits = answer["hits"]["hits"]
            found += [hit["_source"] for hit in hits]
            if len(hits) < PAGE:
                return found
            after = hits[-1]["sort"]

    def search(self, indices, search):
        """Waits while a new index has no shard yet."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            status, answer = self.request(
                "POST", f"/{indices}/_search?ignore_unavailable=true", search)
            if status == 200:
                return answer
            assert status == 503 and time.monotonic() < deadline, answer
            time.sleep(0.1)

    def count(self, indices):
        """0 while a new index is not ready for searches yet: to be waited for."""
        self.request("POST", f"/{indices}/_refresh")
        status, answer = self.request("GET", f"/{indices}/_count?ignore_unavailable=true")
        assert status in (200, 503), answer
        return answer.get("count", 0)

    def state(self):
        """Templates, without what differs from run to run."""
        status, answer = self.request(
            "GET", "/_cluster/state/metadata?filter_path=metadata.index_template,"
                   "metadata.component_template,metadata.data_stream.data_stream.*.lifecycle")
        assert status == 200, answer
        return answer["metadata"]


class Shipper:
    """infrastructure/elasticsearch/ship on its own folder; rsyslogd after its start."""

    def __init__(self, store, log, url=None, arguments=()):
        self.command = [FOLDER / "ship", "run", *arguments, log]
        self.folder = log.parent / "shipping"
        self.environment = {"PATH": os.environ["PATH"]}
        if not arguments:
            self.environment["ELASTICSEARCH_URL"] = url or store.endpoint
        self.output = log.parent / "shipping.output"
        self.process = None

    def start(self):
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        return self

    def read(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def refused(self):
        return [json.loads(line) for line in self.read("refused.ndjson").splitlines()]

    def queued(self):
        """Bytes that wait."""
        sizes = 0
        for path in self.folder.glob("queue.*"):
            try:
                sizes += path.stat().st_size
            except FileNotFoundError:  # sent meanwhile
                pass
        return sizes

    def senders(self):
        found = []
        try:
            for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:
            pass
        return found

    def kill(self, number=signal.SIGKILL):
        """Its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def stop(self):
        if self.process:
            code = self.kill(signal.SIGTERM)
            assert code == 0, f"exit {code}: {self.output.read_text()}"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process:
            self.kill()


def ids(lines):
    return sorted(line["event.id"] for line in lines)
