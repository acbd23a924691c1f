"""What users of HTTP expect of reads: parameters that others add to links, ranges without a bound,
304 answers that refresh, and dates that a clock allows."""

import sqlite3
import time
from email.utils import parsedate_to_datetime

import pytest

from problems import check_problem
from rawhttp import exchange, raw_request
from samples import TEXT, random_bytes, sha256

CONTENT = random_bytes(5000, seed=3)
ADDED = ["utm_source=x&utm_medium=mail", "fbclid=a%zz", "_=1", "a", "=", "x=%ff", "x=f%FCr", "%C0=1",
         "a=1&a=2", "%zz",
         "gclid=%00", "inline2=1", "Inline=1", "&&", "&".join(f"p{i}={i}" for i in range(100))]


@pytest.fixture(scope="module")
def path(service):
    return service.create(CONTENT, "read.txt", mime="text/x-own")["links"]["download"]


@pytest.fixture(scope="module")
def shown(service):
    return service.create(TEXT, "shown.txt", mime="text/plain")["links"]["download"]


@pytest.mark.parametrize("added", ADDED)
def test_reads_of_bytes_ignore_unknown_parameters(service, path, shown, added):
    """By raw requests: no library tidies the query up. Control characters are the gateway's to refuse."""
    added = added.replace("%00", "%0")
    for suffix in ("", "/download"):
        for method in ("GET", "HEAD"):
            answer = exchange(service, raw_request(method, f"{path}{suffix}?{added}"), method)
            assert answer.status == 200, answer.body
    answer = exchange(service, raw_request("GET", f"{shown}?{added}&inline=1&{added}"))
    assert answer.status == 200 and answer.body == TEXT
    assert answer.header("content-disposition").startswith("inline")


def test_known_parameters_are_still_read(service, path):
    for query in ("inline=2", "inline=", "inline=1&inline=1", "utm=1&inline=%zz", "%69nline=0"):
        answer = exchange(service, raw_request("GET", f"{path}?{query}"))
        assert answer.status == 400 and b'"bad_parameter"' in answer.body, query
    assert service.get(path + "/download?inline=2").status_code == 200


@pytest.mark.parametrize("method,suffix,body", [
    ("GET", "/meta", None), ("HEAD", "/meta", None), ("PATCH", "", {"metadata": {"a": "b"}}),
    ("DELETE", "", None),
])
def test_other_calls_refuse_unknown_parameters(service, path, method, suffix, body):
    answer = service.request(method, f"{path}{suffix}?utm_source=x", json=body)
    assert answer.status_code == 400
    if method != "HEAD":
        check_problem(answer, 400, "bad_parameter")
    assert service.get(path + "/meta").json()["metadata"] == {}


def test_batch_and_form_refuse_unknown_parameters(service, nothing_stored):
    answer = service.post("/api/files/delete?x=1", json={"ids": []})
    check_problem(answer, 400, "bad_parameter")
    answer = service.request("POST", "/api/files/upload?visibility=public",
                             files={"file": ("a", b"x")})
    check_problem(answer, 400, "bad_parameter")


@pytest.mark.parametrize("value,first,last", [
    ("bytes=0-99999999999999999999", 0, 4999), ("bytes=0-9223372036854775807", 0, 4999),
    ("bytes=0-18446744073709551615", 0, 4999), ("bytes=10-18446744073709551616", 10, 4999),
    ("bytes=-99999999999999999999", 0, 4999), ("bytes=-9223372036854775808", 0, 4999),
    ("bytes=0-9223372036854775806", 0, 4999), ("bytes=4999-" + "9" * 60, 4999, 4999),
])
@pytest.mark.parametrize("suffix", ["", "/download"])
def test_ranges_beyond_2_63_saturate(service, path, value, first, last, suffix):
    answer = service.get(path + suffix, headers={"Range": value})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/5000"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.headers["ETag"] == f'"{sha256(CONTENT)}"'
    assert answer.content == CONTENT[first:last + 1]


@pytest.mark.parametrize("value", ["bytes=99999999999999999999-", "bytes=9223372036854775807-",
                                   "bytes=9223372036854775808-99999999999999999999"])
def test_a_first_byte_beyond_2_63_is_unsatisfiable(service, path, value):
    answer = service.get(path, headers={"Range": value})
    check_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == "bytes */5000"


def test_several_ranges_of_which_one_saturates(service, path):
    answer = service.get(path, headers={"Range": "bytes=0-1,5-99999999999999999999"})
    assert answer.status_code == 200 and answer.content == CONTENT


def test_304_after_a_rename_carries_the_new_name(service, shown):
    tag = service.head(shown).headers["ETag"]
    for name in ("first.txt", "zweite Fassung – ü.txt"):
        assert service.patch(shown, json={"originalName": name}).status_code == 200
        for suffix in ("", "/download", "?inline=1"):
            whole = service.get(shown + suffix).headers
            for method in ("GET", "HEAD"):
                answer = service.request(method, shown + suffix, headers={"If-None-Match": tag})
                assert answer.status_code == 304 and answer.content == b""
                for header in ("Content-Disposition", "ETag", "Last-Modified", "Cache-Control"):
                    assert answer.headers[header] == whole[header]
    assert "zweite" in answer.headers["Content-Disposition"]


def set_created(service, path, created_ms):
    database = next(file for file in service.data_dir.rglob("*")
                    if file.is_file() and file.read_bytes()[:15] == b"SQLite format 3")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE files SET created_ms = ? WHERE id = ?",
                           (created_ms, path.rsplit("/", 1)[1]))
    connection.close()


@pytest.mark.local("writes the row of a clock that was set back")
@pytest.mark.parametrize("ahead", [2, 3600, 400 * 86400])
def test_last_modified_is_never_later_than_date(service, ahead):
    path = service.create(TEXT, "ahead.txt")["links"]["download"]
    set_created(service, path, int((time.time() + ahead) * 1000))
    tag = service.head(path).headers["ETag"]
    for headers in ({}, {"If-None-Match": tag}, {"Range": "bytes=0-1"}):
        answer = service.get(path, headers=headers)
        dates = [parsedate_to_datetime(answer.headers[each]) for each in ("Last-Modified", "Date")]
        assert dates[0] <= dates[1], answer.status_code
    assert service.delete(path).status_code == 200
