"""The servers that other tests rely on: closed to strangers, whole after a kill, gone at the
end."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import servers
import sigv4

pytestmark = pytest.mark.thorough("about the servers that tests use")

SERVE = servers.REPOSITORY / "tests" / "servers" / "serve"
GIVEN = ("S3_TEST_ENDPOINT", "S3_TEST_ACCESS_KEY", "S3_TEST_SECRET_KEY", "S3_TEST_REGION",
         "MONGODB_TEST_URI")


@pytest.fixture(scope="module", params=[servers.SeaweedFS, servers.MinIO])
def store(request):
    with request.param() as store:
        store.make_bucket("bucket")
        yield store


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in GIVEN}
    return {**kept, **more}


def is_alive(pid):
    """Zombies are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid):
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.mark.parametrize("method, path", [
    ("GET", "/"), ("GET", "/bucket"), ("GET", "/bucket/object"), ("PUT", "/bucket/object"),
    ("DELETE", "/bucket/object")])
def test_an_unsigned_request_is_refused(store, method, path):
    store.request("PUT", "/bucket/object", body=b"there")
    request = urllib.request.Request(store.endpoint + path, method=method,
                                     data=b"x" if method == "PUT" else None)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=20)
    assert error.value.code == 403
    assert store.request("GET", "/bucket/object")[2] == b"there"


@pytest.mark.parametrize("key, secret", [("theirs", "wrong"), ("unknown", "theirs")])
def test_a_wrong_key_is_refused(store, key, secret):
    status, _, _ = sigv4.request(
        store.endpoint, "GET", "/bucket",
        access_key=store.access_key if key == "theirs" else key,
        secret_key=store.secret_key if secret == "theirs" else secret)
    assert status == 403


def test_the_client_of_a_known_library_is_taken(store):
    client = store.client()
    client.put_object(Bucket="bucket", Key="known", Body=b"bytes")
    assert client.get_object(Bucket="bucket", Key="known")["Body"].read() == b"bytes"


def test_a_bucket_by_virtual_host(store):
    client = store.client(store.host_endpoint, s3={"addressing_style": "virtual"})
    url = client.generate_presigned_url("put_object", {"Bucket": "bucket", "Key": "hosted"})
    assert url.startswith("http://bucket.localhost:")
    done = subprocess.run(["curl", "-sS", "-f", "-X", "PUT", "-H", "Content-Type;",
                           "--data-binary", "@-", url], input=b"bytes", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert store.request("GET", "/bucket/hosted")[2] == b"bytes"


def test_what_was_stored_outlives_kill_and_restart(store):
    body = os.urandom(6 << 20)
    assert store.request("PUT", "/bucket/kept", body=body)[0] == 200
    endpoint, pid = store.endpoint, store.pid
    store.kill()
    assert not is_alive(pid) and not store.running()
    with pytest.raises(OSError):
        store.request("GET", "/bucket/kept")
    store.start()
    assert store.endpoint == endpoint and store.pid != pid
    assert store.request("GET", "/bucket/kept")[2] == body
    store.restart()
    assert store.request("GET", "/bucket/kept")[2] == body
    assert store.request("PUT", "/bucket/new", body=b"1")[0] == 200, "it can be written to at once"


def test_a_database_outlives_kill_and_restart():
    with servers.FerretDB() as database:
        with database.client() as client:
            client["kept"]["rows"].insert_many([{"_id": n} for n in range(100)])
        database.kill()
        database.start()
        database.restart()
        with database.client() as client:
            assert client["kept"]["rows"].count_documents({}) == 100


def test_a_port_that_was_taken_meanwhile():
    server = servers.MinIO()
    first = server.port
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        with server:
            assert server.port != first
            assert server.answers()


def test_data_is_removed_at_the_end():
    with servers.FerretDB() as database:
        folder, pid = database.folder, database.pid
        assert folder.exists()
    assert not folder.exists() and not is_alive(pid)


def test_a_server_dies_with_the_run_that_started_it():
    program = ("import sys, servers; each = servers.FerretDB().start(); "
               "print(each.pid, each.folder, flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-B", "-c", program], cwd=Path(__file__).parent,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        pid, folder = run.stdout.readline().split()
        assert is_alive(pid)
        run.kill()
        run.wait()
        wait_until_gone(pid)
    subprocess.run(["rm", "-r", folder], check=True)


def test_serve_hands_over_the_addresses_and_the_exit_code():
    done = subprocess.run(
        [SERVE, "minio", "ferretdb", "--", "sh", "-c",
         'echo "$MINIO_TEST_ENDPOINT $MINIO_TEST_ACCESS_KEY $MINIO_TEST_SECRET_KEY '
         '$MINIO_TEST_REGION $FERRETDB_URI"; exit 7'],
        env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    endpoint, key, secret, region, uri = done.stdout.split()
    assert endpoint.startswith("http://127.0.0.1:") and uri.startswith("mongodb://127.0.0.1:")
    assert key and len(secret) >= 32 and region == "us-east-1"
    with pytest.raises(OSError):
        sigv4.request(endpoint, "GET", "/", access_key=key, secret_key=secret)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_passes_a_signal_on_and_ends_the_servers(number):
    program = ('trap "echo ended; exit 3" INT TERM; echo "$FERRETDB_URI"; '
               "while :; do sleep 0.1; done")
    with subprocess.Popen([SERVE, "ferretdb", "--", "sh", "-c", program], env=environment(),
                          stdout=subprocess.PIPE, text=True, start_new_session=True) as serve:
        uri = serve.stdout.readline().strip()
        serve.send_signal(number)
        serve.send_signal(number)
        assert serve.stdout.readline() == "ended\n", "once"
        assert serve.stdout.readline() == ""
        assert serve.wait(20) == 3
    port = int(uri.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_serve_without_a_command():
    with subprocess.Popen([SERVE, "ferretdb"], env=environment(), stdout=subprocess.PIPE,
                          text=True) as serve:
        name, _, value = serve.stdout.readline().strip().partition("=")
        assert name == "export FERRETDB_URI"
        port = int(value.rstrip("/").rpartition(":")[2])
        assert servers.wire_ping("127.0.0.1", port)
        serve.terminate()
        assert serve.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_serve_takes_servers_that_are_given():
    with servers.MinIO() as store, servers.FerretDB() as database:
        done = subprocess.run(
            [SERVE, "seaweedfs", "ferretdb", "--", "sh", "-c",
             'echo "$SEAWEEDFS_ENDPOINT $SEAWEEDFS_ACCESS_KEY $SEAWEEDFS_SECRET_KEY '
             '$SEAWEEDFS_REGION $FERRETDB_URI"'],
            env=environment(S3_TEST_ENDPOINT=store.endpoint, S3_TEST_ACCESS_KEY=store.access_key,
                            S3_TEST_SECRET_KEY=store.secret_key, S3_TEST_REGION="us-east-1",
                            MONGODB_TEST_URI=database.uri),
            capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [store.endpoint, store.access_key, store.secret_key,
                                       "us-east-1", database.uri]
        assert store.answers() and database.answers(), "they were left alone"


@pytest.mark.parametrize("arguments, more, said", [
    (["nosuch", "--", "true"], {}, "unknown: nosuch"),
    (["ferretdb", "--"], {}, "COMMAND"),
    ([], {}, "COMMAND"),
    (["seaweedfs", "--", "true"], {"S3_TEST_ENDPOINT": "http://127.0.0.1:9"},
     "S3_TEST_ACCESS_KEY"),
    (["seaweedfs", "--", "true"],
     {"S3_TEST_ENDPOINT": "http://127.0.0.1:9", "S3_TEST_ACCESS_KEY": "k",
      "S3_TEST_SECRET_KEY": "s"}, "127.0.0.1:9"),
    (["ferretdb", "--", "/nonexistent"], {}, "/nonexistent"),
])
def test_serve_says_what_is_wrong(arguments, more, said):
    done = subprocess.run([SERVE, *arguments], env=environment(**more), capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
