"""Bad multipart uploads, one test a row of the abuse table (rows 19–31): names, types, sizes and
digests."""

import pytest

from forms import FILE, refused, send, stored
from multipart import content_type, file_part, join, part
from problems import check_problem
from rawhttp import RawConnection, exchange, raw_request
from samples import (
    EMPTY_SHA256, GIF, HTML, MAX_FILE_SIZE, MIB, PNG, SVG, TEXT, md5_base64, random_bytes, sha256,
    sha256_digest,
)
from service import wait_for

pytestmark = pytest.mark.local("about names, types and lengths, whatever the stores")


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
             "\u2069a".encode()]
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
    for name in map(str, service.stored_bytes()):
        assert "passwd" not in name and "file.txt" not in name


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


@pytest.mark.smoke
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


@pytest.mark.smoke
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


@pytest.mark.smoke
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


@pytest.mark.smoke
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
