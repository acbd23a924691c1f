"""The compose files keep their rules, and `make secrets` makes what they need."""

import json
import re
import stat
import subprocess

import pytest
import yaml

import compose
from monitoring import INFRASTRUCTURE, REPOSITORY

SECRETS = INFRASTRUCTURE / "scripts" / "make-secrets"


@pytest.fixture(scope="module", name="files")
def resolved_files():
    return {name: compose.load(name) for name in compose.names()}


def test_the_four_files_are_there(files):
    assert set(files) == {f"compose.{kind}.yaml" for kind in
                          ("development", "production", "infrastructure", "monitoring")}
    for document in files.values():
        assert "version" not in document and document["name"].startswith("coffer")


@pytest.mark.parametrize("name", compose.names())
def test_each_service_keeps_the_rules(files, name):
    assert not compose.check(name, files[name])


def test_no_exemption_is_left_over(files):
    needed = {(name, problem) for document in files.values()
              for name, service in document["services"].items()
              for problem in compose.check_service(name, service)}
    beyond = compose.load("compose.production.yaml", {"PUBLISH_ADDRESS": "0.0.0.0"})
    needed |= {(name, problem) for name, service in beyond["services"].items()
               for problem in compose.check_service(name, service)}
    assert set(compose.EXEMPT) <= needed
    assert not compose.check("beyond", beyond)


def test_production_publishes_the_gateway_alone(files):
    services = files["compose.production.yaml"]["services"]
    assert [name for name, service in services.items() if service.get("ports")] == ["gateway"]
    assert list(compose.published(services["gateway"])) == [("127.0.0.1", 5921)]
    networks = files["compose.production.yaml"]["networks"]
    assert networks["app-network"]["internal"] and networks["monitoring-network"]["internal"]
    # A fixed name or port would stand in the way of --scale.
    assert not {"container_name", "ports", "hostname"} & set(services["backend"])
    assert services["gateway"]["depends_on"] == {"backend": {"condition": "service_healthy"}}
    for service in services.values():
        assert service["stop_signal"] == "SIGINT"
    # The gateway finds backends in the one network whose addresses they trust.
    assert services["gateway"]["environment"]["GATEWAY_NODES"] == "nodes:3847"
    aliases = {name: (network or {}).get("aliases")
               for name, network in services["backend"]["networks"].items()}
    assert aliases == {"app-network": ["nodes"], "monitoring-network": None}
    assert (services["backend"]["environment"]["TRUSTED_PROXIES"]
            == networks["app-network"]["ipam"]["config"][0]["subnet"])


def test_the_monitoring_finds_its_services(files):
    services = {**files["compose.production.yaml"]["services"],
                **files["compose.infrastructure.yaml"]["services"]}
    config = yaml.safe_load((INFRASTRUCTURE / "prometheus/prometheus.yml").read_text())
    for scrape in config["scrape_configs"]:
        for found in scrape.get("dns_sd_configs", []):
            (name,) = found["names"]
            assert "monitoring-network" in services[name]["networks"], name


def test_two_files_side_by_side_do_not_clash(files):
    parts = [files["compose.production.yaml"], files["compose.infrastructure.yaml"]]
    both = {"services": {**parts[0]["services"], **parts[1]["services"]},
            "networks": {**parts[0]["networks"], **parts[1]["networks"]},
            "secrets": {**parts[0]["secrets"], **parts[1]["secrets"]}}
    assert not compose.check("both", both)
    for shared in set(parts[0]["networks"]) & set(parts[1]["networks"]):
        assert parts[0]["networks"][shared] == parts[1]["networks"][shared]


def test_what_is_mounted_is_there(files):
    for document in files.values():
        for path in compose.mounted(document):
            assert path.exists(), path


def make_secrets(folder, *arguments, **environment):
    done = subprocess.run([SECRETS, *arguments], capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/bin:/bin", "SECRETS_DIR": str(folder), **environment})
    return done.stdout


def test_secrets_are_made_once_random_and_all_that_is_needed(files, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    make_secrets(first)
    make_secrets(second)
    made = {path.name: path.read_text() for path in first.iterdir()}
    needed = set().union(*(compose.secrets_needed(document) for document in files.values()))
    assert needed <= set(made)
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    for name, text in made.items():
        if name not in ("slack_webhook_url", "smtp_password", "alertmanager.yml"):
            assert len(text) >= 16 and text != (second / name).read_text(), name
    assert make_secrets(first) == ""
    assert {path.name: path.read_text() for path in first.iterdir()} == made
    identities = json.loads(made["seaweedfs_s3.json"])["identities"]
    assert [each["credentials"][0]["secretKey"] for each in identities] == [
        made["s3_admin_secret_key"], made["s3_secret_key"]]
    assert f":{made['mongodb_password']}@mongodb:27017/coffer" in made["mongodb_uri"]
    assert "_KEY" not in made["seaweedfs_s3.json"]


def test_a_dry_run_makes_nothing_and_a_slack_address_brings_its_receiver(tmp_path):
    folder = tmp_path / "none"
    assert "would make" in make_secrets(folder, "--dry-run") and not folder.exists()
    make_secrets(folder, SLACK_WEBHOOK_URL="https://hooks.example.net/x")
    text = (folder / "alertmanager.yml").read_text()
    assert "slack_configs" in text and "email_configs" not in text
    assert "hooks.example.net" not in text


def test_secrets_are_out_of_version_control():
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/infrastructure/secrets/" in ignored


@pytest.mark.parametrize("change, problem", [
    ({"user": "0:0"}, "root"), ({"read_only": False}, "read-only"), ({"cap_add": ["NET_RAW"]}, "capabilities"),
    ({"privileged": True}, "privileges"), ({"mem_limit": None}, "memory"), ({"cpus": 0}, "cpu"),
    ({"pids_limit": None}, "pids"), ({"restart": "always"}, "restart"), ({"logging": {}}, "log rotation"),
    ({"stop_grace_period": "40s"}, "stop"), ({"image": "coffer:latest"}, "pinned tag"),
    ({"ports": ["3847:3847"]}, "beyond loopback"), ({"network_mode": "host"}, "host namespaces"),
    ({"environment": {"S3_SECRET_KEY": "x"}}, "secret in the environment: S3_SECRET_KEY"),
    ({"depends_on": ["s3"]}, "depends_on by condition")], ids=lambda value: str(value)[:30])
def test_a_service_that_breaks_a_rule_is_found(files, change, problem):
    service = {**files["compose.production.yaml"]["services"]["backend"], **change}
    assert problem in compose.check_service("backend", service)


# ---- the images ----

def test_dockerfiles_pass_hadolint():
    paths = sorted((REPOSITORY / "docker").glob("*Dockerfile"))
    assert len(paths) == 2
    hadolint = REPOSITORY / ".cache/venv-infrastructure/bin/hadolint"
    done = subprocess.run([hadolint, "--no-color", "--ignore", "DL3003", *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_images_have_what_the_programs_load():
    text = (REPOSITORY / "docker/Dockerfile").read_text()
    assert set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)) == {
        "build", "files", "runtime", "gateway", "backend", "all-in-one"}
    assert "STOPSIGNAL SIGINT" in text and "USER 5921:5921" in text
    assert text.count("HEALTHCHECK") == 3


def test_minio_is_the_version_that_tests_run():
    text = (REPOSITORY / "docker/minio.Dockerfile").read_text()
    install = (REPOSITORY / "tests/servers/install").read_text()
    for name in ("module", "version", "sum"):
        pinned = re.search(rf"^minio_{name}=(\S+)$", install, re.MULTILINE)[1]
        assert f"={pinned}\n" in text


def test_yaml_files_pass_yamllint():
    paths = [*(REPOSITORY / "docker").glob("*.yaml"), *INFRASTRUCTURE.rglob("*.yml")]
    paths = [path for path in paths if "secrets" not in path.parts]
    yamllint = REPOSITORY / ".cache/venv-infrastructure/bin/yamllint"
    rules = ("{extends: default, rules: {line-length: disable, document-start: disable, "
             "comments: {min-spaces-from-content: 1}, braces: {max-spaces-inside: 1}}}")
    done = subprocess.run([yamllint, "--strict", "-d", rules, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
