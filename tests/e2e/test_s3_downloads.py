"""Downloads that come from a store: streamed, they are what a folder gives; redirected, they are
the store's own, for a minute."""

import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from framing import Prober
from memory import pss
from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import MAX_FILE_SIZE, MIB, PDF, PNG, TEXT, random_bytes, sha256, unique
from service import Service, wait_for

STREAMED = ("s3+mongodb", "minio+mongodb", "s3+sqlite", "libs3+sqlite")
streamed = [pytest.mark.backends(*STREAMED)]
redirected = pytest.mark.backends("s3+mongodb", "minio+mongodb", "s3+sqlite")
pytestmark = []


# ---- what a folder gives ----

@pytest.fixture(scope="module")
def pair():
    """A service on a folder, and one on this run's stores."""
    made = [Service(backend="fs+sqlite"), Service()]
    try:
        yield [each.start() for each in made]
    finally:
        for each in made:
            each.close()


SIZES = (0, 1, 1000, 262_144, 262_145, 600_000)
RANGES = ("bytes=0-0", "bytes=0-4", "bytes=-1", "bytes=-5", "bytes=-0", "bytes=-999999999",
          "bytes=5-", "bytes=999-", "bytes=1000-", "bytes=5-2", "bytes=abc", "bytes=0-0,2-2",
          "bytes=0-4,-1", "bytes=262143-262144", "bytes=0-999999999999999999999", "items=0-4",
          "bytes=", "bytes=1", "bytes= 0-4", "BYTES=0-4", "bytes=0-4,", "bytes=,0-4",
          "bytes=9223372036854775807-", "bytes=262144-")
NEVER = "Thu, 01 Jan 1970 00:00:00 GMT"
LATER = "Fri, 01 Jan 2100 00:00:00 GMT"
CONDITIONS = [
    {"If-None-Match": "{tag}"}, {"If-None-Match": "*"}, {"If-None-Match": '"x", {tag}'},
    {"If-None-Match": "W/{tag}"}, {"If-None-Match": '"x"'}, {"If-None-Match": "garbage"},
    {"If-Match": "{tag}"}, {"If-Match": "*"}, {"If-Match": '"x"'}, {"If-Match": "W/{tag}"},
    {"If-Modified-Since": LATER}, {"If-Modified-Since": NEVER}, {"If-Modified-Since": "yesterday"},
    {"If-Unmodified-Since": LATER}, {"If-Unmodified-Since": NEVER},
    {"If-None-Match": '"x"', "If-Modified-Since": LATER},
    {"Range": "bytes=0-4", "If-Range": "{tag}"}, {"Range": "bytes=0-4", "If-Range": '"x"'},
    {"Range": "bytes=0-4", "If-Range": "W/{tag}"}, {"Range": "bytes=0-4", "If-Range": LATER},
    {"Range": "bytes=0-4", "If-Range": NEVER}, {"Range": "bytes=0-4", "If-None-Match": "{tag}"},
    {"Range": "bytes=0-4", "If-Match": '"x"'}, {"Range": "bytes=99999999-", "If-Match": '"x"'},
    {"Range": "bytes=99999999-", "If-None-Match": "{tag}"},
    {"Range": "bytes=99999999-", "If-Range": '"x"'},
]
COMPARED = ("Content-Type", "Content-Length", "Content-Range", "Content-Disposition", "ETag",
            "Accept-Ranges", "Repr-Digest", "X-Content-Type-Options", "Content-Security-Policy",
            "Cache-Control", "Connection", "Transfer-Encoding")


def seen(service, method, made, tail="", headers=()):
    """What may be compared of an answer."""
    answer = service.request(method, f"/api/files/{made['id']}{tail}", headers=dict(headers))
    kept = {name: answer.headers.get(name) for name in COMPARED}
    if answer.status_code >= 400:
        problem = check_problem(answer, answer.status_code) if method == "GET" else {}
        kept["Content-Length"] = None  # a problem has ids of its own
        return answer.status_code, kept, problem.get("code")
    return answer.status_code, kept, hashlib.sha256(answer.content).hexdigest()


def compare(pair, method, files, tail="", headers=()):
    told = [seen(service, method, made, tail, headers)
            for service, made in zip(pair, files, strict=True)]
    assert told[0] == told[1], (method, tail, headers)
    return told[0][0]


@pytest.fixture(scope="module")
def twins(pair):
    """{size: the same file on both}."""
    return {size: [each.create(random_bytes(size, seed=size), "a b.bin") for each in pair]
            for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
class TestSameAsAFolder:
    pytestmark = streamed

    def test_ranges(self, pair, twins, size):
        statuses = {compare(pair, method, twins[size], headers={"Range": each})
                    for each in RANGES for method in ("GET", "HEAD")}
        assert 416 in statuses and (206 in statuses or size == 0)

    def test_conditions(self, pair, twins, size):
        tag = f'"{twins[size][0]["sha256"]}"'
        for condition in CONDITIONS:
            headers = {name: value.format(tag=tag) for name, value in condition.items()}
            for method in ("GET", "HEAD"):
                compare(pair, method, twins[size], headers=headers)

    @pytest.mark.core
    def test_whole(self, pair, twins, size):
        for tail in ("", "/download", "?inline=1"):
            for method in ("GET", "HEAD"):
                assert compare(pair, method, twins[size], tail) == 200


@pytest.mark.backends(*STREAMED)
@pytest.mark.core
def test_types_shown_in_place_as_from_a_folder(pair):
    for content, mime, name in ((PNG, "image/png", "a.png"), (PDF, "application/pdf", "a.pdf"),
                                (TEXT, "text/plain", "Ä.txt")):
        files = [each.create(content, name, mime=mime) for each in pair]
        for tail in ("", "?inline=1", "/download"):
            compare(pair, "GET", files, tail)


# ---- large files and slow clients ----

@pytest.fixture(scope="module")
def large():
    """A service with one file of the greatest size."""
    service = Service()
    try:
        service.start()
        service.made = service.create(bytes(5) + random_bytes(MAX_FILE_SIZE - 5, seed=50))
        yield service
    finally:
        service.close()


def path_of(service):
    return f"/api/files/{service.made['id']}"


def hash_of(service, headers=()):
    """SHA-256 and length of a download that is not kept."""
    digest, length = hashlib.sha256(), 0
    with service.get(path_of(service), headers=dict(headers), stream=True) as answer:
        for piece in answer.iter_content(1 << 20):
            digest.update(piece)
            length += len(piece)
    return digest.hexdigest(), length


class TestLarge:
    pytestmark = streamed

    def test_whole(self, large):
        assert hash_of(large) == (large.made["sha256"], MAX_FILE_SIZE)

    @pytest.mark.core
    def test_many_at_once_in_constant_memory(self, large):
        hash_of(large)
        before = pss(large, "files_get")
        with ThreadPoolExecutor(12) as pool:
            results = set(pool.map(lambda _: hash_of(large), range(24)))
        assert results == {(large.made["sha256"], MAX_FILE_SIZE)}
        grown = pss(large, "files_get") - before
        assert grown < 48 * MIB, f"files_get grew by {grown / MIB:.0f} MiB"

    def test_slow_readers_hold_little_and_nobody_up(self, large):
        """Forty readers who take their time: what waits for them is bounded, others are served."""
        before = pss(large, "files_get"), pss(large, "lighttpd")
        readers = [RawConnection(large, timeout=60, receive_buffer=32768) for _ in range(40)]
        try:
            with Prober(large) as prober:
                for reader in readers:
                    reader.send(raw_request("GET", path_of(large)))
                wait_for(lambda: prober.count >= 60, "others are served", 30)
                grown = pss(large, "files_get") - before[0], pss(large, "lighttpd") - before[1]
            prober.verify()
            # 40 of 50 MiB would be 2,000.
            assert grown[0] < 64 * MIB, f"files_get grew by {grown[0] / MIB:.0f} MiB"
            assert grown[1] < 64 * MIB, f"lighttpd grew by {grown[1] / MIB:.0f} MiB"
            # What a reader has taken before it stops is right, and the rest comes when it goes on.
            answer = readers[0].read()
            assert answer.complete and sha256(answer.body) == large.made["sha256"]
        finally:
            for reader in readers:
                reader.close()
        large.wait_idle(20)

    def test_clients_that_leave_free_everything(self, large):
        for _ in range(3):
            for ending in ("reset", "close"):
                readers = [RawConnection(large, receive_buffer=32768) for _ in range(10)]
                for reader in readers:
                    reader.send(raw_request("GET", path_of(large)))
                    assert reader._more()
                for reader in readers:
                    getattr(reader, ending)()
        large.wait_idle(20)
        assert hash_of(large) == (large.made["sha256"], MAX_FILE_SIZE)
        # That a client left is no failure of ours.
        assert not [line for line in large.log_lines() if line["log.level"] == "error"]

    def test_ranges_of_it(self, large):
        whole = large.get(path_of(large)).content
        for first in (0, 1, 262_143, 5 * MIB - 1, MAX_FILE_SIZE - 1):
            for length in (1, 262_145, 7 * MIB):
                answer = large.get(path_of(large),
                                   headers={"Range": f"bytes={first}-{first + length - 1}"})
                assert answer.status_code == 206
                assert answer.content == whole[first:first + length]


# ---- DOWNLOAD_MODE=redirect ----

@pytest.fixture(scope="module")
def redirecting():
    service = Service(DOWNLOAD_MODE="redirect", AUTH_MODE="token")
    try:
        service.start()
        service.owner = service.token("owner")
        yield service
    finally:
        service.close()


def location(service, made, **options):
    answer = service.get(f"/api/files/{made['id']}", token=service.owner, allow_redirects=False,
                         **options)
    assert answer.status_code == 302, answer.text
    assert answer.headers["Cache-Control"] == "no-store" and not answer.content
    return answer.headers["Location"]


@redirected
class TestRedirect:
    @pytest.mark.core
    def test_anybody_may_follow_for_a_minute(self, redirecting):
        content = random_bytes(6 * MIB, seed=302)
        name = "für \"uns\"; a.bin"
        made = redirecting.create(content, name, token=redirecting.owner)
        url = location(redirecting, made)
        query = parse_qs(urlsplit(url).query)
        assert query["X-Amz-Expires"] == ["60"]
        answer = requests.get(url, timeout=30)
        assert answer.status_code == 200 and answer.content == content
        disposition = answer.headers["Content-Disposition"]
        assert disposition.startswith("attachment;")
        wanted = redirecting_disposition(made)
        assert disposition == wanted
        assert answer.headers["Content-Type"] == "application/octet-stream"
        part = requests.get(url, headers={"Range": "bytes=5-9"}, timeout=30)
        assert part.status_code == 206 and part.content == content[5:10]
        for end in ("&x=1", "0"):
            assert requests.get(url + end, timeout=30).status_code == 403
        assert redirecting.stores.objects.store.secret_key not in url

    def test_a_page_is_never_shown_in_place(self, redirecting):
        made = redirecting.create(b"<!DOCTYPE html><script>alert(1)</script>", "x.html",
                                  mime="text/html", token=redirecting.owner)
        for tail in ("", "?inline=1", "/download"):
            answer = redirecting.get(f"/api/files/{made['id']}{tail}", token=redirecting.owner,
                                     timeout=30)
            assert answer.status_code == 200 and answer.history[0].status_code == 302
            assert answer.headers["Content-Disposition"].startswith("attachment")

    def test_who_may_not_read_gets_no_url(self, redirecting):
        made = redirecting.create(TEXT, token=redirecting.owner)
        other = redirecting.token(unique("other"))
        path = f"/api/files/{made['id']}"
        check_problem(redirecting.get(path, allow_redirects=False), 401, "unauthorized")
        check_problem(redirecting.get(path, token=other, allow_redirects=False), 404, "not_found")
        redirecting.delete(path, token=redirecting.owner)
        check_problem(redirecting.get(path, token=redirecting.owner, allow_redirects=False), 404)

    @pytest.mark.core
    def test_conditions_and_ranges_are_still_ours(self, redirecting):
        made = redirecting.create(TEXT, token=redirecting.owner)
        path, tag = f"/api/files/{made['id']}", f'"{made["sha256"]}"'
        for headers, status in (({"If-None-Match": tag}, 304), ({"If-Match": '"x"'}, 412),
                                ({"Range": "bytes=999999-"}, 416), ({"If-Match": tag}, 302)):
            answer = redirecting.get(path, token=redirecting.owner, headers=headers,
                                     allow_redirects=False)
            assert answer.status_code == status, headers

    def test_head_is_sent_on_too(self, redirecting):
        """To a URL that is signed for HEAD, or it is answered here."""
        made = redirecting.create(TEXT, token=redirecting.owner)
        answer = redirecting.head(f"/api/files/{made['id']}", token=redirecting.owner,
                                  allow_redirects=False)
        if answer.status_code == 302:
            followed = requests.head(answer.headers["Location"], timeout=30)
            assert followed.status_code == 200
        else:
            assert answer.status_code == 200
            assert answer.headers["Content-Length"] == str(len(TEXT))

    def test_redirects_are_counted_and_the_url_is_not_logged(self, redirecting):
        made = redirecting.create(TEXT, token=redirecting.owner)
        before = redirecting.metric("files_downloaded_total")
        url = location(redirecting, made)
        signature = parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
        wait_for(lambda: redirecting.metric("files_downloaded_total") == before + 1, "counted")
        assert signature not in redirecting.log_file.read_text()

    def test_clients_are_sent_to_the_public_address(self, start_service):
        service = start_service(DOWNLOAD_MODE="redirect",
                                S3_PUBLIC_ENDPOINT="https://files.example.org")
        made = service.create(TEXT)
        answer = service.get(f"/api/files/{made['id']}", allow_redirects=False)
        assert answer.headers["Location"].startswith("https://files.example.org/")


def redirecting_disposition(made):
    """What the store was asked to say: the API's own words for a name."""
    from urllib.parse import quote

    name = made["originalName"]
    fallback = re.sub(r'[^\x20-\x7e]|[\\"]', "_", name)
    return (f'attachment; filename="{fallback}"; filename*=UTF-8\'\''
            f"{quote(name, safe='!#$&+-.^_`|~')}")


# ---- what may not be redirected, and other names of settings ----

def refused_start(service):
    service.expect_unclean = True
    service.launch()
    wait_for(lambda: service.process.poll() is not None, "the service refuses to start", 15)
    assert service.process.returncode > 0
    return service.output()


@pytest.fixture
def refuses():
    """Starts what must not start; what it said."""
    made = []

    def refuse(**options):
        made.append(Service(**options))
        return refused_start(made[-1])

    yield refuse
    for each in made:
        each.close()


def test_redirect_needs_a_store_that_clients_may_reach(refuses):
    assert "DOWNLOAD_MODE" in refuses(backend="fs+sqlite", DOWNLOAD_MODE="redirect")


@redirected
def test_redirect_is_refused_for_unsafe_stores(refuses):
    assert "DOWNLOAD_MODE" in refuses(DOWNLOAD_MODE="redirect", S3_UNSAFE="1")


@pytest.mark.backends("libs3+sqlite")
def test_redirect_is_refused_where_nothing_can_be_signed(refuses):
    assert "DOWNLOAD_MODE" in refuses(DOWNLOAD_MODE="redirect")


def minio_names(stores):
    """The settings by the names that MinIO's users know."""
    given = stores.settings()
    moved = {"S3_ENDPOINT": "MINIO_ENDPOINT", "S3_ACCESS_KEY": "MINIO_ACCESS_KEY",
             "S3_SECRET_KEY": "MINIO_SECRET_KEY", "S3_BUCKET": "MINIO_BUCKET"}
    return {**{old: "" for old in moved}, **{new: given[old] for old, new in moved.items()}}


@pytest.mark.backends("s3+mongodb", "minio+mongodb", "s3+sqlite", "libs3+sqlite")
@pytest.mark.core
def test_minio_names_are_taken(start_service):
    from backends import current

    stores = current().open(None)
    service = start_service(stores=stores, **minio_names(stores))
    made = service.create(TEXT)
    assert service.get(f"/api/files/{made['id']}").content == TEXT
    assert list(stores.objects.every()) == [made["key"]]


@redirected
def test_redirect_is_refused_by_minio_names(refuses):
    """Stores under these names are taken for unsafe ones."""
    from backends import current

    stores = current().open(None)
    text = refuses(stores=stores, DOWNLOAD_MODE="redirect", **minio_names(stores))
    assert "DOWNLOAD_MODE" in text


@pytest.mark.backends(*STREAMED)
def test_a_download_is_taken_up_where_it_broke(start_service):
    """A reader that waits longer than the store does still gets all."""
    service = start_service()
    content = random_bytes(20 * MIB, seed=99)
    made = service.create(content)
    with RawConnection(service, timeout=60, receive_buffer=32768) as reader:
        reader.send(raw_request("GET", f"/api/files/{made['id']}"))
        assert reader._more()
        time.sleep(12)  # longer than S3_STALL_SECONDS
        answer = reader.read()
    assert answer.complete and answer.body == content
