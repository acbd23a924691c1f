"""Real servers of the monitoring for tests: Prometheus (Debian's and 3.x), Alertmanager, node_exporter,
and a server of expositions that can't be had otherwise. All on loopback, with the committed files."""

import http.server
import json
import re
import shutil
import socketserver
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from monitoring import INFRASTRUCTURE, PROMETHEUS
from servers import PROGRAMS, Server, SeaweedFS, StartFailed, free_ports

EXPOSITIONS = Path(__file__).resolve().parent / "expositions"
COUNTER = re.compile(r"(_total|_bucket|opcounters|opLatencies|metrics_document|network_bytes\w+)[{ ]")


class Debian(Server):
    """One whose program comes with the distribution."""

    def prepare(self):
        if not shutil.which(self.program):
            raise StartFailed(f"{self.program} is not installed (make deps-test)")

    @property
    def path(self):
        return shutil.which(self.program)


class NodeExporter(Debian):
    name, program = "node-exporter", "prometheus-node-exporter"

    def command(self):
        (self.folder / "coffer.prom").write_text(
            "coffer_backup_last_success_timestamp_seconds 1796000000\n"
            'coffer_certificate_expiry_timestamp_seconds{name="example.org:443"} 1896000000\n')
        return [self.path, f"--web.listen-address=127.0.0.1:{self.port}",
                f"--collector.textfile.directory={self.folder}"]

    def answers(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
            return answer.status == 200


class MeasuredSeaweedFS(SeaweedFS):
    """With its port of metrics."""

    def __init__(self):
        super().__init__()
        (self.metrics_port,) = free_ports(1)

    def command(self):
        return [*super().command(), "-metricsIp=127.0.0.1", f"-metricsPort={self.metrics_port}"]


class Expositions:
    """Serves each file of expositions/ at /NAME; counters grow from scrape to scrape."""

    def __init__(self):
        started = time.monotonic()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                grown = 1 + (time.monotonic() - started) / 60
                lines = []
                for line in (EXPOSITIONS / f"{self.path[1:]}.prom").read_text().splitlines():
                    if not line.startswith("#") and COUNTER.search(line):
                        series, value = line.rsplit(" ", 1)
                        line = f"{series} {float(value) * grown}"
                    lines.append(line)
                body = ("\n".join(lines) + "\n").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Prometheus(Server):
    """With the committed rules and scrape configuration, whose targets `targets` names: {job:
    (address, path)}. `speed` replaces the intervals of 15 s."""

    def __init__(self, version, targets, alertmanager=None, speed="1s", hold=None):
        self.version = version
        self.name = f"prometheus-{version}"
        self.program = "prometheus"
        super().__init__()
        for name in ("recording.yml", "alerts.yml"):
            text = (PROMETHEUS / name).read_text()
            if hold:
                text = re.sub(r"^( +for:) .*", rf"\1 {hold}", text, flags=re.MULTILINE)
            (self.folder / name).write_text(text)
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"].update(scrape_interval=speed, scrape_timeout=speed, evaluation_interval=speed)
        targets = {"prometheus": (f"127.0.0.1:{self.port}", None), **targets}
        scrapes = []
        for scrape in config["scrape_configs"]:
            if scrape["job_name"] in targets:
                address, path = targets[scrape["job_name"]]
                scrape.pop("dns_sd_configs", None)
                scrape["static_configs"] = [{"targets": [address]}]
                scrapes.append({**scrape, **({"metrics_path": path} if path else {})})
        config["scrape_configs"] = scrapes
        config["alerting"] = {"alertmanagers": [{"static_configs": [
            {"targets": [f"127.0.0.1:{alertmanager.port}"] if alertmanager else []}]}]}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def prepare(self):
        if self.version == "3":
            self.path = PROGRAMS / "prometheus"
        else:
            self.path = Path("/usr/bin/prometheus")
        if not self.path.exists():
            raise StartFailed(f"{self.path} is missing (tests/servers/install prometheus)")

    def command(self):
        return [self.path, f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/tsdb", "--log.level=warn",
                f"--web.listen-address=127.0.0.1:{self.port}"]

    def answers(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
            return answer.status == 200

    def ask(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression):
        return self.ask("query", query=expression)["result"]


class Alertmanager(Debian):
    """With the file that configure prints, and shorter waits."""

    def __init__(self, version, environment):
        self.version = version
        self.name = f"alertmanager-{version}"
        self.program = "prometheus-alertmanager"
        super().__init__()
        text = subprocess.run([INFRASTRUCTURE / "alertmanager" / "configure"], check=True, text=True,
                              stdout=subprocess.PIPE,
                              env={"PATH": "/usr/bin:/bin", **environment}).stdout
        text = re.sub(r"(group_wait|group_interval): \w+", r"\1: 1s", text)
        (self.folder / "alertmanager.yml").write_text(text)

    def prepare(self):
        if self.version == "0.35":
            if not (PROGRAMS / "alertmanager").exists():
                raise StartFailed("tests/servers/install alertmanager")
        else:
            super().prepare()

    def command(self):
        program = PROGRAMS / "alertmanager" if self.version == "0.35" else self.path
        return [program, f"--config.file={self.folder}/alertmanager.yml",
                f"--storage.path={self.folder}/data", "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{self.port}"]

    def answers(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
            return answer.status == 200

    def alerts(self):
        url = f"http://127.0.0.1:{self.port}/api/v2/alerts"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)


class Webhook:
    """Keeps the JSON bodies that are posted to it."""

    def __init__(self):
        self.received = received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # pylint: disable=invalid-name
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class MailServer:
    """Takes e-mails from who logs in with AUTH PLAIN or LOGIN; keeps (login, text)."""

    def __init__(self):
        self.received = received = []

        class Handler(socketserver.StreamRequestHandler):
            def say(self, text):
                self.wfile.write(text.encode() + b"\r\n")

            def line(self):
                return self.rfile.readline().decode().rstrip("\r\n")

            def handle(self):
                login = None
                self.say("220 sink")
                while command := self.line():
                    verb = command.split(" ")[0].upper()
                    if verb == "EHLO":
                        self.say("250-sink")
                        self.say("250 AUTH PLAIN LOGIN")
                    elif verb == "AUTH":
                        login = command
                        self.say("235 ok")
                    elif verb == "DATA":
                        self.say("354 go on")
                        lines = []
                        while (text := self.line()) != ".":
                            lines.append(text)
                        received.append((login, "\n".join(lines)))
                        self.say("250 ok")
                    elif verb == "QUIT":
                        self.say("221 bye")
                        return
                    else:
                        self.say("250 ok")

        class Threads(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True

        self.server = Threads(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
