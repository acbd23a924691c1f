"""Bad downloads, races on one file and forged log lines, one test a row of the abuse table (rows
66–73, 75, 76)."""

import re
import threading
from urllib.parse import unquote

import pytest

from multipart import content_type, join, part
from problems import check_problem
from rawhttp import exchange, raw_request
from samples import HTML, PDF, SVG, TEXT, UNKNOWN_ID, random_bytes, sha256, unique

CONTENT = random_bytes(1000, seed=66)


@pytest.fixture(scope="module")
def path(service):
    return f"/api/files/{service.create(CONTENT, 'ranges.bin')['id']}"


@pytest.mark.core
@pytest.mark.parametrize(
    ("value", "first", "last"),
    [("bytes=0-4", 0, 4), ("bytes=-4", 996, 999), ("bytes=-5000", 0, 999), ("bytes=5-", 5, 999),
     ("bytes=999-", 999, 999), ("bytes=0-99999999999999999", 0, 999)],
)
def test_row_66_ranges(service, path, value, first, last):
    answer = service.get(path, headers={"Range": value})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first:last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/1000"


@pytest.mark.parametrize(
    "value", ["bytes=1000-", "bytes=1000-1001", "bytes=5-4", "bytes=abc", "bytes=", "bytes=-",
              "bytes=-0", "bytes=--1", "bytes=1-2-3", "bytes=0x1-2",
              "bytes=99999999999999999999999-", "bytes=9223372036854775807-9223372036854775807",
              "bytes=-99999999999999999999999"]
)
def test_row_67_ranges_that_cannot_be_met(service, path, value):
    """RFC 9110 lets a server ignore what is malformed, so 200 with the whole is fine for that."""
    answer = service.get(path, headers={"Range": value})
    if answer.status_code in (200, 206):
        assert value not in ("bytes=1000-", "bytes=1000-1001", "bytes=-0")
        assert answer.content == CONTENT
    else:
        check_problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == "bytes */1000"


@pytest.mark.parametrize(
    "value", ["bytes=" + ",".join(f"{n}-{n}" for n in range(0, 900, 3)),
              "bytes=" + ",".join("0-999" for _ in range(200)), "bytes=0-0,-1", "bytes=0-,0-"]
)
def test_row_68_many_ranges_get_the_whole(service, path, value):
    answer = service.get(path, headers={"Range": value})
    assert answer.status_code == 200 and answer.content == CONTENT


@pytest.mark.parametrize(
    "headers",
    [{"Range": "lines=0-4"}, {"Range": "0-4"}, {"Range": "bytes 0-4"},
     {"Range": "bytes=0-4", "If-Range": '"other"'},
     {"Range": "bytes=0-4", "If-Range": f'W/"{sha256(CONTENT)}"'},
     {"Range": "bytes=0-4", "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"},
     {"Range": "bytes=5000-", "If-Range": '"other"'}],
)
def test_row_69_whole_file_instead_of_a_range(service, path, headers):
    answer = service.get(path, headers=headers)
    assert answer.status_code == 200 and answer.content == CONTENT


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": f'"a", "{sha256(CONTENT)}", "b"'}, 304), ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": "garbage"}, 200), ({"If-None-Match": '"unclosed'}, 200),
        ({"If-None-Match": ","}, 200), ({"If-Modified-Since": "not a date"}, 200),
        ({"If-Modified-Since": "Fri, 31 Dec 9999 23:59:59 GMT"}, 304),
        ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "1"}, 200), ({"If-None-Match": '"' + "x" * 7000 + '"'}, 200),
    ],
)
def test_row_70_conditions(service, path, headers, status):
    answer = service.get(path, headers=headers)
    assert answer.status_code == status
    assert answer.content == (CONTENT if status == 200 else b"")


@pytest.mark.parametrize("value", ['"other"', "garbage", f'W/"{sha256(CONTENT)}"', ","])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_row_71_if_match(service, path, method, value):
    options = {"json": {"originalName": "x"}} if method == "PATCH" else {}
    answer = service.request(method, path, headers={"If-Match": value}, **options)
    check_problem(answer, 412, "precondition_failed")
    assert service.get(path).content == CONTENT


@pytest.mark.parametrize(
    ("name", "mime", "content"),
    [
        ("a.svg", "image/svg+xml", SVG), ("a.html", "text/html", HTML), ("a.pdf", "application/pdf",
        PDF), ("a.js", "text/javascript", b"alert(1)\n"), ("a.xml", "application/xml",
        b"<?xml version='1.0'?><x/>\n"), ("a.xhtml", "application/xhtml+xml", HTML),
        ("a.png", "image/png", HTML), ("a.gif", "image/gif", b"GIF89a/*" + HTML + b"*/=1;"),
        ("a.txt", "text/plain", HTML),
    ],
)
@pytest.mark.parametrize("query", ["", "?inline=1"])
def test_row_72_active_content_is_never_shown(service, name, mime, content, query):
    file = service.create(content, name, mime=mime)
    answer = service.get(f"/api/files/{file['id']}{query}")
    assert answer.content == content
    headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    if headers["Content-Disposition"].startswith("inline"):
        # A real GIF, and text told to be plain text: with nosniff neither runs anything.
        assert query and headers["Content-Type"].split(";")[0] == mime
        assert mime in ("image/gif", "text/plain")
    else:
        assert headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "name", ['q"uote.txt', "semi;colon.txt", "back\\slash", "Grüße.txt", "日本語.txt", "😀.bin",
             "per%22cent", "a=b, c", "two  spaces", "'tick'", "100%", "x" * 255, "é" * 127]
)
def test_row_73_names_in_content_disposition(service, name):
    sent = name.replace('"', '\\"')
    header = f'Content-Disposition: form-data; name="file"; filename="{sent}"'
    body = join([part(header, TEXT)])
    uploaded = service.post(
        "/api/files/upload", data=body, headers={"Content-Type": content_type()}
    )
    assert uploaded.status_code == 201 and uploaded.json()["originalName"] == name
    raw = exchange(service, raw_request("GET", f"/api/files/{uploaded.json()['id']}"))
    value = raw.header("content-disposition")
    assert value.isascii() and value.isprintable()
    match = re.fullmatch(
        r'attachment; filename="((?:[^"\\]|\\["\\])*)"'
        r"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+))?",
        value,
    )
    assert match, value
    plain, extended = match.groups()
    if extended:
        assert unquote(extended, errors="strict") == name
    else:
        assert re.sub(r"\\(.)", r"\1", plain) == name


def race(*calls):
    """Runs all at once; the answers in their order."""
    barrier = threading.Barrier(len(calls))
    answers = [None] * len(calls)

    def run(at, call):
        barrier.wait()
        answers[at] = call()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.core
def test_row_75_double_delete_has_one_winner(service):
    for _ in range(10):
        path = f"/api/files/{service.create(TEXT)['id']}"
        codes = [answer.status_code for answer in race(*[lambda: service.delete(path)] * 8)]
        assert sorted(codes) == [200] + [404] * 7


def test_row_75_batch_and_single_delete_have_one_winner(service):
    for _ in range(10):
        file_id = service.create(TEXT)["id"]
        calls = [lambda: service.delete(f"/api/files/{file_id}").status_code == 200] * 3
        calls += [
            lambda: service.post("/api/files/delete", json={"ids": [file_id]}).json()["results"][0][
                "deleted"]
        ] * 3
        assert sum(race(*calls)) == 1


def test_row_75_delete_against_patch_and_reads(service):
    for _ in range(10):
        path = f"/api/files/{service.create(CONTENT)['id']}"
        deleted, patched, read, meta = race(
            lambda: service.delete(path),
            lambda: service.patch(path, json={"originalName": "renamed"}),
            lambda: service.get(path),
            lambda: service.get(path + "/meta"),
        )
        assert deleted.status_code == 200
        assert patched.status_code in (200, 404)
        assert read.status_code in (200, 404) and (read.status_code == 404
                                                   or read.content == CONTENT)
        assert meta.status_code in (200, 404)
        assert service.get(path).status_code == 404
        assert service.patch(path, json={}).status_code == 404


def test_row_75_patches_with_one_version_have_one_winner(service):
    path = f"/api/files/{service.create(TEXT)['id']}"
    tag = service.get(path + "/meta").headers["ETag"]
    calls = [
        lambda name=f"n{number}": service.patch(
            path, json={"originalName": name}, headers={"If-Match": tag}
        )
        for number in range(8)
    ]
    answers = race(*calls)
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] + [412] * 7
    winner = next(answer for answer in answers if answer.status_code == 200)
    assert service.get(path + "/meta").json() == winner.json()


FORGED = '{"@timestamp":"2000-01-01T00:00:00Z","message":"forged"}'


def test_row_76_no_log_line_can_be_forged(service):
    mark = unique("row76")
    evil = f"{mark}\n{FORGED}\n"
    before = len(service.log_lines())
    requests = [
        raw_request("GET", "/api/files", [("User-Agent", f"{mark} \x1b[31mred\x1b[0m {FORGED}")]),
        raw_request("GET", "/api/files", [("X-Request-Id", f'{mark}"}}{FORGED}')]),
        raw_request("GET", "/api/files", [("Referer", f"{mark}\t{FORGED}")]),
        raw_request("GET", f"/api/files/{UNKNOWN_ID}?x={mark}%0A{FORGED}".replace(" ", "")),
        raw_request("GET", f"/{mark}%22%7D%0A%1b%5B31m"),
        raw_request("PUT", f"/api/files/upload/{mark}%1b%5B31m%0a", [], TEXT),
        raw_request("GET", f"/{mark}/{FORGED}".replace(" ", "")),
    ]
    for request in requests:
        answer = exchange(service, request)
        assert FORGED.encode() not in answer.body.replace(b'\\"', b"'")
        if answer.header("x-request-id"):
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.header("x-request-id"))
    service.put(f"/api/files/upload/{mark}", data=TEXT, headers={"Content-Type": "text/plain"})
    service.patch(f"/api/files/{service.create(TEXT)['id']}", json={"metadata": {"k": evil}})
    raw = b"".join(path.read_bytes() for path in service.log_files())
    assert b"\x1b" not in raw and b"\r" not in raw
    lines = service.log_lines()[before:]
    assert lines
    for line in lines:
        assert line["message"] != "forged"
        assert line["@timestamp"] > "2020"
