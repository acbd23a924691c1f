"""A real Prometheus (servers.py; Debian's package) that scrapes a service each half second, with its
store of exemplars, on a free loopback port. Asked over its HTTP API.

    with Prometheus(service) as prometheus:
        prometheus.wait_for_scrape()
        prometheus.query('http_requests_total{job="programs"}')
"""

import json
import shutil
import time
import urllib.parse
import urllib.request

from servers import Server, StartFailed
from service import wait_for

CONFIG = """\
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
scrape_configs:
  - job_name: programs
    metrics_path: /api/metrics
    static_configs: [targets: ["127.0.0.1:{port}"]]
  - job_name: gateway
    metrics_path: /metrics
    static_configs: [targets: ["127.0.0.1:{port}"]]
"""


class Prometheus(Server):
    name = program = "prometheus"
    stop_seconds = 5

    def __init__(self, service):
        super().__init__()
        self.config = self.folder / "prometheus.yml"
        self.config.write_text(CONFIG.format(port=service.port))

    def prepare(self):
        if not shutil.which(self.program):
            raise StartFailed("prometheus is not installed (Debian: prometheus)")

    def command(self):
        return [shutil.which(self.program), f"--config.file={self.config}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}", "--enable-feature=exemplar-storage",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]

    def answers(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
            return answer.status == 200

    def ask(self, path, **parameters):
        """The data of an answer of its API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            result = json.load(answer)
        assert result["status"] == "success" and not result.get("warnings"), result
        return result["data"]

    def query(self, expression):
        """{(sample name, ((label, value), …)): value}, as service.metrics() has it."""
        found = {}
        for row in self.ask("query", query=expression)["result"]:
            labels = {name: value for name, value in row["metric"].items()
                      if name not in ("__name__", "job", "instance")}
            found[(row["metric"].get("__name__", ""), tuple(sorted(labels.items())))] = float(
                row["value"][1])
        return found

    def exemplars(self, expression):
        """[(labels of the series, exemplar)] of the last ten minutes."""
        now = time.time()
        data = self.ask("query_exemplars", query=expression, start=now - 600, end=now + 60)
        return [(row["seriesLabels"], exemplar) for row in data for exemplar in row["exemplars"]]

    def targets(self):
        """{job: what is known of its target}"""
        return {target["labels"]["job"]: target for target in self.ask("targets")["activeTargets"]}

    def wait_for_scrape(self):
        """Until each target was scraped twice from now on: so one scrape has begun since."""
        seen = {}

        def scraped():
            for job, target in self.targets().items():
                moments = seen.setdefault(job, set())
                moments.add(target["lastScrape"])
            return all(len(moments) >= 3 for moments in seen.values()) and seen

        wait_for(scraped, "scrapes by Prometheus", 15)

    def check_healthy(self):
        for job, target in self.targets().items():
            assert target["health"] == "up" and not target["lastError"], (job, target)
