"""Every PromQL expression of every dashboard, rule and document, asked of a real Prometheus that scraped a
live service under load, and exporters: none is an error, none of those that show something is empty."""

import re
import threading
import time

import pytest

import monitoring
from monitoring import REPOSITORY
from service import running, wait_for
from stack import Alertmanager, Expositions, MeasuredSeaweedFS, NodeExporter, Prometheus

# Shown from their first count on, for which a tracker, a collector or a sweep is needed.
FIRST_COUNT = ("otel_spans_total", "sentry_events_total", "swept_objects_total", "auth_attempts_total")
SELF_CHOSEN = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s", "$job": ".+",
               "$instance": ".+"}


def load(service, stop):
    while not stop.is_set():
        made = service.create(b"x" * 3000, name="load.bin")
        path = f"/api/files/{made['id']}"
        assert service.get(path).status_code == 200
        assert service.get(path + "/meta").status_code == 200
        assert service.get("/api/files?limit=5").status_code == 200
        assert service.patch(path, headers={"Content-Type": "application/merge-patch+json"},
                             data=b'{"metadata":{"a":"b"}}').status_code == 200
        assert service.delete(path).status_code == 200
        assert service.get(path).status_code == 404
        service.get("/ready")
        time.sleep(0.05)


@pytest.fixture(scope="module", name="stack")
def a_loaded_stack():
    """An Alertmanager, and targets of all jobs, with the service under load."""
    expositions, stop = Expositions(), threading.Event()
    for service in running():
        with NodeExporter() as node, MeasuredSeaweedFS() as store, Alertmanager("0.25", {}) as manager:
            clients = [threading.Thread(target=load, args=(service, stop), daemon=True)
                       for _ in range(2)]
            for client in clients:
                client.start()
            here = f"127.0.0.1:{service.port}"
            yield manager, {"coffer": (here, None), "coffer-gateway": (here, None),
                            "node": (f"127.0.0.1:{node.port}", None),
                            "s3": (f"127.0.0.1:{store.metrics_port}", None),
                            "alertmanager": (f"127.0.0.1:{manager.port}", None),
                            "mongodb": (f"127.0.0.1:{expositions.port}", "/mongodb"),
                            "cadvisor": (f"127.0.0.1:{expositions.port}", "/cadvisor")}
            stop.set()
            for client in clients:
                client.join(30)
                assert not client.is_alive()
    expositions.close()


@pytest.fixture(scope="module", params=["2.42", "3"])
def prometheus(request, stack):
    manager, targets = stack
    with Prometheus(request.param, targets, manager) as started:
        wait_for(lambda: len(started.query("up == 1")) == len(targets) + 1, "all targets are up", 60)
        # Rates need two samples, records of records one evaluation more.
        wait_for(lambda: started.query('count_over_time(job:http_requests:rate5m{job="coffer"}[5m]) > 5'),
                 "records", 60)
        yield started


def test_it_loads_the_committed_configuration(prometheus):
    """Of the version that is meant; one that was built from its module does not know its own."""
    (row,) = prometheus.query("prometheus_build_info")
    assert row["metric"].get("version", "3").startswith(prometheus.version)
    assert prometheus.query("prometheus_config_last_reload_successful == 1")


def test_every_panel_shows_something(prometheus):
    empty = []
    for where, expression in monitoring.dashboard_expressions():
        if not prometheus.query(monitoring.without_variables(expression, SELF_CHOSEN)):
            empty.append(f"{where}: {expression}")
    assert not [each for each in empty if not any(name in each for name in FIRST_COUNT)]


def test_every_record_has_series(prometheus):
    for rule in monitoring.rules("recording.yml"):
        assert prometheus.query(rule["record"]), rule["record"]


def test_every_expression_of_rules_and_documents_is_answered(prometheus):
    for _, expression in [*monitoring.rule_expressions(), *monitoring.document_expressions()]:
        prometheus.query(expression)
    groups = prometheus.ask("rules")["groups"]
    for group in groups:
        for rule in group["rules"]:
            assert rule["health"] == "ok", rule


def test_every_series_that_a_rule_names_is_there(prometheus):
    """With its labels, but for those values that only a fault makes."""
    source = (REPOSITORY / "shared/observe/metrics_families.c").read_text()
    for where, expression in monitoring.rule_expressions():
        for selector, _ in monitoring.selectors(monitoring.promql_parser.parse(expression)):
            if selector.name in FIRST_COUNT:
                assert f'"{selector.name.removesuffix("_total")}"' in source, where
                continue
            labels = ", ".join(f'{each.name}!=""' for each in selector.matchers.matchers
                               if each.name not in ("name", "__name__"))
            assert prometheus.query(f"{selector.name}{{{labels}}}"), f"{where}: {selector.name}"


def test_a_healthy_stack_fires_nothing(prometheus):
    """Files of expositions and this machine aside."""
    firing = {row["metric"]["alertname"] for row in prometheus.query('ALERTS{alertname=~"Coffer.*"}')}
    assert firing <= {"CofferBackupTooOld"}
    assert not re.search("err", " ".join(
        target["lastError"] for target in prometheus.ask("targets")["activeTargets"]))
