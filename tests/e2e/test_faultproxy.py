"""The fault proxy does each fault it is asked for, and nothing else: between a bare client and real
stores, so that a fault test that passes means that the service stood it."""

import contextlib
import hashlib
import http.client
import os
import socket
import threading
import time
import urllib.parse

import pymongo
import pymongo.errors
import pytest

import sigv4
from faultproxy import FaultProxy
from servers import FerretDB, MinIO, SeaweedFS

pytestmark = pytest.mark.thorough("about the proxy that tests use")

BODY = bytes(range(256)) * 400  # 102400 bytes


@contextlib.contextmanager
def raises_reset():
    """RST; a connection closed in good order is a kind of ConnectionResetError too."""
    with pytest.raises(ConnectionResetError) as error:
        yield
    assert error.type is ConnectionResetError


@pytest.fixture(scope="module")
def store():
    with MinIO() as store:
        store.make_bucket("bucket")
        store.request("PUT", "/bucket/object", body=BODY)
        yield store


@pytest.fixture(scope="module")
def database():
    with FerretDB() as database:
        yield database


@pytest.fixture
def proxy(store):
    with FaultProxy(store.endpoint) as proxy:
        yield proxy


@pytest.fixture
def wire(database):
    with FaultProxy(database.uri) as proxy:
        yield proxy


@pytest.fixture
def collection(database, wire, request):
    """Through the proxy, one connection, nothing tried again by the driver."""
    with pymongo.MongoClient(wire.uri, maxPoolSize=1, retryWrites=False, retryReads=False,
                             socketTimeoutMS=1500, serverSelectionTimeoutMS=3000) as client:
        yield client["faults"][request.node.name.replace("[", "_").replace("]", "_")]


class Client:
    """One HTTP connection through the proxy, which it keeps."""

    def __init__(self, proxy, store):
        self.store, self.netloc = store, urllib.parse.urlsplit(proxy.endpoint).netloc
        self.connection = http.client.HTTPConnection(self.netloc, timeout=20)

    def headers(self, method, path, query=None, body=b""):
        return sigv4.sign(method, self.netloc, path, query or {}, {},
                          hashlib.sha256(body).hexdigest(), access_key=self.store.access_key,
                          secret_key=self.store.secret_key)

    def begin(self, method="GET", path="/bucket/object", query=None, body=b""):
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        self.connection.request(method, target, body, self.headers(method, path, query, body))
        return self.connection.getresponse()

    def ask(self, *arguments, **options):
        answer = self.begin(*arguments, **options)
        return answer.status, answer.read()


@pytest.fixture
def client(proxy, store):
    client = Client(proxy, store)
    yield client
    client.connection.close()


def test_nothing_is_changed_without_a_fault(proxy, client, store):
    large = os.urandom(1 << 20) * 50
    assert client.ask("PUT", "/bucket/large", body=large)[0] == 200
    assert client.ask("GET", "/bucket/large") == (200, large)
    assert client.ask("HEAD", "/bucket/large") == (200, b"")
    assert client.ask("DELETE", "/bucket/large")[0] == 204
    assert proxy.connections() == 1, "the connection is kept"
    put, get, head, delete = proxy.requests()
    assert put["request_bytes"] == get["reply_bytes"] == len(large)
    assert head["reply_bytes"] == delete["reply_bytes"] == 0
    assert all(each["forwarded"] and each["done"] and not each["fault"]
               for each in (put, get, head, delete))
    assert put["headers"]["x-amz-content-sha256"] == hashlib.sha256(large).hexdigest()


def test_bodies_pass_at_speed(proxy, client):
    large = bytes(50 << 20)
    began = time.monotonic()
    assert client.ask("PUT", "/bucket/speed", body=large)[0] == 200
    assert len(client.ask("GET", "/bucket/speed")[1]) == len(large)
    assert time.monotonic() - began < 10


def test_many_connections_at_once(proxy, store):
    answers = []

    def ask():
        client = Client(proxy, store)
        for _ in range(5):
            answers.append(client.ask())
        client.connection.close()

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [(200, BODY)] * 160
    assert proxy.count("GET", "/bucket/object$") == 160


def test_100_continue_is_the_stores(proxy, client, store):
    """The store says it, through the proxy; a bad signature gets its 403 before the body."""
    for secret, first in ((store.secret_key, b"HTTP/1.1 100"), ("wrong", b"HTTP/1.1 403")):
        headers = sigv4.sign("PUT", client.netloc, "/bucket/continue", {}, {}, "UNSIGNED-PAYLOAD",
                             access_key=store.access_key, secret_key=secret)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as raw:
            raw.sendall(f"PUT /bucket/continue HTTP/1.1\r\n{lines}Content-Length: 5\r\n"
                        "Expect: 100-continue\r\n\r\n".encode())
            assert raw.recv(4096).startswith(first)
            if first.endswith(b"100"):
                raw.sendall(b"hello")
                assert raw.recv(4096).startswith(b"HTTP/1.1 200")


def test_chunked_bodies_pass():
    """SeaweedFS takes them, MinIO doesn't."""
    with SeaweedFS() as store, FaultProxy(store.endpoint) as proxy:
        store.make_bucket("bucket")
        netloc = urllib.parse.urlsplit(proxy.endpoint).netloc
        headers = sigv4.sign("PUT", netloc, "/bucket/chunked", {}, {}, "UNSIGNED-PAYLOAD",
                             access_key=store.access_key, secret_key=store.secret_key)
        connection = http.client.HTTPConnection(netloc, timeout=20)
        connection.request("PUT", "/bucket/chunked", iter([b"abc", BODY, b"d"]), headers,
                           encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
        assert store.request("GET", "/bucket/chunked")[2] == b"abc" + BODY + b"d"


def test_slow_reply(proxy, client):
    fault = proxy.slow(100_000)
    began = time.monotonic()
    assert client.ask() == (200, BODY)
    assert 0.9 < time.monotonic() - began < 10
    assert fault.hits == 1


def test_slow_request(proxy, client):
    proxy.slow(100_000, "request")
    began = time.monotonic()
    assert client.ask("PUT", "/bucket/slow", body=BODY)[0] == 200
    assert 0.9 < time.monotonic() - began < 10


def test_delay(proxy, client):
    proxy.delay(0.5)
    began = time.monotonic()
    assert client.ask() == (200, BODY)
    assert time.monotonic() - began >= 0.5


def test_silent(proxy, client):
    proxy.silent()
    client.connection.timeout = 0.5
    with pytest.raises(TimeoutError):
        client.ask()
    [request] = proxy.requests()
    assert request["fault"] == "silent" and not request["forwarded"]


def test_silent_after_some_bytes(proxy, client):
    proxy.silent(after=1000)
    answer = client.begin()
    assert answer.status == 200
    client.connection.sock.settimeout(0.5)
    assert answer.read(1000) == BODY[:1000]
    with pytest.raises(TimeoutError):
        answer.read(1)


def test_reset(proxy, client):
    proxy.reset()
    with raises_reset():
        client.ask()
    assert not proxy.requests()[0]["forwarded"]


def test_reset_inside_the_reply(proxy, client):
    proxy.reset(after=1000)
    answer = client.begin()
    with raises_reset():
        while answer.read(100):
            pass


def test_truncated_reply(proxy, client):
    proxy.truncate(1000)
    with pytest.raises(http.client.IncompleteRead) as error:
        client.ask()
    assert error.value.partial == BODY[:1000]


def test_refused_then_accepted(proxy, client, store):
    assert client.ask()[0] == 200
    proxy.refuse()
    assert proxy.connections() == 0
    with raises_reset():
        client.ask()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.accept()
    assert Client(proxy, store).ask() == (200, BODY)


def test_all_connections_cut(proxy, client, store):
    assert client.ask()[0] == 200
    proxy.cut()
    with raises_reset():
        client.ask()
    assert Client(proxy, store).ask() == (200, BODY)


def test_cut_while_a_client_does_not_read(proxy, client, store):
    store.request("PUT", "/bucket/large", body=bytes(20 << 20))
    answer = client.begin(path="/bucket/large")
    time.sleep(0.3)
    proxy.cut()
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        answer.read()
    assert proxy.connections() == 0


def test_cut_while_the_store_is_silent(proxy, client):
    proxy.silent()
    outcome = []

    def ask():
        try:
            client.ask()
        except ConnectionResetError:
            outcome.append("reset")

    thread = threading.Thread(target=ask)
    thread.start()
    while not proxy.requests():
        time.sleep(0.01)
    proxy.cut()
    thread.join(10)
    assert outcome == ["reset"]


def test_a_wrong_byte_in_the_reply(proxy, client):
    proxy.flip(at=70_000)
    status, body = client.ask()
    assert status == 200
    assert [at for at in range(len(BODY)) if body[at] != BODY[at]] == [70_000]


def test_a_wrong_byte_in_the_request(proxy, client):
    """MinIO compares the body with the signed hash."""
    proxy.flip(at=10, direction="request")
    status, body = client.ask("PUT", "/bucket/flipped", body=BODY)
    assert status == 400 and b"XAmzContentSHA256Mismatch" in body


def test_bytes_too_many(proxy, client):
    proxy.extra(3)
    assert client.ask() == (200, BODY + b"+++")


def test_bytes_after_the_reply(proxy, client):
    proxy.extra(3, framed=False)
    lines = "".join(f"{name}: {value}\r\n"
                    for name, value in client.headers("GET", "/bucket/object").items())
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as raw:
        raw.sendall(f"GET /bucket/object HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        with raw.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert f"content-length: {len(BODY)}\r\n".encode() in head.lower() + b"\r\n"
    assert body == BODY + b"+++"


def test_huge_headers(proxy, client):
    proxy.huge_headers(200_000)
    with pytest.raises(http.client.HTTPException):
        client.ask()


def test_another_header(proxy, client):
    proxy.header("ETag", '"0"')
    assert client.begin().getheader("ETag") == '"0"'


def test_a_header_less(proxy, client):
    proxy.header("etag", None)
    assert client.begin().getheader("ETag") is None


def test_chunks_instead_of_a_length(proxy, client):
    proxy.chunked()
    answer = client.begin()
    assert answer.getheader("Content-Length") is None
    assert answer.getheader("Transfer-Encoding") == "chunked" and answer.read() == BODY


@pytest.mark.parametrize("status, code", [
    (400, b"InvalidArgument"), (501, b"NotImplemented"), (500, b"InternalError"), (503, b"SlowDown"), (403, b"AccessDenied"), (404, b"NoSuchKey")])
def test_a_status_of_its_own(proxy, client, status, code):
    proxy.status(status)
    for _ in range(2):
        answer, body = client.ask("PUT", "/bucket/status", body=BODY)
        assert answer == status and code in body
    assert proxy.connections() == 1
    assert not any(each["forwarded"] for each in proxy.requests())


def test_unavailable_with_a_time_to_come_back(proxy, client):
    proxy.unavailable(retry_after=7)
    answer = client.begin()
    assert answer.status == 503 and answer.getheader("Retry-After") == "7"


def test_a_redirect(proxy, client):
    proxy.redirect("http://127.0.0.1:9/elsewhere")
    answer = client.begin()
    assert answer.status == 307 and answer.getheader("Location").endswith("/elsewhere")


def test_an_early_status(proxy, client, store):
    """Before the body was sent; the connection is closed."""
    proxy.status(500, early=True)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as raw:
        raw.sendall(b"PUT /bucket/early HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        raw.sendall(BODY)
        with raw.makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("ending, error", [
    ("close", http.client.RemoteDisconnected), ("reset", ConnectionResetError),
    ("silent", TimeoutError)])
def test_a_lost_reply(proxy, client, store, ending, error):
    """What was asked for is done all the same."""
    proxy.lost_reply(ending, method="PUT")
    client.connection.timeout = 2
    with pytest.raises(error) as raised:
        client.ask("PUT", f"/bucket/lost-{ending}", body=BODY)
    assert raised.type is error
    assert store.request("GET", f"/bucket/lost-{ending}")[2] == BODY
    [request] = proxy.requests("PUT")
    assert request["forwarded"] and request["status"] == 200


def test_only_the_requests_meant(proxy, client):
    fault = proxy.status(500, method="PUT", path=r"\?partNumber=2", skip=1, times=2)
    got = [client.ask("PUT", "/bucket/part", {"partNumber": number, "uploadId": "none"})[0]
           for number in (2, 1, 2, 2, 2)]
    assert got == [404, 404, 500, 500, 404]
    assert client.ask("GET", "/bucket/part", {"partNumber": 2})[0] == 404
    assert fault.hits == 2
    assert proxy.count("PUT", r"partNumber=2") == 4 and proxy.count("PUT") == 5
    fault = proxy.status(500, header="x-amz-content")
    assert client.ask("GET", "/bucket/part")[0] == 500 and fault.hits == 1
    fault = proxy.status(501, header="x-amz-checksum")
    assert client.ask("GET", "/bucket/part")[0] == 500 and fault.hits == 0


def test_faults_are_cleared(proxy, client):
    first, second = proxy.status(500), proxy.status(403)
    assert client.ask()[0] == 500, "the first that matches"
    first.clear()
    assert client.ask()[0] == 403
    assert (first.hits, second.hits) == (1, 1)
    proxy.clear()
    assert client.ask()[0] == 200
    proxy.forget()
    assert proxy.requests() == []


def test_a_store_that_is_down_resets(proxy, client, store):
    store.kill()
    try:
        with raises_reset():
            client.ask()
    finally:
        store.start()
    assert client.ask() == (200, BODY)


def test_mongo_passes(wire, collection):
    collection.insert_many([{"_id": n, "fill": "x" * 1000} for n in range(2000)])
    assert collection.count_documents({}) == 2000
    assert wire.count("insert", f"^{collection.name}$") == 1
    assert wire.count("hello") + wire.count("ismaster") + wire.count("isMaster") > 0


def test_mongo_lost_reply(wire, collection, database):
    fault = wire.lost_reply(method="insert", times=1)
    with pytest.raises(pymongo.errors.AutoReconnect):
        collection.insert_one({"_id": 1})
    assert fault.hits == 1
    assert collection.find_one({"_id": 1}) == {"_id": 1}, "it was done"


def test_mongo_reset(wire, collection):
    wire.reset(method="insert", times=1)
    with pytest.raises(pymongo.errors.AutoReconnect):
        collection.insert_one({"_id": 1})
    assert collection.find_one({"_id": 1}) is None, "it was not done"


def test_mongo_silent(wire, collection):
    wire.silent(method="find", times=1)
    with pytest.raises(pymongo.errors.NetworkTimeout):
        collection.find_one({})
    assert collection.find_one({}) is None


def test_mongo_truncated_reply(wire, collection):
    wire.truncate(10, method="find", times=1)
    with pytest.raises(pymongo.errors.AutoReconnect):
        collection.find_one({})


def test_mongo_slow(wire, collection):
    collection.insert_one({"_id": 1, "fill": "x" * 50_000})
    wire.slow(50_000, method="find")
    began = time.monotonic()
    assert len(collection.find_one({"_id": 1})["fill"]) == 50_000
    assert time.monotonic() - began > 0.9


def test_mongo_error(wire, collection):
    wire.error(10107, "NotWritablePrimary", labels=["RetryableWriteError"], method="insert",
               times=1)
    with pytest.raises(pymongo.errors.NotPrimaryError) as error:
        collection.insert_one({"_id": 1})
    assert error.value.has_error_label("RetryableWriteError")
    collection.insert_one({"_id": 1})


def test_mongo_refused_then_accepted(wire, collection):
    collection.insert_one({"_id": 1})
    wire.refuse()
    with pytest.raises(pymongo.errors.ConnectionFailure):
        collection.find_one({})
    wire.accept()
    assert collection.find_one({}) == {"_id": 1}
