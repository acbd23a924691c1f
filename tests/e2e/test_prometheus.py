"""A real Prometheus scrapes a live service: what it stored agrees with what the service shows, no
counter is ever seen going down, and exemplars lead to the request."""

import json
import re
import subprocess
import time

import pytest

from exchanges import call
from prometheus import Prometheus
from samples import unique
from service import REPOSITORY, running, wait_for
from test_metrics_live import (MERGE_PATCH, OPENMETRICS, PROGRAMS, check_exact, known_work,
                               settled)

# What a scrape itself moves.
OF_SCRAPES = re.compile(
    r"^(process_|http_requests_in_flight|auth_attempts|\w+_connections)|metrics")
# Added by Prometheus.
OWN = re.compile(r"^(up|scrape_)")


pytestmark = pytest.mark.local("about the scrape, whatever the stores")


@pytest.fixture(scope="module")
def live():
    """One service under one Prometheus; the tests go by what grows."""
    for service in running():
        with Prometheus(service) as prometheus:
            prometheus.wait_for_scrape()
            yield service, prometheus


def comparable(samples):
    """Without what scrapes move, and with `le` as a number."""
    found = {}
    for (name, labels), value in samples.items():
        if OWN.search(name) or OF_SCRAPES.search(f"{name} {labels}"):
            continue
        pairs = tuple((key, float(text) if key == "le" else text) for key, text in labels)
        found[(name, pairs)] = value
    return found


def ours(expected):
    """What nobody else asks for: health is looked at by the launcher, too."""
    return {row: count for row, count in expected.items() if row[1] != "/live"}


def openmetrics_samples(service):
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in service.parse_openmetrics(service.metrics_text(OPENMETRICS).text)
            for sample in family.samples}


def test_prometheus_the_parsers_and_promtool_agree(live):
    service, prometheus = live
    start = settled(service)
    expected = known_work(service, 4)
    shown = comparable(settled(service))
    assert len(shown) > 300
    assert comparable(openmetrics_samples(service)) == shown
    prometheus.wait_for_scrape()
    prometheus.check_healthy()
    assert comparable(prometheus.query('{job="programs"}')) == shown
    check_exact(start, prometheus.query('http_requests_total{job="programs"}'), ours(expected))
    metadata = prometheus.ask("metadata")
    assert metadata["http_requests"][0]["type"] == "counter"
    assert metadata["http_request_duration_seconds"][0] == {
        "type": "histogram", "unit": "seconds",
        "help": "Time from the first byte of a request to the end of its answer."}
    for path in ("/metrics", "/api/metrics"):
        text = service.metrics_text("text/plain", path).content
        checked = subprocess.run(["promtool", "check", "metrics"], input=text,
                                 capture_output=True, check=False)
        assert checked.returncode == 0 and not checked.stderr, checked.stderr.decode()


def test_five_kills_of_each_program_under_the_eyes_of_prometheus(live):
    service, prometheus = live
    service.expect_5xx = True
    expected = known_work(service, 1)
    start = settled(service)
    rounds = 5
    for _ in range(rounds):
        for program in PROGRAMS:
            pids = service.kill(program)
            wait_for(lambda: set(service.pids(program)) - set(pids), f"{program} is back", 10)
        wait_for(lambda: call(service.port, "GET", "/api/metrics").status == 200, "metrics", 10)
        known_work(service, 2)
    grown = ours(dict.fromkeys(expected, 2 * rounds))
    check_exact(start, settled(service), grown)
    prometheus.wait_for_scrape()
    check_exact(start, prometheus.query('http_requests_total{job="programs"}'), grown)
    counters = {name for name, _ in service.metrics()
                if re.search("_(total|bucket|count|sum)$", name)}
    assert len(counters) > 20
    for name in counters:  # resets() drops the name: one at a time
        assert len(prometheus.query(name)) or name.startswith("process_"), name
        falls = prometheus.query(f"resets({name}[10m]) > 0")
        assert not falls, f"{name}: {falls}"


def test_exemplars_lead_to_the_request(live):
    service, prometheus = live
    created = service.create(b"x" * 1000)
    path = f"/api/files/{created['id']}"
    sent = {}  # trace id: (method, route)
    for number, (method, route, status) in enumerate((
            ("PUT", "/api/files/upload/:name", 201), ("GET", "/api/files/:id", 200),
            ("GET", "/api/files", 200), ("PATCH", "/api/files/:id", 200),
            ("GET", "/api/files/:id/meta", 200), ("DELETE", "/api/files/:id", 200))):
        trace_id = f"{number + 1:08x}{unique().encode().hex():0>24.24}"
        target = path + "/meta" if route.endswith("/meta") else route.replace(
            "/api/files/:id", path).replace(":name", unique())
        answer = service.request(
            method, target, headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01",
                                     **(MERGE_PATCH if method == "PATCH" else {})},
            data={"PUT": b"abc", "PATCH": b"{}"}.get(method))
        assert answer.status_code == status, answer.text
        assert answer.headers["traceparent"].split("-")[1] == trace_id
        sent[trace_id] = (method, route)
    before = time.time()
    text = service.metrics_text(OPENMETRICS).text
    shown = {sample.exemplar.labels["trace_id"]: sample
             for family in service.parse_openmetrics(text) for sample in family.samples
             if sample.exemplar and sample.name == "http_request_duration_seconds_bucket"}
    for trace_id, (method, route) in sent.items():
        sample = shown[trace_id]
        assert (sample.labels["method"], sample.labels["route"]) == (method, route)
        assert 0 < sample.exemplar.value <= float(sample.labels["le"])
        assert abs(float(sample.exemplar.timestamp) - before) < 60
    assert " # {" not in service.metrics_text("text/plain").text

    def stored(family):
        return {exemplar["labels"]["trace_id"]: (labels, float(exemplar["value"]))
                for labels, exemplar in prometheus.exemplars(f'{family}_bucket{{job="programs"}}')}

    wait_for(lambda: set(sent) <= set(stored("http_request_duration_seconds")),
             "exemplars in Prometheus", 15)
    for trace_id, (labels, value) in stored("http_request_duration_seconds").items():
        if trace_id in sent:
            assert (labels["method"], labels["route"]) == sent[trace_id]
            assert value == shown[trace_id].exemplar.value
    # Operations of the store and of the metadata carry the trace of the request they were for.
    assert set(sent) & set(stored("metadata_operation_duration_seconds"))
    assert set(sent) & set(stored("storage_operation_duration_seconds"))


# ---- the rules that come with it ----

RULES = REPOSITORY / "infrastructure/prometheus/alerts.yml"


def test_the_rules_fire_for_what_the_service_shows(live, tmp_path):
    service, _ = live
    checked = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True,
                             check=False)
    assert checked.returncode == 0, checked
    assert service.metric("uploads_refused") == 0
    assert service.metric("orphans_held_back") == 0

    def case(name, alert, values):
        return {"interval": "30s",
                "input_series": [{"series": name + '{instance="a:1"}', "values": values}],
                "promql_expr_test": [
                    {"eval_time": when, "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                     "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}
                    for when, fires in (("1m", False), ("2m30s", True), ("3m30s", False))]}

    cases = tmp_path / "cases.yml"
    cases.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [
        case("uploads_refused", "CofferUploadsRefused", "0 0 1 1 1 1 0"),
        case("orphans_held_back", "CofferOrphansHeldBack", "0 0 120 120 150 150 0")]}))
    tested = subprocess.run(["promtool", "test", "rules", cases], capture_output=True, text=True,
                            check=False)
    assert tested.returncode == 0, tested
