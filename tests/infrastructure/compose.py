"""The compose files, resolved: variables by their defaults, anchors and merges by YAML; and the rules that every
service keeps. With a real Docker the same rules run on what `docker compose config` says."""

import re
from pathlib import Path

import yaml

from monitoring import INFRASTRUCTURE, REPOSITORY

FOLDER = REPOSITORY / "docker"
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::?-([^}]*))?\}")
LOOPBACK = "127.0.0.1"
PASSWORD = re.compile(r"(pass(word|wd)?|secret|token|api_?key|_key)$", re.IGNORECASE)
WELL_KNOWN = ("changeme", "minioadmin", "password", "admin123", "secret")

# What a service may do that others may not, and why.
EXEMPT = {
    ("cadvisor", "root"): "reads the cgroups and layers of all containers",
    ("elasticsearch", "read-only"): "its start writes a keystore into its own folder",
    ("kibana", "read-only"): "its start writes bundles into its own folder",
    ("kibana-user", "restart"): "runs once", ("kibana-user", "health"): "runs once",
    ("coffer", "restart"): "restarted by the watch, and a build that failed is to be seen",
    ("mongodb-exporter", "health"): "its image has neither shell nor client; TargetDown tells",
    ("alloy", "health"): "its image has no client", ("loki", "health"): "its image has no client",
    ("bugsink", "health"): "its image has no client; Coffer waits for no tracker",
    ("gateway", "health"): "in the image", ("backend", "health"): "in the image",
    ("minio", "health"): "in the image",
    ("gateway", "beyond loopback"): "it is what clients reach, where PUBLISH_ADDRESS says so",
}


def resolve(text, environment=None):
    """Variables as `docker compose` puts them in, `$$` for a dollar."""
    environment = environment or {}

    def put(match):
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[2] or "")

    return VARIABLE.sub(put, text)


def names():
    return sorted(path.name for path in FOLDER.glob("compose.*.yaml"))


def load(name, environment=None):
    return yaml.safe_load(resolve((FOLDER / name).read_text(), environment))


def seconds(text):
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", str(text))
    return int(found[1] or 0) * 60 + int(found[2] or 0)


def published(service):
    """(address, port) of each published port, in either form."""
    for port in service.get("ports", []):
        if isinstance(port, dict):
            yield port.get("host_ip", "0.0.0.0"), int(port["published"])
        else:
            *address, outside, _ = port.rsplit(":", 2)
            yield (address[0] if address else "0.0.0.0"), int(outside)


def stop_seconds(service, name):
    """What the programs inside take at most until they have stopped."""
    settings = service.get("environment") or {}
    drains = name in ("gateway", "backend", "coffer")
    return 2 * int(settings.get("STOP_GRACE_SECONDS", 20)) if drains else 10


def check_service(name, service):
    """What breaks a rule, but for the exemptions; and which of those it needs."""
    broken = []

    def rule(title, kept):
        if not kept:
            broken.append(title)

    user = str(service.get("user", "0")).split(":", maxsplit=1)[0]
    rule("root", user not in ("0", "root"))
    rule("read-only", service.get("read_only") is True)
    rule("capabilities", service.get("cap_drop") == ["ALL"] and not service.get("cap_add"))
    rule("privileges", service.get("security_opt") == ["no-new-privileges:true"]
         and not service.get("privileged"))
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    rule("memory", service.get("mem_limit") or limits.get("memory"))
    rule("cpu", float(service.get("cpus") or limits.get("cpus") or 0) > 0)
    rule("pids", int(service.get("pids_limit") or limits.get("pids") or 0) > 0)
    rule("restart", service.get("restart") == "unless-stopped")
    options = service.get("logging", {}).get("options", {})
    rule("log rotation", options.get("max-size") and options.get("max-file"))
    rule("health", (service.get("healthcheck") or {}).get("test"))
    rule("stop", seconds(service.get("stop_grace_period", "10s")) > stop_seconds(service, name))
    image = service.get("image", "")
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    rule("pinned tag", re.search(r"\d", tag) and tag != "latest" and "bitnami" not in image)
    rule("beyond loopback", all(address == LOOPBACK for address, _ in published(service)))
    rule("host namespaces", service.get("network_mode") != "host" and service.get("ipc") != "host")
    for key, value in (service.get("environment") or {}).items():
        rule(f"secret in the environment: {key}", not (PASSWORD.search(key) and value))
        rule(f"a password that everybody knows: {key}", str(value).lower() not in WELL_KNOWN)
    for other in (service.get("depends_on") or {}):
        rule("depends_on by condition", isinstance(service["depends_on"], dict)
             and "condition" in service["depends_on"][other])
    return broken


def check(name, document):
    problems = []
    ports = {}
    for service_name, service in document["services"].items():
        for problem in check_service(service_name, service):
            if (service_name, problem) not in EXEMPT:
                problems.append(f"{name}: {service_name}: {problem}")
        for address in published(service):
            if address in ports:
                problems.append(f"{name}: {service_name} and {ports[address]} publish {address}")
            ports[address] = service_name
        networks = list(service.get("networks") or ["default"])
        internal = [network for network in networks
                    if (document.get("networks") or {}).get(network, {}) and
                    document["networks"][network].get("internal")]
        if service.get("ports") and len(internal) == len(networks):
            problems.append(f"{name}: {service_name}: a port on internal networks alone is not published")
        for secret in service.get("secrets", []):
            secret = secret["source"] if isinstance(secret, dict) else secret
            if secret not in document.get("secrets", {}):
                problems.append(f"{name}: {service_name}: secret {secret} is not declared")
    return problems


def mounted(document):
    """Files of the tree that services mount."""
    for service in document["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("../infrastructure"):
                yield Path(FOLDER / source).resolve()


def secrets_needed(document):
    folder = INFRASTRUCTURE / "secrets"
    files = [each["file"] for each in document.get("secrets", {}).values()]
    for service in document["services"].values():
        files += service.get("env_file") or []
    return {(FOLDER / file).resolve().relative_to(folder.resolve()).name for file in files}
