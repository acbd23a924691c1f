"""Health, readiness and the metrics answers."""

import shutil

import pytest
import requests

from problems import check_problem
from service import REPOSITORY, wait_for


@pytest.mark.parametrize("path", ["/live", "/api/health/live", "/ready", "/api/health/ready"])
def test_live_and_ready(service, path):
    answer = service.get(path)
    assert answer.status_code == 200
    assert service.head(path).status_code == 200
    assert "no-" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/health", "/api/health"])
def test_health(service, path):
    answer = service.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    health = answer.json()
    assert set(health) == {"status", "version", "uptimeSeconds", "checks"}
    assert health["status"] == "ok"
    assert health["version"] == (REPOSITORY / "VERSION").read_text().strip()
    assert 0 <= health["uptimeSeconds"] < 86400
    assert set(health["checks"]) == {"storage", "metadata"}
    for check in health["checks"].values():
        assert set(check) == {"status", "latencyMs"}
        assert check["status"] == "ok" and 0 <= check["latencyMs"] < 10_000


def test_uptime_grows(service):
    first = service.get("/health").json()["uptimeSeconds"]
    wait_for(lambda: service.get("/health").json()["uptimeSeconds"] > first, "uptime grows", 5)


@pytest.mark.local("moves DATA_DIR away; test_fault_store does the same to a store")
def test_store_that_is_away_is_not_ready_and_comes_back(start_service):
    service = start_service()
    service.expect_5xx = True
    file = service.create(b"kept")
    away = service.folder / "away"
    service.data_dir.rename(away)
    wait_for(lambda: service.get("/ready").status_code == 503, "not ready", 10)
    answer = service.get("/ready")
    assert answer.headers["Content-Type"].split(";")[0] in (
        "application/problem+json", "application/json",
    )
    assert service.get("/live").status_code == 200
    # Each part is asked by itself, once a second: one may be known to be away before the other.
    wait_for(lambda: service.get("/health").status_code == 503, "down", 5)
    assert service.get("/health").json()["status"] == "down"
    refused = service.upload(b"x")
    check_problem(refused, 503)
    assert int(refused.headers["Retry-After"]) >= 1
    assert not service.data_dir.exists(), "a vanished DATA_DIR was made anew"
    away.rename(service.data_dir)
    wait_for(lambda: service.get("/ready").status_code == 200, "ready again", 10)
    assert service.get(f"/api/files/{file['id']}").content == b"kept"
    service.create(b"new")


@pytest.mark.local("moves the folder of objects away; test_fault_store does the same to a store")
def test_deletes_and_lists_while_the_bytes_are_away(start_service):
    """From its acknowledged delete on nobody reads a file, whatever the store does."""
    service = start_service(SWEEP_INTERVAL_SECONDS="0")
    service.expect_5xx = True
    gone, kept = service.create(b"gone" * 99), service.create(b"kept" * 99)
    objects, away = service.data_dir / "objects", service.data_dir / "objects.away"
    objects.rename(away)
    path = f"/api/files/{gone['id']}"
    check_problem(service.get(path), 503)
    check_problem(service.upload(b"x"), 503)
    assert service.get("/api/files").json()["total"] == 2
    assert service.delete(path).json() == {"id": gone["id"], "deleted": True}
    check_problem(service.get(path), 404, "not_found")
    assert service.get("/api/files").json()["total"] == 1
    away.rename(objects)
    wait_for(lambda: service.get("/ready").status_code == 200, "ready again", 10)
    check_problem(service.get(path), 404, "not_found")
    assert service.get(f"/api/files/{kept['id']}").content == b"kept" * 99
    service.coffer("gc")
    held = list(service.objects())
    assert len(held) == 1 and held[0].read_bytes() == b"kept" * 99


@pytest.mark.local("removes DATA_DIR")
def test_vanished_data_dir_is_not_made_anew_by_a_restart(start_service):
    service = start_service()
    service.create(b"x")
    service.stop()
    shutil.rmtree(service.data_dir)
    service.expect_unclean = True
    service.launch()
    wait_for(lambda: service.process.poll() is not None or service_is_unready(service),
             "refuses or stays unready", 20)
    assert not list(service.data_dir.glob("**/*.sqlite"))


def service_is_unready(service):
    try:
        return service.get("/ready").status_code == 503
    except requests.RequestException:
        return False


@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
def test_metrics_in_both_formats(service, path):
    text = service.metrics_text(path=path)
    assert text.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    service.create(b"x")
    assert service.metrics(path)
    openmetrics = service.metrics_text("application/openmetrics-text; version=1.0.0", path)
    assert openmetrics.headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0"
    )
    assert openmetrics.text.endswith("# EOF\n")
    assert service.parse_openmetrics(openmetrics.text)


def test_on_the_loopback_of_ipv6(start_service):
    service = start_service(GATEWAY_HOST="::1")
    file = service.create(b"six")
    assert service.get(f"/api/files/{file['id']}").content == b"six"
    assert service.get("/health").json()["status"] == "ok"


def test_uploads_downloads_and_deletes_are_counted(start_service):
    service = start_service()
    content = b"x" * 12345
    file = service.create(content)
    path = f"/api/files/{file['id']}"
    service.get(path)
    service.delete(path)

    def counted():
        return (
            service.metric("files_uploaded_total"), service.metric("upload_bytes_total"),
            service.metric("files_downloaded_total"), service.metric("download_bytes_total"),
            service.metric("files_deleted_total"),
            service.metric("http_requests_total", route="/api/files/:id", method="DELETE",
                           status="200"),
        )

    wait_for(lambda: counted() == (1, 12345, 1, 12345, 1, 1), "counted", 5)
