"""Bad multipart uploads, one test a row of the abuse table (rows 1–18): the answer, and that
nothing was stored. Rows 19–31 are in test_abuse_multipart_files.py."""

import random
import time

import pytest

from forms import FILE, refused, send, stored
from multipart import BOUNDARY, content_type, file_part, join, part, text_part
from rawhttp import RawConnection, raw_request
from samples import MIB, TEXT, random_bytes, sha256

pytestmark = pytest.mark.local("about the form, whatever the stores")


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


@pytest.mark.smoke
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


@pytest.mark.smoke
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
