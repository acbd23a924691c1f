"""Texts keep their charset and their type."""

import io
import re
import zipfile

import pytest

from forms import FILE, stored
from multipart import join, part
from samples import GIF, HTML, PDF, PNG, MIB

pytestmark = pytest.mark.local("about types and charsets, whatever the stores")

CHEESE = "Käse – 東京\n"

DECLARED = [  # what is declared, the bytes, what is served
    ("text/plain; charset=utf-8", CHEESE.encode(), "text/plain; charset=utf-8"),
    ("text/plain;charset=iso-8859-1", "Käse\n".encode("latin1"), "text/plain; charset=iso-8859-1"),
    ('Text/Plain; format=flowed; Charset="UTF-8"', b"a", "text/plain; charset=utf-8"),
    ("text/html; charset=windows-1251", "Сыр".encode("cp1251"), "text/html; charset=windows-1251"),
    ("text/csv; charset=Shift_JIS; header=present", b"a,b\n", "text/csv; charset=shift_jis"),
    ("text/plain; charset=utf-16", CHEESE.encode("utf-16"), "text/plain; charset=utf-16"),
    # The client's word counts, also where it is wrong.
    ("text/plain; charset=us-ascii", CHEESE.encode(), "text/plain; charset=us-ascii"),
    # No charset, or none that could be one: found in the bytes.
    ("text/plain", CHEESE.encode(), "text/plain; charset=utf-8"),
    ("text/plain", b"\xef\xbb\xbf" + CHEESE.encode(), "text/plain; charset=utf-8"),
    ("text/plain", b"plain", "text/plain; charset=utf-8"),
    ("text/plain", b"", "text/plain; charset=utf-8"),
    ("text/markdown", CHEESE.encode(), "text/markdown; charset=utf-8"),
    ("text/html", HTML, "text/html; charset=utf-8"),
    ("text/plain; charset=", b"x", "text/plain; charset=utf-8"),
    ("text/plain; charset=\"no name\"", b"x", "text/plain; charset=utf-8"),
    ("text/plain", "Käse\n".encode("latin1"), "text/plain"),
    ("text/plain", CHEESE.encode("utf-16"), "text/plain"),
    ("text/plain", CHEESE.encode("utf-16-le"), "text/plain"),
    ("text/plain", b"a\0b\0", "text/plain"),
    ("text/plain", CHEESE.encode()[:-2], "text/plain"),
    # Only texts have one.
    ("application/json; charset=utf-8", b"{}", "application/json"),
    ("application/octet-stream", CHEESE.encode(), "application/octet-stream"),
    ("image/png; charset=utf-8", PNG, "image/png"),
    ("text/plain; charset=utf-8", PNG, "application/octet-stream"),
]


def check_type(service, file, served, content):
    assert file["mimeType"] == served.split(";")[0]
    path = file["links"]["download"]
    for query in ("", "?inline=1", "/download"):
        for method in ("GET", "HEAD"):
            answer = service.request(method, path + query)
            assert answer.headers["Content-Type"] == served, (method, query)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if content:
        answer = service.get(path, headers={"Range": "bytes=0-0"})
        assert answer.status_code == 206 and answer.headers["Content-Type"] == served


@pytest.mark.smoke
@pytest.mark.parametrize("declared,content,served", DECLARED)
def test_charset_is_kept_and_served(service, declared, content, served):
    by_put = service.put("/api/files/upload/t.txt", data=content,
                         headers={"Content-Type": declared, "Content-Length": str(len(content))})
    assert by_put.status_code == 201
    check_type(service, by_put.json(), served, content)
    head = [FILE.format("t.txt").encode(), b"Content-Type: " + declared.encode()]
    found = stored(service, join([part(head, content)]))
    assert service.head(found["links"]["download"]).headers["Content-Type"] == served


@pytest.mark.smoke
@pytest.mark.parametrize("end,served", [
    (b"", "text/plain; charset=utf-8"), (b"\xe9", "text/plain"), (b"\0", "text/plain"),
])
def test_charset_of_a_large_text(service, end, served):
    """The last byte decides, and characters lie across the ends of buffers."""
    content = "x".encode() + "東".encode() * (2 * MIB // 3) + end
    file = service.create(content, "t.txt", mime="text/plain")
    assert service.head(file["links"]["download"]).headers["Content-Type"] == served


@pytest.mark.smoke
def test_charset_is_no_part_of_the_type_that_is_listed(service):
    file = service.create(b"a", "charset-list.txt", mime="text/x-listed; charset=iso-8859-2")
    for mime, total in (("text/x-listed", 1), ("text/x-listed; charset=iso-8859-2", 0)):
        page = service.get("/api/files", params={"mimeType": mime, "prefix": "charset-list"}).json()
        assert page["total"] == total
    assert service.delete(file["links"]["download"]).status_code == 200


@pytest.mark.smoke
def test_charset_outlives_a_change(service):
    file = service.create(b"\xe4", "t.txt", mime="text/plain; charset=iso-8859-1")
    path = file["links"]["download"]
    assert service.patch(path, json={"originalName": "u.txt"}).status_code == 200
    assert service.head(path).headers["Content-Type"] == "text/plain; charset=iso-8859-1"


PLAIN = {
    "a letter": b"x", "a digit": b"7", "a line end": b"\n", "a byte of Latin-1": b"\xe9",
    "nothing": b"", "a blank": b" ", "a tab": b"\t", "two letters of Shift_JIS": b"\x93\xfa",
    "a byte order mark": b"\xef\xbb\xbf", "half a character": b"\xe6\x9d",
    "subtitles": b"1\n00:00:01,000 --> 00:00:02,000\nHallo\n\n2\n00:00:03,000 --> 00:00:04,000\nx\n",
    "web subtitles": b"WEBVTT\n\n00:01.000 --> 00:02.000\nHallo\n",
    "a public key": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n=abcd\n",
    "a certificate": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "an internet shortcut": b"[InternetShortcut]\r\nURL=http://localhost/\r\n",
    "words": b"ref should be read as reference\n", "JSON lines": b'{"a":1}\n{"a":2}\n',
    "JSON": b'{"a":1}', "CSV": b"a,b\n1,2\n", "a diff": b"--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n",
    "a calendar": b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n",
    "a card": b"BEGIN:VCARD\r\nVERSION:3.0\r\nEND:VCARD\r\n",
    "a playlist": b"#EXTM3U\n#EXTINF:1,a\na.mp3\n", "a script": b"#!/bin/sh\necho x\n",
    "XML": b"<?xml version='1.0'?><x/>\n", "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>\n",
    "PostScript": b"%!PS-Adobe-3.0\nshowpage\n", "TeX": b"\\documentclass{article}\n",
    "a mail": b"From: a@b\nSubject: x\n\ny\n", "a torrent's text": b"d8:announce3:urle",
    "G-code": b"G28\nG1 X0\n", "a colour terminal": b"\x1b[31mred\x1b[0m\n",
    "DOS's end": b"words\r\n\x1a", "NULs between": b"a\0b\0", "UTF-16": "hi\n".encode("utf-16"),
    "UTF-16 without a mark": "hi\n".encode("utf-16-le"), "UTF-32": "hi\n".encode("utf-32"),
    "Big5": "中文\n".encode("big5"), "KOI8-R": "Сыр\n".encode("koi8-r"), "HTML": HTML,
}


@pytest.mark.parametrize("what", PLAIN)
def test_declared_plain_text_stays_so(service, what):
    for mime in ("text/plain", "text/plain; charset=utf-8"):
        answer = service.put("/api/files/upload/t.txt", data=PLAIN[what], headers={
            "Content-Type": mime, "Content-Length": str(len(PLAIN[what]))})
        assert answer.json()["mimeType"] == "text/plain"
    shown = service.head(answer.json()["links"]["download"] + "?inline=1").headers
    assert re.match("inline", shown["Content-Disposition"])


def a_zip():
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a.txt", "text")
    return made.getvalue()


@pytest.mark.parametrize("content", [
    PDF, PNG, GIF, b"GIF89a=1;", b"\x1f\x8b\x08" + bytes(7) + b"\3", b"\xff\xd8\xff\xe0\0\x10JFIF\0\1",
    a_zip(), b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0",
])
def test_what_is_known_to_be_no_text_does_not(service, content):
    assert service.create(content, "t.txt", mime="text/plain")["mimeType"] == (
        "application/octet-stream")
