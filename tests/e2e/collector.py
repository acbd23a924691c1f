"""A real OpenTelemetry collector (servers.py, tests/servers/otelcol) on a free loopback port: what
it understood of the spans it was sent is read from the file that it writes.

    with Collector() as collector:
        Service(OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
        collector.wait_for(lambda spans: len(spans) == 3)
"""

import json
import socket

from servers import PROGRAMS, Server
from service import wait_for


def plain(values):
    """{key: value} of attributes; a number is an int."""
    found = {}
    for each in values:
        [(kind, value)] = each["value"].items()
        assert each["key"] not in found, f"{each['key']} twice"
        found[each["key"]] = int(value) if kind == "intValue" else value
    return found


class Span:
    def __init__(self, raw, resource, scope):
        self.raw, self.scope = raw, scope
        self.resource = plain(resource["attributes"])
        self.attributes = plain(raw.get("attributes", []))
        self.service = self.resource["service.name"]
        self.trace, self.id = raw["traceId"], raw["spanId"]
        self.parent = raw.get("parentSpanId", "")
        self.name, self.kind = raw["name"], raw["kind"]
        self.start, self.end = int(raw["startTimeUnixNano"]), int(raw["endTimeUnixNano"])
        self.failed = raw.get("status", {}).get("code") == 2

    def __repr__(self):
        return f"<{self.service} {self.name} {self.id} below {self.parent or 'nothing'}>"


class Collector(Server):
    name = program = "otelcol"

    @property
    def file(self):
        return self.folder / "spans"

    def command(self):
        settings = {
            "receivers": {"otlp": {"protocols": {"http": {
                "endpoint": f"127.0.0.1:{self.port}"}}}},
            "exporters": {"file": {"path": str(self.file), "flush_interval": "50ms"}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}}},
        }
        return [PROGRAMS / self.program, f"--config=yaml:{json.dumps(settings)}"]

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def answers(self):
        with socket.create_connection(("127.0.0.1", self.port), 5):
            return True

    def spans(self, trace=None):
        """All that were taken, in their order; those of one trace."""
        found = []
        text = self.file.read_text() if self.file.exists() else ""
        for line in text[:text.rfind("\n") + 1].splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += [Span(raw, resource["resource"], scope["scope"])
                              for raw in scope["spans"]]
        return [span for span in found if trace in (None, span.trace)]

    def wait_for(self, wanted, trace=None, seconds=20):
        """The spans, as soon as `wanted(spans)`."""
        def look():
            found = self.spans(trace)
            return found if wanted(found) else None

        try:
            return wait_for(look, "the spans that are waited for", seconds, 0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {self.spans(trace)}; the collector's log ends:\n"
                                 f"{self.log_end()}") from None
