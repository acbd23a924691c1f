"""Alerts, records, dashboards and Alertmanager's routes: by promtool, amtool and monitoring.py."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

import monitoring
from monitoring import INFRASTRUCTURE, PROMETHEUS

CONFIGURE = INFRASTRUCTURE / "alertmanager" / "configure"
EMAIL = {"ALERT_EMAIL_TO": "ops@example.net", "SMTP_SMARTHOST": "mail.example.net:587"}
SLACK = {"SLACK_WEBHOOK_FILE": "/run/secrets/slack"}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_every_rule_of_the_monitoring_is_kept():
    assert not monitoring.check()


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.standalone.yml"])
def test_promtool_accepts_the_configuration(name):
    assert "SUCCESS" in run("promtool", "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / name)
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    assert config["global"]["scrape_interval"] == config["global"]["evaluation_interval"] == "15s"
    jobs = [each["job_name"] for each in config["scrape_configs"]]
    assert sorted(jobs) == ["alertmanager", "cadvisor", "coffer", "coffer-gateway", "mongodb", "node",
                            "prometheus", "s3"]


def test_each_alert_fires_when_it_should_and_only_then():
    files = sorted((PROMETHEUS / "tests").glob("*.yml"))
    assert len(files) == 2
    with ThreadPoolExecutor() as pool:
        for said in pool.map(lambda path: run("promtool", "test", "rules", path), files):
            assert "SUCCESS" in said


@pytest.mark.parametrize("settings, receivers", [
    ({}, []), (EMAIL, ["email_configs"]), (SLACK, ["slack_configs"]),
    ({**EMAIL, **SLACK, "SMTP_USERNAME": "coffer", "SMTP_REQUIRE_TLS": "false"},
     ["email_configs", "slack_configs"])], ids=["none", "email", "slack", "both"])
def test_alertmanager_takes_what_configure_prints(tmp_path, settings, receivers):
    path = tmp_path / "alertmanager.yml"
    path.write_text(run(CONFIGURE, env={"PATH": "/usr/bin:/bin", **settings}))
    run("amtool", "check-config", path)
    config = yaml.safe_load(path.read_text())
    assert [key for key in config["receivers"][0] if key != "name"] == receivers
    assert "example.org" not in path.read_text()
    login = "SMTP_USERNAME" in settings
    assert ("smtp_auth_password_file" in config.get("global", {})) == login
    assert "smtp_auth_password:" not in path.read_text()


@pytest.mark.parametrize("settings", [
    {"ALERT_EMAIL_TO": "a@b.c"}, {**EMAIL, "ALERT_EMAIL_FROM": "a|b"}, {**EMAIL, "SMTP_REQUIRE_TLS": "no"},
    {**SLACK, "SLACK_CHANNEL": "'\n"}])
def test_configure_refuses_what_would_not_work(settings):
    done = subprocess.run([CONFIGURE], env={"PATH": "/usr/bin:/bin", **settings},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("configure: ")


def test_amtool_accepts_the_committed_file_and_routes_by_severity():
    path = INFRASTRUCTURE / "alertmanager" / "alertmanager.yml"
    run("amtool", "check-config", path)
    for severity in monitoring.SEVERITIES:
        assert run("amtool", "config", "routes", "test", f"--config.file={path}",
                   f"severity={severity}").strip() == "operators"


# ---- Grafana ----

def provisioned(kind):
    folder = INFRASTRUCTURE / "grafana" / "provisioning" / kind
    return yaml.safe_load((folder / "coffer.yml").read_text())


def test_the_data_sources_are_those_that_dashboards_look_for():
    sources = {each["type"]: each for each in provisioned("datasources")["datasources"]}
    assert set(sources) == {"prometheus", "elasticsearch", "alertmanager", "loki"}
    assert [kind for kind, each in sources.items() if each.get("isDefault")] == ["prometheus"]
    for kind, source in sources.items():
        assert source["url"] == "${%s_URL}" % kind.upper() and source["editable"] is False
    assert sources["elasticsearch"]["jsonData"]["index"] == "logs-*"
    (provider,) = provisioned("dashboards")["providers"]
    assert provider["type"] == "file" and provider["allowUiUpdates"] is False


def test_there_are_the_eight_dashboards():
    titles = {each["title"] for each in monitoring.dashboards().values()}
    assert titles == {"Application Overview", "Infrastructure Health", "Backend API",
                      "Files and Storage", "MongoDB", "Containers", "Host System", "Logs"}


# ---- the checks themselves ----

def broken(monkeypatch, name, value):
    monkeypatch.setattr(monitoring, name, lambda *_: value)
    return "\n".join(monitoring.check())


def test_an_alert_without_its_parts_is_found(monkeypatch):
    rules = monitoring.alerts()
    bad = [{"alert": "CofferDown", "expr": "up == 0"}, {"alert": "CofferDown", "expr": "up == 0"},
           *rules[1:]]
    said = broken(monkeypatch, "alerts", bad)
    for problem in ("there are two", "no `for`", "no severity", "no summary", "its runbook is not"):
        assert f"CofferDown: {problem}" in said
    assert "no case" in broken(monkeypatch, "cases", {"CofferDown": [True]})


@pytest.mark.parametrize("change, problem", [
    (lambda board, panel: board.update(editable=True), "editable is not"),
    (lambda board, panel: board.update(uid=""), "no uid"),
    (lambda board, panel: panel.update(description=""), "no description"),
    (lambda board, panel: panel.update(targets=[]), "no target"),
    (lambda board, panel: panel["fieldConfig"]["defaults"].pop("unit"), "no unit"),
    (lambda board, panel: panel.update(datasource={"type": "prometheus", "uid": "x"}),
     "not a variable"),
    (lambda board, panel: board["templating"]["list"][1].update(refresh=1), "not refreshed"),
    (lambda board, panel: panel["targets"][0].update(expr="up{"), "up{"),
    (lambda board, panel: panel["targets"][0].update(expr='rate(x_total{job="a",instance="b"}[5m])'),
     "fixed range"),
    (lambda board, panel: panel["targets"][0].update(expr="up"), "without job and instance"),
    (lambda board, panel: panel["targets"][0].update(
        expr='sum(x_total{job=~"$job",instance=~"$instance"})'), "without rate")])
def test_a_dashboard_that_breaks_a_rule_is_found(monkeypatch, change, problem):
    boards = monitoring.dashboards()
    board = boards["backend-api.json"]
    change(board, board["panels"][1])
    assert problem in broken(monkeypatch, "dashboards", boards)
