"""F11–F13: a store that answers with errors or nonsense, or whose answers are lost."""

import signal
import time

import pytest

from exchanges import call
from faulty import LARGE, LIMIT, NOISE, SMALL, FaultyStore, failed, fixtures, timed
from framing import check_raw_problem
from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import random_bytes, sha256, unique
from service import wait_for

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite")

shared, quick, faulty = fixtures(FaultyStore)


def renew_uploads(service):
    before = service.kill("files_upload", signal.SIGTERM)
    wait_for(lambda: service.pids("files_upload") not in ([], before), "another files_upload", 20)


@pytest.fixture
def learning(quick):
    """`quick` with a program that has not found out yet what the store refuses, and forgets it
    afterwards."""
    renew_uploads(quick.service)
    quick.proxy.forget()
    yield quick
    quick.proxy.clear()
    renew_uploads(quick.service)


# ---- F11: errors ----

# What an upload of one PUT, one of parts, and a download ask of the store.
CALLS = {
    "put": ({"method": "PUT", "path": r"^[^?]*$"}, SMALL),
    "create": ({"method": "POST", "path": r"\?uploads"}, LARGE),
    "part": ({"method": "PUT", "path": "partNumber=2"}, LARGE),
    "complete": ({"method": "POST", "path": r"uploadId="}, LARGE),
}


@pytest.mark.parametrize("status", [500, 503, 200, "reset"])
@pytest.mark.parametrize("name", CALLS)
def test_f11_one_failure_of_an_upload_is_repeated(quick, name, status):
    """200 is a status that was sent before the outcome was known: the error is in the body."""
    match, size = CALLS[name]
    content = random_bytes(size, seed=5)
    before = quick.retries()
    fault = (quick.proxy.reset(times=1, **match) if status == "reset"
             else quick.proxy.status(status, times=1, **match))
    made = quick.upload("put", content)
    assert fault.hits == 1
    assert made.status == 201, str(made)
    assert made.json()["sha256"] == sha256(content)
    assert quick.retries() == before + 1
    assert quick.read(made.json()).body == content
    quick.settled(1)


@pytest.mark.parametrize("status", [500, 503, "reset"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}])
def test_f11_one_failure_of_a_download_is_repeated(quick, status, headers):
    content = random_bytes(SMALL, seed=6)
    made = quick.service.create(content)
    before = quick.retries()
    fault = (quick.proxy.reset(times=1, method="GET") if status == "reset"
             else quick.proxy.status(status, times=1, method="GET"))
    answer = quick.read(made, headers=headers)
    assert fault.hits == 1
    assert answer.body == (content[5:10] if headers else content), str(answer)
    assert quick.retries() == before + 1


@pytest.mark.parametrize("status, expected", [
    (500, (503, "storage_unavailable")), (503, (503, "storage_unavailable")),
    (200, (503, "storage_unavailable")), (403, (502, "storage_error")),
])
@pytest.mark.parametrize("name", CALLS)
def test_f11_uploads_that_always_fail(quick, name, status, expected):
    match, size = CALLS[name]
    key = unique("key")
    fault = quick.proxy.status(status, **match)
    answer, took = timed(quick.upload, "put", random_bytes(size, seed=7), key=key)
    failed(answer, {expected[0]}, expected[1], LIMIT, took)
    # What the store refuses for good is not asked again and again.
    assert fault.hits == (1 if 400 <= status < 500 else 3)
    quick.proxy.clear()
    assert quick.service.get("/api/files").json()["total"] == 0
    quick.settled(0)
    assert quick.upload("put", b"now", key=key, name="again").status in (201, 422)
    quick.recovered()


@pytest.mark.parametrize("status, expected", [
    (500, (503, "storage_unavailable")), (503, (503, "storage_unavailable")),
    (403, (502, "storage_error")), (404, (503, "storage_unavailable")),
    (204, (502, "storage_error")),
])
def test_f11_downloads_that_always_fail(quick, status, expected):
    """404 for bytes that must be there is never "not found": they may not be visible yet, so shortly
    after their upload."""
    content = random_bytes(SMALL, seed=8)
    made = quick.service.create(content)
    fault = quick.proxy.status(status, method="GET", path=made["key"])
    for headers in ({}, {"Range": "bytes=0-4"}):
        answer, took = timed(quick.read, made, headers=headers)
        failed(answer, {expected[0]}, expected[1], LIMIT, took)
    assert fault.hits >= 2
    assert quick.service.get(f"/api/files/{made['id']}/meta").json()["status"] == "ready"
    lines = [line for line in quick.service.log_lines()
             if line.get("url.path") == f"/api/files/{made['id']}"]
    assert [line["log.level"] for line in lines] == ["error", "error"], lines
    quick.recovered()
    assert quick.read(made).body == content


@pytest.mark.parametrize("status", [500, 503, 403])
def test_f11_deletes_do_not_wait_for_the_store(quick, status):
    made = quick.service.create(b"x")
    fault = quick.proxy.status(status, method="DELETE")
    assert quick.service.delete(f"/api/files/{made['id']}").status_code == 200
    check_problem(quick.service.get(f"/api/files/{made['id']}"), 404, "not_found")
    fault.wait(1)
    assert made["key"] in quick.objects.every()
    fault.clear()
    wait_for(lambda: quick.objects.every() == {}, "its bytes are swept", 15)


def test_f11_a_bucket_that_is_gone(faulty):
    """Somebody removed it: away, not "not found", and made anew by nobody but `coffer init`."""
    quick = faulty()
    made = quick.service.create(b"x")
    quick.service.expect_damage = True
    quick.objects.drop()
    failed(quick.upload(), {503}, "storage_unavailable")
    failed(quick.read(made), {503, 500})
    wait_for(lambda: quick.service.get("/ready").status_code == 503, "/ready tells it", 10)
    assert quick.service.get("/api/files").json()["total"] == 1
    quick.service.delete(f"/api/files/{made['id']}")
    quick.service.coffer("init")
    quick.recovered()


# ---- stores that do less than AWS ----

@pytest.mark.parametrize("status", [400, 501])
def test_a_store_that_refuses_checksums_is_used_without_them(learning, status):
    """Found out once, then never sent again; the condition not to overwrite still is."""
    proxy = learning.proxy
    fault = proxy.status(status, header="x-amz-checksum")
    for size in (LARGE, SMALL):
        content = random_bytes(size, seed=14)
        made = learning.upload("put", content)
        assert made.status == 201, str(made)
        assert learning.read(made.json()).body == content
    assert fault.hits == 1
    puts = [each["headers"] for each in proxy.requests("PUT", r"^[^?]*$|partNumber=")
            if each["fault"] is None]
    assert len(puts) >= 3 and all("content-md5" in each for each in puts)
    assert [each["headers"]["if-none-match"]
            for each in proxy.requests("PUT", r"^[^?]*$")] == ["*"]


def test_a_store_that_refuses_conditions_is_asked_first(learning):
    proxy = learning.proxy
    fault = proxy.status(501, header="if-none-match")
    for _ in range(2):
        content = random_bytes(SMALL, seed=15)
        made = learning.upload("put", content)
        assert made.status == 201 and learning.read(made.json()).body == content, str(made)
    assert fault.hits == 2  # as it is, and without the checksum
    puts = [each["headers"] for each in proxy.requests("PUT") if each["fault"] is None]
    assert len(puts) == 2 and all("x-amz-checksum-sha256" in each for each in puts)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_store_that_tells_no_length_is_read(quick, size):
    content = random_bytes(size, seed=16)
    made = quick.service.create(content)
    fault = quick.proxy.chunked(method="GET", path=made["key"])
    assert quick.read(made).body == content
    assert quick.read(made, headers={"Range": "bytes=5-9"}).body == content[5:10]
    assert fault.hits == 2


def test_an_object_that_is_not_visible_yet_is_asked_for_again(quick):
    content = random_bytes(SMALL, seed=17)
    made = quick.service.create(content)
    for method, headers in (("GET", {}), ("GET", {"Range": "bytes=0-4"}), ("HEAD", {})):
        fault = quick.proxy.status(404, method=method, path=made["key"], times=1)
        answer = call(quick.service.port, method, f"/api/files/{made['id']}", None, headers)
        assert answer.status == 503 and int(answer.headers["retry-after"]) >= 1, str(answer)
        assert fault.hits == 1
    assert quick.read(made).body == content


# ---- F12: nonsense ----

def read_to_the_end(quick, made, headers=()):
    """What a client gets, raw; how long it took."""
    started = time.monotonic()
    with RawConnection(quick.service, timeout=40) as connection:
        connection.send(raw_request("GET", f"/api/files/{made['id']}", headers))
        return connection.read(), time.monotonic() - started


WRONG = {
    "flipped": lambda proxy, size, match: proxy.flip(at=size // 2, **match),
    "flipped last": lambda proxy, size, match: proxy.flip(at=size - 1, **match),
    # Again and again: a download goes on where it broke, but not for ever.
    "truncated": lambda proxy, size, match: proxy.truncate(after=size // 5, **match),
    "reset": lambda proxy, size, match: proxy.reset(after=size // 5, **match),
    "extra": lambda proxy, size, match: proxy.extra(count=5, **match),
    "huge headers": lambda proxy, size, match: proxy.huge_headers(**match),
    "redirect": lambda proxy, size, match: proxy.redirect("http://127.0.0.1:1/", **match),
}
BEFORE_ANYTHING = ("extra", "huge headers", "redirect")


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", WRONG)
def test_f12_wrong_downloads_are_never_whole(quick, kind, size):
    content = random_bytes(size, seed=9)
    made = quick.service.create(content)
    fault = WRONG[kind](quick.proxy, size, {"method": "GET", "path": made["key"]})
    answer, took = read_to_the_end(quick, made)
    assert fault.hits >= 1
    if size == SMALL or kind in BEFORE_ANYTHING:
        problem = check_raw_problem(answer, answer.status)
        assert answer.status in (502, 503, 504), problem
    else:
        assert answer.status == 200 and not answer.complete and answer.closed
        assert len(answer.body) < size
        if kind != "flipped":
            assert content.startswith(answer.body), "wrong bytes were sent"
        # It is told at once, not when a timeout of the gateway is over.
        assert took < 5 + NOISE, f"cut after {took:.1f} s"
    lines = [line for line in quick.service.log_lines()
             if line.get("url.path") == f"/api/files/{made['id']}"]
    assert lines[-1]["log.level"] == "error", lines[-1]
    assert quick.service.metric("storage_operations_total", operation="get") > 0
    quick.recovered()
    assert quick.read(made).body == content


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("kind", ["truncate", "reset"])
@pytest.mark.parametrize("left", [1, 5000])
def test_f12_a_break_is_mended_where_it_can_be(quick, kind, size, left):
    """The download goes on where it broke, and the client sees nothing of it."""
    content = random_bytes(size, seed=10)
    made = quick.service.create(content)
    fault = getattr(quick.proxy, kind)(after=size - left, method="GET", path=made["key"])
    answer = quick.read(made)
    assert fault.hits == 2
    assert answer.status == 200 and answer.body == content


def test_f12_bytes_after_an_answer_harm_nobody(quick):
    content = random_bytes(SMALL, seed=11)
    made = quick.service.create(content)
    fault = quick.proxy.extra(count=300, framed=False, method="GET", path=made["key"])
    for _ in range(10):
        answer = quick.read(made)
        assert (answer.status == 200 and answer.body == content) or answer.status in (502, 503)
    assert fault.hits >= 10
    quick.proxy.clear()
    for _ in range(10):
        assert quick.read(made).body == content


# A whole download is judged by its hash, so another tag is no fault of it; see test_s3_objects.
TAGS = {
    "other tag": lambda proxy, size, match: proxy.header("ETag", '"another"', **match),
    "no tag": lambda proxy, size, match: proxy.header("ETag", None, **match),
}


@pytest.mark.parametrize("kind", TAGS)
def test_f12_ranges_are_judged_by_the_tag(quick, kind):
    content = random_bytes(SMALL, seed=9)
    made = quick.service.create(content)
    fault = TAGS[kind](quick.proxy, SMALL, {"method": "GET", "path": made["key"]})
    answer = quick.read(made, headers={"Range": "bytes=0-9"})
    assert fault.hits >= 1
    failed(answer, {502}, "storage_error")
    whole = quick.read(made)
    assert whole.body == content or whole.status == 502
    quick.recovered()


GARBLED = [(name, kind) for name in CALLS
           for kind in ("flipped", "other tag", "huge headers", "redirect", "no tag")
           if kind != "flipped" or name in ("put", "part")]  # where there is content


@pytest.mark.parametrize("name, kind", GARBLED)
def test_f12_uploads_that_the_store_garbles(quick, name, kind):
    """Refused, or whole and right: never a file that is something else."""
    match, size = CALLS[name]
    content, key = random_bytes(size, seed=12), unique("key")
    if kind == "flipped":
        fault = quick.proxy.flip(at=1000, direction="request", **match)
    else:
        fault = {**WRONG, **TAGS}[kind](quick.proxy, size, match)
    answer = quick.upload("put", content, key=key)
    assert fault.hits >= 1
    quick.proxy.clear()
    total = quick.service.get("/api/files").json()["total"]
    if answer.status == 201:
        assert kind in ("other tag", "no tag", "huge headers")
        assert quick.read(answer.json()).body == content
        assert total == 1
    else:
        failed(answer, {502, 503})
        assert total == 0
    quick.settled(total)
    quick.recovered()


# ---- F13: lost replies ----

@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("ending", ["close", "reset", "silent"])
@pytest.mark.parametrize("name", CALLS)
def test_f13_lost_replies(quick, name, ending, times):
    """The store did what it was asked and nobody was told: one file with its bytes, or none."""
    match, size = CALLS[name]
    content, key = random_bytes(size, seed=13), unique("key")
    fault = quick.proxy.lost_reply(ending=ending, times=times, **match)
    file_name = unique()
    answer, took = timed(quick.upload, "put", content, file_name, key=key)
    assert fault.hits >= 1 and took < LIMIT
    listed = quick.service.get("/api/files").json()["files"]
    if answer.status == 201:
        assert [each["id"] for each in listed] == [answer.json()["id"]]
    else:
        failed(answer, {502, 503, 504})
        assert listed == []
    if times == 1 and ending != "silent":
        assert answer.status == 201, "what one lost reply hides can be found out"
    quick.proxy.clear()
    again = quick.upload("put", content, file_name, key=key)
    assert again.status == 201, str(again)
    assert ("idempotency-replayed" in again.headers) == (answer.status == 201)
    listed = quick.service.get("/api/files").json()["files"]
    assert [each["id"] for each in listed] == [again.json()["id"]]
    assert quick.read(again.json()).body == content
    quick.settled(1)
