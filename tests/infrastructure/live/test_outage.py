"""An outage reaches a real Alertmanager, and from it a webhook and an e-mail server; so does its end."""

import base64
import json
import urllib.request

import pytest

from service import Service, wait_for
from stack import Alertmanager, MailServer, Prometheus, Webhook

PASSWORD = "a password of 24 letters"


@pytest.fixture(scope="module")
def receivers(tmp_path_factory):
    hook, mail = Webhook(), MailServer()
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "slack").write_text(hook.url)
    (folder / "password").write_text(PASSWORD)
    settings = {"ALERT_EMAIL_TO": "ops@example.net", "SMTP_SMARTHOST": f"127.0.0.1:{mail.port}",
                "SMTP_USERNAME": "coffer", "SMTP_PASSWORD_FILE": str(folder / "password"),
                "SMTP_REQUIRE_TLS": "false", "SLACK_WEBHOOK_FILE": str(folder / "slack"),
                "DOCS_URL": "https://git.example.org/coffer/"}
    yield hook, mail, settings
    hook.close()
    mail.close()


@pytest.fixture(scope="module", params=["0.25", "0.35"])
def manager(request, receivers):
    with Alertmanager(request.param, receivers[2]) as started:
        yield started


def told(receivers, *words):
    """Whether both have a message with all the words."""
    hook, mail, _ = receivers
    return (any(all(word in json.dumps(body) for word in words) for body in hook.received)
            and any(all(word in text for word in words) for _, text in mail.received))


def test_an_outage_is_told_and_its_end_too(receivers, manager):
    hook, mail, _ = receivers
    hook.received.clear()
    mail.received.clear()
    service = Service().start()
    try:
        targets = {job: (f"127.0.0.1:{service.port}", None) for job in ("coffer", "coffer-gateway")}
        with Prometheus("3" if manager.version == "0.35" else "2.42", targets, manager,
                        hold="2s") as prometheus:
            wait_for(lambda: len(prometheus.query('up{job=~"coffer.*"} == 1')) == 2, "scraped", 30)
            assert not [each for each in manager.alerts()
                        if each["labels"]["alertname"].startswith("Coffer")]
            service.stop()
            wait_for(lambda: told(receivers, "FIRING", "CofferDown"), "told", 60)
            (body,) = [each for each in hook.received if "CofferDown" in json.dumps(each)][:1]
            assert body["channel"] == "#coffer"
            assert "https://git.example.org/coffer/docs/OPERATIONS.md#cofferdown" in json.dumps(body)
            login, text = [each for each in mail.received if "CofferDown" in each[1]][0]
            assert "To: ops@example.net" in text and "does not answer" in text
            assert PASSWORD in base64.b64decode(login.split()[-1]).decode()
            service.start()
            wait_for(lambda: told(receivers, "RESOLVED", "CofferDown"), "its end is told", 90)
    finally:
        service.close()


def post(manager, *alerts):
    body = json.dumps([{"labels": {"environment": "production", **each},
                        "annotations": {"summary": each["alertname"]}} for each in alerts])
    request = urllib.request.Request(f"http://127.0.0.1:{manager.port}/api/v2/alerts",
                                     body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("cause, consequence", [
    ("CofferDown", "CofferLatencyHigh"), ("CofferNoNode", "CofferErrorBudgetBurnsFast"),
    ("CofferStorageUnavailable", "CofferNodeLeftOut"), ("MongoDBDown", "CofferMetadataUnavailable")])
def test_a_cause_silences_what_follows_from_it(manager, cause, consequence):
    post(manager, {"alertname": cause, "severity": "critical", "instance": cause},
         {"alertname": consequence, "severity": "warning", "instance": cause},
         {"alertname": "HostMemoryLow", "severity": "warning", "instance": cause})

    def states():
        return {each["labels"]["alertname"]: each["status"]["state"] for each in manager.alerts()
                if each["labels"].get("instance") == cause}

    wait_for(lambda: states().get(consequence) == "suppressed", "silenced", 20)
    assert states()[cause] != "suppressed" and states()["HostMemoryLow"] != "suppressed"
