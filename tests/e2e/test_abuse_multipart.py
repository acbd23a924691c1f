"""Bad multipart uploads, one test a row of the abuse table (rows 1–31): the answer, and that
nothing was stored."""

import random
import time

import pytest

from multipart import BOUNDARY, content_type, file_part, join, part, text_part
from problems import check_problem
from rawhttp import RawConnection, exchange, raw_request
from samples import (
    EMPTY_SHA256, GIF, HTML, MAX_FILE_SIZE, MIB, PNG, SVG, TEXT, md5_base64, random_bytes, sha256,
    sha256_digest,
)
from service import wait_for

FILE = 'Content-Disposition: form-data; name="file"; filename="{}"'


def send(service, body, kind=None):
    """POSTs a body with a Content-Type given raw; a raw answer."""
    headers = [] if kind is False else [("Content-Type", content_type() if kind is None else kind)]
    return exchange(service, raw_request("POST", "/api/files/upload", headers, body))


def state(service):
    """What is stored: the number of files, and of bytes on disk."""
    return service.get("/api/files?limit=1").json()["total"], sum(service.stored_bytes().values())


@pytest.fixture
def nothing_stored(service):
    """Whatever the test sends leaves no row and no bytes."""
    before = state(service)
    yield
    wait_for(lambda: state(service) == before, f"state as before: {before}", 10)


def refused(service, body, kind=None, status=400, code="bad_multipart"):
    response = send(service, body, kind)
    assert response.status == status, f"{response.status}, not {status}: {response.body[:300]}"
    assert response.header("content-type").split(";")[0] == "application/problem+json"
    codes = code if isinstance(code, tuple) else (code,)
    assert any(b'"code":"%s"' % each.encode() in response.body for each in codes), response.body
    return response


def stored(service, body, kind=None):
    import json

    response = send(service, body, kind)
    assert response.status == 201, f"{response.status}: {response.body[:300]}"
    return json.loads(response.body)


@pytest.mark.parametrize(
    "kind", [False, "", "text/plain", "application/json", "application/x-www-form-urlencoded",
             f"multipart/mixed; boundary={BOUNDARY}", f"multipart/form-dataX; boundary={BOUNDARY}",
             "multipart"]
)
def test_row_01_not_multipart(service, nothing_stored, kind):
    refused(service, join([file_part()]), kind, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data;", "multipart/form-data; boundary=",
             'multipart/form-data; boundary=""', "multipart/form-data; charset=utf-8",
             "multipart/form-data; boundar=x"]
)
def test_row_02_no_boundary(service, nothing_stored, kind):
    refused(service, join([file_part()]), kind)


@pytest.mark.parametrize(
    "boundary", ["b" * 71, "b" * 5000, "a\x01b", "ä", "a{b", "a@b", "ends-in-space ", "a\\b", "a*b"]
)
def test_row_03_bad_boundary(service, nothing_stored, boundary):
    body = join([file_part()], boundary.encode("latin-1"))
    by_gateway = "\x01" in boundary
    code = "bad_request" if by_gateway else "bad_multipart"
    refused(service, body, f'multipart/form-data; boundary="{boundary}"', code=code)


def test_row_03_boundary_of_seventy_is_fine(service):
    for boundary in ("b" * 70, "0", "a'()+_,-./:=?b", "with space inside"):
        file = stored(service, join([file_part(TEXT)], boundary),
                      f'multipart/form-data; boundary="{boundary}"')
        assert file["sha256"] == sha256(TEXT)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=one; boundary=two",
             "multipart/form-data; boundary=one; boundary=one",
             'multipart/form-data; boundary=one; BOUNDARY="two"']
)
@pytest.mark.parametrize("used", ["one", "two"])
def test_row_04_two_boundaries(service, nothing_stored, kind, used):
    refused(service, join([file_part()], used), kind)


def test_row_05_backslash_run_in_the_boundary(service, nothing_stored):
    kind = 'multipart/form-data; boundary="' + "\\" * 7000
    started = time.monotonic()
    for _ in range(20):
        refused(service, b"x", kind)
    # The row's 10 ms a request is the parser's; here are 20 with their connections.
    assert time.monotonic() - started < 4


def test_row_06_empty_body(service, nothing_stored):
    refused(service, b"")


@pytest.mark.parametrize(
    "body", [b"hello", b"\r\n", b"--", b"--other\r\n\r\nx\r\n--other--\r\n",
             b"--" + BOUNDARY.encode()[:-1] + b"\r\n\r\nx\r\n"]
)
def test_row_07_opening_boundary_never_appears(service, nothing_stored, body):
    refused(service, body)


def test_row_08_truncated(service, nothing_stored):
    whole = join([text_part("visibility", "public"), file_part(TEXT)])
    closing = len(b"--\r\n")
    cuts = {len(whole) - closing - n for n in range(0, 60)} | {10, 50, 100, 150, 250, 300}
    for cut in sorted(cuts):
        refused(service, whole[:cut])
    refused(service, whole[:-3])


def test_row_08_closing_line_end_may_be_missing(service):
    assert stored(service, join([file_part(TEXT)])[:-2])["sha256"] == sha256(TEXT)


@pytest.mark.parametrize(
    "body",
    [
        "--{b}\r\n" + FILE.format("a") + "\r\n--{b}--\r\n",
        "--{b}\r\n" + FILE.format("a") + "--{b}--\r\n",
        "--{b}\r\n--{b}--\r\n",
        "--{b}--\r\n",
        "--{b}\r\n\r\n--{b}--\r\n",
        "--{b}\r\n\r\n\r\n--{b}--\r\n",
    ],
)
def test_row_09_header_then_closing_boundary(service, nothing_stored, body):
    refused(service, body.replace("{b}", BOUNDARY).encode())


@pytest.mark.parametrize("where", ["preamble", "epilogue"])
@pytest.mark.parametrize("filler", [b"x", b"\r\n", b"--", b"\r\n--" + BOUNDARY.encode()[:20]])
def test_row_10_long_preamble_and_epilogue(service, nothing_stored, where, filler):
    whole = join([file_part(TEXT)])
    long = filler * (4 * MIB // len(filler))
    lines = len(service.log_lines())
    refused(service, long + b"\r\n" + whole if where == "preamble" else whole + long)
    assert len(service.log_lines()) - lines < 20


@pytest.mark.parametrize("where", ["preamble", "epilogue"])
def test_row_10_short_preamble_and_epilogue_are_fine(service, where):
    whole = join([file_part(TEXT)])
    body = b"hello\r\n" + whole if where == "preamble" else whole + b"bye"
    assert stored(service, body)["sha256"] == sha256(TEXT)


def test_row_11_a_hundred_thousand_parts(service, nothing_stored):
    body = join([text_part(f"f{number}", "x") for number in range(100_000)])
    response = send(service, body)
    assert response.status in (400, 413)
    refused(service, join([text_part("metadata", "{}")] * 17 + [file_part()]))


@pytest.mark.parametrize(
    "headers",
    [
        [FILE.format("a"), "X-Long: " + "x" * MIB],
        ["X-Long: " + "x" * 4096, FILE.format("a")],
        [FILE.format("a")] + [f"X-{number}: y" for number in range(10_000)],
        [FILE.format("a")] + [f"X-{number}: y" for number in range(8)],
    ],
)
def test_row_12_unbounded_part_headers(service, nothing_stored, headers):
    refused(service, join([part(headers, TEXT)]))


def test_row_12_eight_part_headers_are_fine(service):
    headers = [FILE.format("a")] + [f"X-{number}: y" for number in range(7)]
    assert stored(service, join([part(headers, TEXT)]))["size"] == len(TEXT)


def test_row_13_many_near_boundaries_at_normal_speed(service):
    boundary = "b" * 70
    near = b"\r\n--" + b"b" * 69
    content = (near + b"x") * (4 * MIB // (len(near) + 1))
    kind = content_type(boundary)
    plain = random_bytes(len(content))
    started = time.monotonic()
    stored(service, join([file_part(plain)], boundary), kind)
    normal = time.monotonic() - started
    started = time.monotonic()
    file = stored(service, join([file_part(content)], boundary), kind)
    assert time.monotonic() - started < 10 * normal + 2
    assert file["sha256"] == sha256(content)


def fragments(boundary):
    """Contents made of pieces of the delimiter, none of it whole."""
    delimiter = b"\r\n--" + boundary.encode()
    pieces = [delimiter[:cut] for cut in range(1, len(delimiter))]
    chosen = random.Random(14)
    yield b"".join(pieces)
    yield b"\r\n--" * 1000 + b"\r" * 1000 + b"\n\r" * 500
    for _ in range(10):
        yield b"".join(chosen.choice(pieces) + b"x" for _ in range(200))
    for size in (65535, 65536, 65537, 262143, 262144, 262145):
        yield b"a" * (size - 40) + delimiter[:-1] + b"\r\n" + delimiter[:7]


def test_row_14_boundary_prefixes_in_the_data(service):
    for content in fragments(BOUNDARY):
        body = join([file_part(content, "near")])
        file = stored(service, body)
        assert file["sha256"] == sha256(content)
        assert service.get(f"/api/files/{file['id']}").content == content


def test_row_14_boundary_at_every_offset_of_a_buffer(service):
    """The delimiter crosses each power of two where a buffer may end."""
    head = len(join([file_part(b"", "edge")])) - len(f"\r\n--{BOUNDARY}--\r\n")
    for edge in (4096, 16384, 65536, 262144):
        for shift in range(-len(BOUNDARY) - 8, 3):
            content = b"e" * (edge + shift - head)
            assert stored(service, join([file_part(content, "edge")]))["size"] == len(content)


@pytest.mark.parametrize("pause", [False, True])
def test_row_14_body_split_at_every_offset(service, pause):
    """Two packets, cut anywhere in a small body; with a pause, what follows comes late."""
    content = b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\nend"
    body = join([text_part("visibility", "public"), file_part(content, "split")])
    request = raw_request("POST", "/api/files/upload", [("Content-Type", content_type())], body)
    head = len(request) - len(body)
    step = 7 if pause else 1
    for cut in range(head, len(request), step):
        with RawConnection(service) as connection:
            connection.send(request[:cut])
            if pause:
                time.sleep(0.01)
            connection.send(request[cut:])
            response = connection.read("POST")
        assert response.status == 201, (cut - head, response)
        assert sha256(content).encode() in response.body


def test_row_14_body_a_byte_at_a_time(service):
    body = join([file_part(b"\r\n--" + BOUNDARY.encode()[:9], "drip")])
    request = raw_request("POST", "/api/files/upload", [("Content-Type", content_type())], body)
    with RawConnection(service) as connection:
        connection.send(*[request[at:at + 1] for at in range(len(request))])
        assert connection.read("POST").status == 201


@pytest.mark.parametrize(
    "body",
    [
        join([file_part()]).replace(b"\r\n", b"\n"),
        join([file_part()]).replace(b"\r\nContent-Type", b"\nContent-Type"),
        join([file_part()]).replace(b"\r\n\r\n", b"\n\n"),
        join([file_part()]).replace(b"; filename", b";\r\n filename"),
        join([file_part()]).replace(b"; filename", b";\r\n\tfilename"),
        join([part([FILE.format("a"), "NoColonHere"], TEXT)]),
        join([part([FILE.format("a"), ": empty name"], TEXT)]),
        join([part([FILE.format("a"), "Space : before"], TEXT)]),
        join([part([FILE.format("a"), b"X-Nul: a\0b"], TEXT)]),
        join([part([FILE.format("a"), b"X-\0: b"], TEXT)]),
        join([part([FILE.format("a"), b"X-Cr: a\rb"], TEXT)]),
    ],
)
def test_row_15_bad_part_header_lines(service, nothing_stored, body):
    refused(service, body)


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Type: text/plain"],
        ['Content-Disposition: attachment; name="file"; filename="a"'],
        ['Content-Disposition: form-data; filename="a"'],
        ['Content-Disposition: form-data; name=""; filename="a"'],
        ["Content-Disposition: form-data"],
        ["Content-Disposition:"],
        ['Content-Disposition: form-data; name="file'],
        ['Content-Disposition: form-data; name="file"; filename="a"; name="file"'],
        ['Content-Disposition: form-data; name="file"; filename="a"; filename="b"'],
        [FILE.format("a"), FILE.format("a")],
    ],
)
def test_row_16_bad_content_disposition(service, nothing_stored, headers):
    refused(service, join([part(headers, TEXT)]))


@pytest.mark.parametrize(
    "parts",
    [
        [file_part(), file_part()],
        [file_part(b"a", "a"), file_part(b"b", "b")],
        [text_part("metadata", "{}"), text_part("metadata", "{}"), file_part()],
        [text_part("visibility", "public"), text_part("visibility", "private"), file_part()],
        [text_part("file", "text"), file_part()],
        [file_part(field="other")],
        [file_part(field="metadata"), file_part()],
    ],
)
def test_row_17_two_of_a_kind(service, nothing_stored, parts):
    refused(service, join(parts), code=("bad_multipart", "bad_name", "bad_json"))


@pytest.mark.parametrize(
    "parts",
    [
        [text_part("unknown", "x"), file_part()],
        [text_part("Metadata", "{}"), file_part()],
        [text_part("_charset_", "utf-8"), file_part()],
        [part([FILE.format("a"), "Content-Transfer-Encoding: base64"], b"eHh4")],
        [part(['Content-Disposition: form-data; name="file"',
               "Content-Type: multipart/mixed; boundary=inner"],
              b"--inner\r\nContent-Disposition: file; filename=\"a\"\r\n\r\nx\r\n--inner--")],
    ],
)
def test_row_18_unknown_fields_and_old_encodings(service, nothing_stored, parts):
    refused(service, join(parts), code=("bad_multipart", "bad_parameter", "bad_name"))


@pytest.mark.parametrize(
    "headers", [['Content-Disposition: form-data; name="file"'], [FILE.format("")]]
)
def test_row_19_no_file_name(service, nothing_stored, headers):
    headers = [*headers, "Content-Type: application/octet-stream"]
    refused(service, join([part(headers, TEXT)]), code="bad_name")


def test_row_20_extended_file_name(service):
    for sent, name in (
        ("UTF-8''na%C3%AFve%20file.txt", "naïve file.txt"), ("utf-8'en'plain.txt", "plain.txt"),
        ("UTF-8''%E6%97%A5%E6%9C%AC.bin", "日本.bin"),
    ):
        header = f'Content-Disposition: form-data; name="file"; filename*={sent}'
        assert stored(service, join([part(header, TEXT)]))["originalName"] == name


@pytest.mark.parametrize(
    "sent", ["UTF-8''a%zz", "UTF-8''a%4", "UTF-8''a%", "UTF-8''%C3", "UTF-8''%00", "UTF-8''",
             "latin-1''a", "a.txt", "''a", "UTF-8'a"]
)
def test_row_20_malformed_extended_file_name(service, nothing_stored, sent):
    header = f'Content-Disposition: form-data; name="file"; filename*={sent}'
    refused(service, join([part(header, TEXT)]), code=("bad_multipart", "bad_name"))


@pytest.mark.parametrize(
    "name", [b"a\0b", b"a\rb", b"a\nb", b"a\x01b", b"a\x1fb", b"a\x7fb", b"a\tb",
             "a\u0085b".encode(), "a\u009fb".encode(), "a\u202eb".encode(), "a\u2066b".encode(),
             "\u200fa".encode()]
)
def test_row_21_control_and_direction_characters(service, nothing_stored, name):
    header = b'Content-Disposition: form-data; name="file"; filename="' + name + b'"'
    refused(service, join([part([header], TEXT)]), code=("bad_multipart", "bad_name"))


@pytest.mark.parametrize("name", ["%00", "a%00b", "a%0D%0Ab"])
def test_row_21_escapes_in_a_name_stay_text_or_are_refused(service, name):
    """In a part's filename nothing is percent-encoded: these are plain characters."""
    response = send(service, join([part(FILE.format(name), TEXT)]))
    assert response.status in (201, 400)
    if response.status == 201:
        assert f'"originalName":"{name}"'.encode() in response.body


@pytest.mark.parametrize(
    ("sent", "base"),
    [
        ("../../etc/passwd", "passwd"), ("..\\..\\x", "x"), ("/abs", "abs"), ("C:\\x", "x"),
        ("a/b/c.txt", "c.txt"), ("..", None), (".", None), ("/", None), ("../", None),
        ("dir/", None), ("c:\\dir\\file.txt", "file.txt"),
    ],
)
def test_row_22_paths_as_names(service, sent, base):
    response = send(service, join([part(FILE.format(sent), TEXT)]))
    if base is None:
        assert response.status == 400
    else:
        assert response.status == 201
        assert f'"originalName":"{base}"'.encode() in response.body
    for path in service.stored_bytes():
        assert "passwd" not in path.name and "file.txt" not in path.name


@pytest.mark.parametrize(
    "name", [b"\xff", b"\xc0\xae\xc0\xae", b"\xed\xa0\x80", b"a\xc3", b"\xe6\x97", b"\x80",
             b"\xf5\x80\x80\x80", b"\xf0\x80\x80\xaf"]
)
def test_row_23_invalid_utf8(service, nothing_stored, name):
    header = b'Content-Disposition: form-data; name="file"; filename="' + name + b'"'
    refused(service, join([part([header], TEXT)]), code=("bad_multipart", "bad_name"))


@pytest.mark.parametrize(
    ("name", "status"),
    [("a", 201), ("a" * 255, 201), ("a" * 256, 400), ("é" * 127 + "a", 201), ("é" * 128, 400),
     ("a" * 253 + "é", 201), ("a" * 254 + "é", 400), ("日" * 85, 201), ("日" * 85 + "a", 400),
     ("a" * 3000, 400)],
)
def test_row_24_length_of_names(service, name, status):
    response = send(service, join([part(FILE.format(name), TEXT)]))
    assert response.status == status
    if status == 201:
        assert name.encode() in response.body
    else:
        assert b'"bad_name"' in response.body


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ('a\\"b', 'a"b'), ("a\\b", "a\\b"), ("a;b", "a;b"), ("%22", "%22"), ("😀", "😀"),
        ("\u00e9", "\u00e9"), ("e\u0301", "e\u0301"), ("-rf", "-rf"), ("dot.", "dot."),
        ("space ", "space "), (" lead", " lead"), ("a'b", "a'b"), ("a,b=c", "a,b=c"),
        ("$(x)`y`", "$(x)`y`"), ("<b>.html", "<b>.html"), ("CON", "CON"), (".hidden", ".hidden"),
    ],
)
def test_row_25_odd_names_round_trip(service, sent, name):
    file = stored(service, join([part(FILE.format(sent), TEXT)]))
    assert file["originalName"] == name
    assert service.get(f"/api/files/{file['id']}/meta").json()["originalName"] == name
    disposition = service.head(f"/api/files/{file['id']}").headers["Content-Disposition"]
    assert disposition.isascii() and disposition.isprintable()


@pytest.mark.parametrize(
    ("mime", "content"),
    [
        (b"garbage", TEXT), (b"image/" + b"p" * 300, PNG), (b"text/html\x0bx", TEXT), (b"/", TEXT),
        (b"image/png", HTML), (b"image/png", TEXT), (b"image/jpeg", PNG), (b"text/plain", PNG),
        (b"video/mp4", HTML), (b"audio/mpeg", HTML), (b"image/webp", GIF), (b"image/gif", SVG),
    ],
)
def test_row_26_types_that_the_bytes_contradict(service, mime, content):
    headers = [FILE.format("a").encode(), b"Content-Type: " + mime]
    response = send(service, join([part(headers, content)]))
    if mime.startswith(b"text/html\x0b"):
        assert response.status in (201, 400)
    if response.status != 400:
        assert response.status == 201
        assert b'"mimeType":"application/octet-stream"' in response.body


def test_row_26_line_end_in_a_type_is_a_header_of_its_own(service, nothing_stored):
    headers = [FILE.format("a"), b"Content-Type: image/png\r\nSet-Cookie x"]
    refused(service, join([part(headers, TEXT)]))


def test_row_27_empty_file(service):
    file = stored(service, join([file_part(b"", "empty")]))
    assert file["size"] == 0 and file["sha256"] == EMPTY_SHA256
    path = f"/api/files/{file['id']}"
    whole = service.get(path)
    assert whole.status_code == 200 and whole.content == b""
    assert whole.headers["Content-Length"] == "0"
    for value in ("bytes=0-0", "bytes=0-", "bytes=-1"):
        ranged = service.get(path, headers={"Range": value})
        check_problem(ranged, 416, "range_not_satisfiable")
        assert ranged.headers["Content-Range"] == "bytes */0"


@pytest.mark.parametrize("way", ["multipart", "put", "pipe"])
def test_row_28_exactly_the_limit(service, way):
    content = random_bytes(MAX_FILE_SIZE)
    if way == "multipart":
        response = service.upload(content, "limit", metadata={"k": "x" * 4000})
    else:
        route = "upload" if way == "put" else "pipe"
        response = service.put(f"/api/files/{route}/limit", data=content)
    assert response.status_code == 201, response.text
    file = response.json()
    assert file["size"] == MAX_FILE_SIZE and file["sha256"] == sha256(content)
    assert sha256(service.get(f"/api/files/{file['id']}").content) == file["sha256"]
    service.delete(f"/api/files/{file['id']}")


@pytest.mark.parametrize("way", ["multipart", "put", "pipe"])
def test_row_29_one_byte_above_the_limit(service, nothing_stored, way):
    content = random_bytes(MAX_FILE_SIZE + 1)
    if way == "multipart":
        body = join([file_part(content, "over")])
        request = raw_request(
            "POST", "/api/files/upload", [("Content-Type", content_type())], body
        )
    else:
        route = "upload" if way == "put" else "pipe"
        request = raw_request("PUT", f"/api/files/{route}/over", [], content)
    response = exchange(service, request)
    assert response.status == 413, response
    assert b'"file_too_large"' in response.body
    assert b"52428800" in response.body


@pytest.mark.parametrize("expect", [False, True])
def test_row_30_above_the_gateways_limit_at_once(service, nothing_stored, expect):
    headers = [("Content-Type", content_type()), ("Content-Length", str(200 * MIB))]
    if expect:
        headers.append(("Expect", "100-continue"))
    with RawConnection(service, timeout=15) as connection:
        connection.send(raw_request("POST", "/api/files/upload", headers))
        response = connection.read("POST")
    assert response.status == 413
    assert b'"file_too_large"' in response.body


def test_row_30_chunks_above_the_gateways_limit(service, nothing_stored):
    headers = [("Transfer-Encoding", "chunked")]
    chunk = b"%x\r\n" % MIB + b"x" * MIB + b"\r\n"
    with RawConnection(service, timeout=30) as connection:
        connection.send(raw_request("PUT", "/api/files/pipe/huge", headers))
        for _ in range(60):
            if not connection.send_as_taken(chunk):
                break
        response = connection.read("PUT")
    assert response.status in (413, 0), response
    wait_for(lambda: not service.spooled(), "spool is empty", 10)


@pytest.mark.parametrize(
    "header", [("Content-MD5", md5_base64(b"other")), ("Repr-Digest", sha256_digest(b"other")),
               ("Content-Digest", sha256_digest(b"other"))]
)
def test_row_31_wrong_digest(service, nothing_stored, header):
    headers = [("Content-Type", content_type()), header]
    request = raw_request("POST", "/api/files/upload", headers, join([file_part(TEXT)]))
    response = exchange(service, request)
    assert response.status == 422, response
    assert b'"digest_mismatch"' in response.body


@pytest.mark.parametrize(
    "header", [("Content-MD5", "short"), ("Repr-Digest", "sha-256=:short:"),
               ("Content-Digest", "sha-256=nocolons"), ("Content-MD5", "x")]
)
def test_row_31_malformed_digest(service, nothing_stored, header):
    request = raw_request("PUT", "/api/files/upload/malformed", [header], TEXT)
    assert exchange(service, request).status == 400
