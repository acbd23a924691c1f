"""One request in everything that tells of it: the answer, the gateway's log and the program's,
Elasticsearch, the error report, both exemplars and the spans all have its two ids."""

import secrets

import pytest

from bugsink import Bugsink
from collector import Collector
from elasticsearch import Elasticsearch, Shipper
from samples import TEXT
from service import Service, wait_for
from test_report import lose_bytes

pytestmark = pytest.mark.local("bytes are taken from the folder")


@pytest.fixture
def observed():
    """A service, and everything that it can tell of itself to."""
    with Bugsink() as tracker, Collector() as collector, Elasticsearch() as store:
        made = store.install_templates()
        assert made.returncode == 0, made.stderr
        project = tracker.project()
        service = Service(SENTRY_DSN=project.dsn, ENVIRONMENT="oneid",
                          OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
        service.expect_5xx = service.expect_damage = True
        try:
            service.start()
            with Shipper(store, service.log_file):
                yield service, project, collector, store
        finally:
            service.close()


class Asked:
    """A request with ids of its own, that fails."""

    def __init__(self, service):
        self.request_id = f"one-{secrets.token_hex(6)}"
        self.trace, self.span = secrets.token_hex(16), secrets.token_hex(8)
        content = secrets.token_bytes(40)
        file = service.create(content)
        lose_bytes(service, content)
        self.answer = service.get(f"/api/files/{file['id']}", headers={
            "X-Request-Id": self.request_id,
            "traceparent": f"00-{self.trace}-{self.span}-01"})
        assert self.answer.status_code == 500

    def is_in(self, line):
        return line.get("http.request.id") == self.request_id and line["trace.id"] == self.trace

    def check_lines(self, lines):
        """The gateway's and the program's, and no other."""
        assert {line["service.name"] for line in lines} == {"coffer-gateway", "coffer-files_get"}
        assert len(lines) == 2
        for line in lines:
            assert line["trace_id"] == self.trace
            assert line["http.response.status_code"] == 500
            assert line["log.level"] == line["level"] == "error"


def test_one_request_in_all_that_tells_of_it(observed):
    service = observed[0]
    service.create(TEXT)  # others are in all of them, too
    asked = Asked(service)
    service.get("/api/files")
    check_answer(asked)
    check_logs(observed, asked)
    check_elasticsearch(observed, asked)
    check_error_report(observed, asked)
    check_exemplar(observed, asked, "/metrics")
    check_exemplar(observed, asked, "/api/metrics")
    check_spans(observed, asked)


def check_answer(asked):
    problem = asked.answer.json()
    assert asked.answer.headers["X-Request-Id"] == problem["requestId"] == asked.request_id
    assert asked.answer.headers["traceparent"].split("-")[1] == problem["traceId"] == asked.trace


def check_logs(observed, asked):
    service = observed[0]

    def lines():
        found = [line for line in service.all_log_lines() if asked.trace == line.get("trace.id")]
        return found if len(found) > 1 else None

    found = wait_for(lines, "both lines")
    assert all(asked.is_in(line) for line in found)
    asked.check_lines(found)


def check_elasticsearch(observed, asked):
    store = observed[3]
    for query in ({"term": {"trace_id": asked.trace}}, {"term": {"trace.id": asked.trace}},
                  {"term": {"http.request.id": asked.request_id}}):
        def look(query=query):
            found = store.find("logs-*", query)
            return found if len(found) > 1 else None

        found = wait_for(look, f"two lines of {query}", 60, 0.5)
        asked.check_lines(found)


def check_error_report(observed, asked):
    [event] = observed[1].wait_for(1)
    trace = event["contexts"]["trace"]
    assert event["tags"]["request_id"] == asked.request_id
    assert trace["trace_id"] == asked.trace
    assert trace["span_id"] == asked.answer.headers["traceparent"].split("-")[2]


def check_exemplar(observed, asked, path):
    """Of the gateway's and of the program's duration of this very kind of request."""
    service = observed[0]

    def exemplars():
        text = service.metrics_text("application/openmetrics-text", path).text
        return [sample.labels for family in service.parse_openmetrics(text)
                for sample in family.samples
                if sample.name == "http_request_duration_seconds_bucket"
                and sample.exemplar and sample.exemplar.labels["trace_id"] == asked.trace]

    [labels] = wait_for(exemplars, "an exemplar with the trace's id")
    assert (labels["method"], labels["route"]) == ("GET", "/api/files/:id")


def check_spans(observed, asked):
    spans = observed[2].wait_for(lambda spans: len(spans) > 2, asked.trace)
    whole = {span.service: span for span in spans if span.kind == 2}
    assert set(whole) == {"coffer-gateway", "coffer-files_get"}
    assert whole["coffer-gateway"].parent == asked.span
    assert whole["coffer-files_get"].parent == whole["coffer-gateway"].id
    for span in whole.values():
        assert span.attributes["http.request.id"] == asked.request_id and span.failed
