"""Three nodes behind a gateway that answer as one service, so that the core of the suite runs on
them: what a test asks of a service's log and metrics is asked of every node."""

import json

from prometheus_client.parser import text_string_to_metric_families

from exchanges import call
from nodes import NodeSet


class Cluster(NodeSet):
    """`coffer-serve nodes` over stores that every node reaches."""

    def __init__(self, count=3, **options):
        super().__init__(count, **{"NODE_MODE": "cluster", **options})

    def ports(self):
        return [int(name.removeprefix("node-")) for name in self.nodes()]

    def log_files(self):
        return sorted(self.log_file.parent.glob(f"{self.log_file.name}*"))

    def log_lines(self):
        self.settle_log()
        lines = []
        for path in self.log_files():
            whole = path.read_bytes().split(b"\n")
            assert whole.pop() == b"", f"{path.name} doesn't end with a whole line"
            lines += [json.loads(line) for line in whole]
        return lines

    def metrics(self, path="/api/metrics", token=None):
        """The sums over all nodes; what the gateway answers is one node's."""
        if path != "/api/metrics":
            return super().metrics(path, token)
        summed = {}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        for port in self.ports():
            answer = call(port, "GET", path, headers=headers)
            assert answer.status == 200, str(answer)
            for family in text_string_to_metric_families(answer.body.decode()):
                for sample in family.samples:
                    key = sample.name, tuple(sorted(sample.labels.items()))
                    summed[key] = summed.get(key, 0) + sample.value
        return summed

    def in_flight(self):
        """Each node's scrape is a request of its own there."""
        return self.metric("http_requests_in_flight") - len(self.ports())
