"""GET and HEAD of files and of what is known about them: headers, ranges, conditions, inline."""

import base64
import hashlib
from email.utils import format_datetime, parsedate_to_datetime
from datetime import timedelta

import pytest

from problems import check_problem
from samples import GIF, HTML, PDF, PNG, SVG, TEXT, UNKNOWN_ID, random_bytes, sha256

CONTENT = random_bytes(100_000, seed=1)


@pytest.fixture(scope="module")
def stored(service):
    found = service.create(CONTENT, "report.bin")
    return f"/api/files/{found['id']}"


def last_modified(service, path):
    return parsedate_to_datetime(service.head(path).headers["Last-Modified"])


def check_file_headers(response, name, size, content):
    headers = response.headers
    assert headers["Content-Length"] == str(size)
    assert headers["ETag"] == f'"{sha256(content)}"'
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["Cache-Control"] == "private, no-cache"
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert headers["Content-Disposition"].startswith("attachment;")
    assert f'filename="{name}"' in headers["Content-Disposition"]
    assert parsedate_to_datetime(headers["Last-Modified"]).tzinfo is not None
    assert "X-Sendfile" not in headers


@pytest.mark.core
@pytest.mark.parametrize("suffix", ["", "/download", "?inline=1"])
def test_whole_file(service, stored, suffix):
    response = service.get(stored + suffix)
    assert response.status_code == 200
    assert response.content == CONTENT
    check_file_headers(response, "report.bin", len(CONTENT), CONTENT)
    assert response.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.core
@pytest.mark.parametrize("suffix", ["", "/download", "?inline=1"])
def test_head_equals_get_without_the_body(service, stored, suffix):
    got, head = service.get(stored + suffix), service.head(stored + suffix)
    assert head.status_code == 200 and head.content == b""
    own = {"date", "x-request-id", "traceparent", "connection"}
    assert {k.lower(): v for k, v in head.headers.items() if k.lower() not in own} == {
        k.lower(): v for k, v in got.headers.items() if k.lower() not in own
    }


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("bytes=0-4", 0, 4), ("bytes=0-0", 0, 0), ("bytes=10-", 10, 99_999),
        ("bytes=-5", 99_995, 99_999), ("bytes=-100000", 0, 99_999), ("bytes=-200000", 0, 99_999),
        ("bytes=99999-", 99_999, 99_999), ("bytes=99990-200000", 99_990, 99_999),
        ("bytes=50000-50000", 50_000, 50_000), ("Bytes=1-2", 1, 2),
    ],
)
@pytest.mark.parametrize("suffix", ["", "/download"])
def test_one_range(service, stored, value, first, last, suffix):
    response = service.get(stored + suffix, headers={"Range": value})
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert response.headers["Content-Length"] == str(last - first + 1)
    assert response.content == CONTENT[first:last + 1]
    assert response.headers["ETag"] == f'"{sha256(CONTENT)}"'


@pytest.mark.core
@pytest.mark.parametrize("value", ["bytes=100000-", "bytes=100000-100001", "bytes=-0",
                                   "bytes=99999999999999999999-"])
def test_unsatisfiable_range(service, stored, value):
    response = service.get(stored, headers={"Range": value})
    check_problem(response, 416, "range_not_satisfiable")
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


@pytest.mark.parametrize("value", ["items=0-4", "bytes=0-1,5-6", "bytes=0-1, 3-4, 6-7"])
def test_ranges_answered_with_the_whole(service, stored, value):
    response = service.get(stored, headers={"Range": value})
    assert response.status_code == 200
    assert response.content == CONTENT


def test_range_on_head_is_ignored_or_answered_without_body(service, stored):
    response = service.head(stored, headers={"Range": "bytes=0-4"})
    assert response.status_code in (200, 206) and response.content == b""


@pytest.mark.core
def test_if_range(service, stored):
    tag = f'"{sha256(CONTENT)}"'
    part = {"Range": "bytes=1-2"}
    assert service.get(stored, headers={**part, "If-Range": tag}).status_code == 206
    for other in ('"other"', f"W/{tag}", "garbage", "Sun, 06 Nov 1994 08:49:37 GMT"):
        response = service.get(stored, headers={**part, "If-Range": other})
        assert response.status_code == 200, other
        assert response.content == CONTENT


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ('"{tag}"', 304), ('"x", "{tag}"', 304), ('W/"{tag}"', 304), ("*", 304), ('"x"', 200),
        ("{tag}", 200), ("garbage", 200), ('"{tag}', 200),
    ],
)
def test_if_none_match(service, stored, method, value, status):
    headers = {"If-None-Match": value.format(tag=sha256(CONTENT))}
    response = service.request(method, stored, headers=headers)
    assert response.status_code == status
    if status == 304:
        assert response.content == b""
        assert response.headers["ETag"] == f'"{sha256(CONTENT)}"'


@pytest.mark.parametrize(
    ("value", "status"),
    [('"{tag}"', 200), ('"x", "{tag}"', 200), ("*", 200), ('"x"', 412), ('W/"{tag}"', 412),
     ("garbage", 412)],
)
def test_if_match(service, stored, value, status):
    headers = {"If-Match": value.format(tag=sha256(CONTENT))}
    response = service.get(stored, headers=headers)
    if status == 412:
        check_problem(response, 412, "precondition_failed")
    else:
        assert response.status_code == status


def test_if_modified_since(service, stored):
    changed = last_modified(service, stored)
    for value, status in (
        (format_datetime(changed, usegmt=True), 304),
        (format_datetime(changed + timedelta(seconds=5), usegmt=True), 304),
        (format_datetime(changed - timedelta(seconds=1), usegmt=True), 200),
        ("yesterday", 200),
        ("Sun, 99 Nov 1994 08:49:37 GMT", 200),
    ):
        response = service.get(stored, headers={"If-Modified-Since": value})
        assert response.status_code == status, value


def test_if_none_match_wins_over_if_modified_since(service, stored):
    changed = format_datetime(last_modified(service, stored), usegmt=True)
    headers = {"If-None-Match": '"other"', "If-Modified-Since": changed}
    assert service.get(stored, headers=headers).status_code == 200


def test_if_unmodified_since(service, stored):
    changed = last_modified(service, stored)
    same = {"If-Unmodified-Since": format_datetime(changed, usegmt=True)}
    assert service.get(stored, headers=same).status_code == 200
    before = {"If-Unmodified-Since": format_datetime(changed - timedelta(seconds=1), usegmt=True)}
    check_problem(service.get(stored, headers=before), 412, "precondition_failed")
    bad = {"If-Unmodified-Since": "never"}
    assert service.get(stored, headers=bad).status_code == 200


def test_precondition_comes_before_range(service, stored):
    headers = {"If-Match": '"x"', "Range": "bytes=0-4"}
    check_problem(service.get(stored, headers=headers), 412, "precondition_failed")


@pytest.mark.parametrize(
    ("content", "mime", "shown"),
    [
        (PNG, "image/png", True), (GIF, "image/gif", True), (TEXT, "text/plain", True),
        (HTML, "text/html", False), (SVG, "image/svg+xml", False), (PDF, "application/pdf", False),
        (b"x = 1;\n", "text/javascript", False), (b"\0\1\2", "application/octet-stream", False),
    ],
    ids=["png", "gif", "text", "html", "svg", "pdf", "javascript", "binary"],
)
def test_inline_only_for_types_that_run_nothing(service, content, mime, shown):
    path = f"/api/files/{service.create(content, 'shown', mime=mime)['id']}"
    inline = service.get(path, params={"inline": "1"})
    assert inline.content == content
    kind = inline.headers["Content-Disposition"].split(";")[0]
    assert kind == ("inline" if shown else "attachment")
    if shown:
        assert inline.headers["Content-Type"].split(";")[0] == mime
    assert inline.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert inline.headers["X-Content-Type-Options"] == "nosniff"
    for other in ("", "/download"):
        headers = service.get(path + other).headers
        assert headers["Content-Disposition"].startswith("attachment")
    forced = service.get(path + "/download", params={"inline": "1"})
    assert forced.status_code == 400 or forced.headers["Content-Disposition"].startswith(
        "attachment"
    )


@pytest.mark.parametrize("query", ["inline=2", "inline=", "inline=1&inline=1"])
def test_bad_inline_parameter(service, stored, query):
    check_problem(service.get(f"{stored}?{query}"), 400, "bad_parameter")


def test_meta(service, stored):
    response = service.get(stored + "/meta")
    assert response.status_code == 200
    assert response.headers["Accept-Ranges"] == "none"
    tag = response.headers["ETag"]
    assert tag.startswith('"') and sha256(CONTENT) not in tag
    unchanged = service.get(stored + "/meta", headers={"If-None-Match": tag})
    assert unchanged.status_code == 304 and unchanged.content == b""
    whole = service.get(stored + "/meta", headers={"Range": "bytes=0-4"})
    assert whole.status_code == 200 and whole.json() == response.json()
    head = service.head(stored + "/meta")
    assert head.status_code == 200 and head.content == b""
    assert head.headers["ETag"] == tag
    assert head.headers["Content-Length"] == response.headers["Content-Length"]


@pytest.mark.core
def test_unknown_file(service):
    for suffix in ("", "/meta", "/download"):
        problem = check_problem(service.get(f"/api/files/{UNKNOWN_ID}{suffix}"), 404, "not_found")
        assert problem["path"] == f"/api/files/{UNKNOWN_ID}{suffix}"
        assert service.head(f"/api/files/{UNKNOWN_ID}{suffix}").status_code == 404


@pytest.mark.core
def test_large_file_by_ranges_joins_to_the_whole(service):
    content = random_bytes(5_000_003)
    path = f"/api/files/{service.create(content, 'big.bin')['id']}"
    joined = b"".join(
        service.get(path, headers={"Range": f"bytes={start}-{start + 999_999}"}).content
        for start in range(0, len(content), 1_000_000)
    )
    assert joined == content
