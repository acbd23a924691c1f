"""What opens a store is told nowhere: not in a log, an answer, a metric, a command line or what the
admin command prints; whether it came from the environment or from a file, and when it is wrong."""

import subprocess

import pytest

import backends
from exchanges import call, log_faults
from faultproxy import FaultProxy
from samples import MIB, random_bytes
from service import read_proc, wait_for

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite", "minio+mongodb", "libs3+sqlite")

NAMES = ("S3_ACCESS_KEY", "S3_SECRET_KEY")
PATHS = ("/live", "/ready", "/health", "/metrics", "/api/metrics", "/api/files", "/nowhere")


def work(service):
    """Every kind of call that reaches a store; all that was answered."""
    said = []
    for content in (b"", b"x", random_bytes(11 * MIB, seed=1)):
        made = call(service.port, "PUT", "/api/files/upload/a", content)
        said.append(made)
        if made.status == 201:
            path = f"/api/files/{made.json()['id']}"
            said += [call(service.port, method, path) for method in ("GET", "HEAD", "DELETE")]
    said += [call(service.port, "GET", path) for path in PATHS]
    return "".join(f"{each.headers}" + each.body[:65536].decode(errors="replace") for each in said)


def everything_said(service):
    said = [service.output(), service.gateway_log(), service.log_file.read_text()]
    for command in (["config"], ["config", "--shell"], ["fsck"], ["gc"], ["init"]):
        done = service.coffer(*command, check=False)
        # The launcher evaluates this one; nobody else is shown it.
        said += [done.stderr] if "--shell" in command else [done.stdout, done.stderr]
    said += [read_proc(pid, "cmdline").decode(errors="replace") for pid in service.all_pids()]
    said.append(subprocess.run(["ps", "-eo", "args", "ww"], capture_output=True, text=True,
                               check=True).stdout)
    return "\n".join(said)


def check_nothing_told(service, secrets):
    said = work(service) + everything_said(service)
    for secret in secrets:
        assert secret not in said, f"told: {said[max(said.index(secret) - 300, 0):][:400]}"
    assert not log_faults(service.log_file, secrets)


@pytest.mark.core
@pytest.mark.parametrize("way", ["environment", "files"])
def test_secrets_are_told_nowhere(start_service, tmp_path, way):
    stores = backends.current().open(None)
    settings, secrets = {}, [stores.settings()["S3_SECRET_KEY"]]
    if way == "files":
        for name in NAMES:
            file = tmp_path / name
            file.write_text(stores.settings()[name] + "\n")
            settings.update({name: "", f"{name}_FILE": str(file)})
    service = start_service(stores=stores, LOG_LEVEL="debug", **settings)
    check_nothing_told(service, secrets)
    if way == "files":
        # Not even in the environment of what was started.
        for pid in service.all_pids():
            for secret in secrets:
                assert secret.encode() not in read_proc(pid, "environ")


@pytest.mark.parametrize("name", NAMES)
def test_secrets_that_the_store_refuses_are_told_nowhere(start_service, name):
    """Its answers name the key and what was signed: neither gets into ours."""
    stores = backends.current().open(None)
    service = start_service(stores=stores)
    service.stop()
    service.expect_5xx = service.expect_unclean = True
    wrong = "wrong-but-secret-0123456789abcdef"
    service.extra_env[name] = wrong
    service.launch()
    wait_for(lambda: service.process.poll() is not None or
             call(service.port, "GET", "/live", timeout=2).status == 200, "up or refused", 40)
    secrets = [wrong, stores.settings()["S3_SECRET_KEY"]]
    if service.process.poll() is None:
        assert call(service.port, "GET", "/ready").status == 503
        check_nothing_told(service, secrets if name == "S3_SECRET_KEY" else secrets[1:])
    said = everything_said(service)
    assert secrets[1] not in said and (name == "S3_ACCESS_KEY" or wrong not in said)


@pytest.mark.backends("s3+mongodb", "s3+sqlite", "minio+mongodb")
def test_a_session_token_is_told_nowhere(start_service):
    """The test servers know none: the proxy sees that it was sent."""
    stores = backends.current().open(None)
    token = "session-0123456789-abcdefghijklmnop"
    with FaultProxy(stores.objects.store.endpoint) as proxy:
        service = start_service(stores=stores)
        service.stop()
        service.expect_5xx = service.expect_unclean = True
        service.extra_env.update(S3_SESSION_TOKEN=token, S3_ENDPOINT=proxy.endpoint)
        service.launch()
        wait_for(lambda: service.process.poll() is not None or
                 call(service.port, "GET", "/live", timeout=2).status == 200, "up or refused", 40)
        sent = [each for each in proxy.requests()
                if each["headers"].get("x-amz-security-token") == token]
        assert sent
        said = everything_said(service)
        if service.process.poll() is None:
            said += work(service)
        assert token not in said
        service.close()
