"""POST and PUT of files: the answer, the fields, digests, limits and curl's ways of sending."""

import json
import re
import subprocess
from datetime import datetime, timedelta
from urllib.parse import quote, unquote

import pytest

from multipart import content_type, file_part, join, text_part
from problems import TIME, check_problem
from rawhttp import RawConnection, exchange, raw_request
from samples import (
    EMPTY_SHA256, MIB, PDF, PNG, TEXT, md5_base64, random_bytes, sha256, sha256_digest, unique,
)
from service import wait_for

MEMBERS = {
    "id", "originalName", "mimeType", "size", "sha256", "bucket", "key", "owner", "visibility",
    "metadata", "status", "createdAt", "updatedAt", "expiresAt", "links",
}
UUIDV7 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def parse_time(text):
    assert TIME.match(text), text
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def curl(*args):
    """curl's body and HTTP status."""
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *map(str, args)],
        capture_output=True, timeout=120, check=True,
    )
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def check_file(found, name, content, owner="local"):
    assert set(found) == MEMBERS
    assert UUIDV7.match(found["id"])
    assert found["originalName"] == name
    assert found["size"] == len(content)
    assert found["sha256"] == sha256(content)
    assert found["owner"] == owner
    assert found["status"] == "ready"
    assert found["bucket"] and found["key"]
    assert parse_time(found["updatedAt"]) == parse_time(found["createdAt"])
    self_link, download = found["links"]["self"], found["links"]["download"]
    assert self_link == f"/api/files/{found['id']}/meta"
    assert download == f"/api/files/{found['id']}"


@pytest.mark.core
def test_multipart_upload_answers_with_the_file_object(service):
    name = unique() + ".txt"
    response = service.upload(TEXT, name, mime="text/plain")
    assert response.status_code == 201
    found = response.json()
    check_file(found, name, TEXT)
    assert found["visibility"] == "private"
    assert found["metadata"] == {}
    assert found["expiresAt"] is None
    assert found["mimeType"] == "text/plain"
    assert response.headers["Location"].endswith(f"/api/files/{found['id']}")
    assert response.headers["Content-Type"].split(";")[0] == "application/json"
    assert response.headers["Accept-Ranges"] == "none"
    assert service.get(found["links"]["self"]).json() == found
    assert service.get(found["links"]["download"]).content == TEXT


@pytest.mark.core
def test_all_text_parts(service):
    metadata = {"project": "x", "schön": "日本 \"quoted\" \\ \n"}
    found = service.create(
        TEXT, "a.txt", metadata=metadata, visibility="public", expiresIn="3600"
    )
    assert found["metadata"] == metadata
    assert found["visibility"] == "public"
    lives = parse_time(found["expiresAt"]) - parse_time(found["createdAt"])
    assert lives == timedelta(seconds=3600)


def test_text_parts_in_any_order_before_the_file(service):
    found = service.create(TEXT, "a.txt", expiresIn="60", visibility="private", metadata={})
    assert found["metadata"] == {}


@pytest.mark.parametrize("field", ["metadata", "visibility", "expiresIn"])
def test_text_part_after_the_file_is_refused(service, field):
    value = {"metadata": "{}", "visibility": "public", "expiresIn": "60"}[field]
    name = unique()
    body = join([file_part(TEXT, name), text_part(field, value)])
    response = service.post(
        "/api/files/upload", data=body, headers={"Content-Type": content_type()}
    )
    check_problem(response, 400, "bad_multipart")
    assert service.get("/api/files", params={"prefix": name}).json()["total"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata", "[]"), ("metadata", '"x"'), ("metadata", "{"),
        ("metadata", '{"a":1}'), ("metadata", '{"a":null}'), ("metadata", '{"a":{"b":"c"}}'),
        ("metadata", '{"a":"1","a":"2"}'), ("metadata", '{"a":"b"} x'),
        ("metadata", json.dumps({"a": "x" * 4096})),
        ("visibility", "PUBLIC"), ("visibility", "secret"),
        ("expiresIn", "0"), ("expiresIn", "-1"), ("expiresIn", "315360001"),
        ("expiresIn", "1.5"), ("expiresIn", "5x"), ("expiresIn", "9223372036854775808"),
        ("expiresIn", " 5"), ("expiresIn", "+5"),
    ],
)
def test_bad_text_part_is_refused_and_nothing_stored(service, field, value):
    name = unique()
    check_problem(service.upload(TEXT, name, **{field: value}), 400)
    assert service.get("/api/files", params={"prefix": name}).json()["total"] == 0


def test_largest_expiry_is_accepted(service):
    found = service.create(TEXT, "a.txt", expiresIn="315360000")
    lives = parse_time(found["expiresAt"]) - parse_time(found["createdAt"])
    assert lives == timedelta(seconds=315360000)


def test_metadata_of_exactly_4_kib(service):
    frame = len('{"k":""}')
    found = service.create(TEXT, "a.txt", metadata='{"k":"' + "x" * (4096 - frame) + '"}')
    assert len(found["metadata"]["k"]) == 4096 - frame
    over = '{"k":"' + "x" * (4096 - frame + 1) + '"}'
    check_problem(service.upload(TEXT, "a.txt", metadata=over), 400)


@pytest.mark.core
def test_put_upload(service):
    name = unique() + ".pdf"
    response = service.put(
        f"/api/files/upload/{name}", data=PDF, headers={"Content-Type": "application/pdf"}
    )
    assert response.status_code == 201
    check_file(response.json(), name, PDF)
    assert response.json()["mimeType"] == "application/pdf"
    assert response.headers["Location"].endswith(f"/api/files/{response.json()['id']}")


@pytest.mark.parametrize(
    "name",
    [
        "with space.txt", "Grüße.txt", "日本語.bin", "😀", "a+b", "a&b=c", "100%.txt", "a#b", "a?b",
        "q\"uote'.txt", "a;b", "-rf", "...", "trailing.", "trailing ", " leading", "a\\b",
        "e\u0301.txt", "\u00e9.txt", "x" * 255, "é" * 127 + "x",
    ],
)
def test_put_names_are_decoded_once(service, name):
    response = service.put(f"/api/files/upload/{quote(name, safe='')}", data=TEXT)
    assert response.status_code == 201, response.text
    found = response.json()
    assert found["originalName"] == name
    head = service.head(f"/api/files/{found['id']}")
    extended = re.search(r"filename\*=UTF-8''([^;]+)", head.headers["Content-Disposition"])
    if extended:
        assert unquote(extended.group(1)) == name
    assert head.headers["Content-Disposition"].isascii()


@pytest.mark.parametrize(
    "segment",
    ["%00", "a%00b", "a%0Ab", "a%0D%0Ab", "%zz", "%", "%4", "%ff", "%c0%ae", "%ed%a0%80", "a%1fb",
     "%c2%85", "%e2%80%ae", "%2e%2e", ".", "x" * 256, "é" * 128],
)
def test_put_bad_names(service, segment):
    response = exchange(service, raw_request("PUT", f"/api/files/upload/{segment}".encode(),
                                             body=TEXT))
    assert response.status in (400, 404, 405), response


def test_put_without_name_is_refused(service):
    response = service.put("/api/files/upload/", data=TEXT)
    assert response.status_code in (400, 404, 405)


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/api/files/upload/a.bin"), ("POST", "/api/files/upload")]
)
def test_body_of_unknown_length_is_411_and_names_the_pipe_route(service, method, path):
    """Told while the body is still on its way, and also when it has come whole by the time the
    gateway looks."""
    headers = [("Transfer-Encoding", "chunked"), ("Content-Type", content_type())]
    request = raw_request(method, path, headers)
    with RawConnection(service) as connection:
        connection.send(request + b"4\r\nsome\r\n")
        answer = connection.read(method)
    assert answer.status == 411
    problem = json.loads(answer.body)
    assert problem["code"] == "length_required" and "/api/files/pipe/" in problem["detail"]
    for _ in range(5):
        with RawConnection(service) as connection:
            connection.send(request + b"4\r\nsome\r\n0\r\n\r\n")
            assert connection.read(method).status == 411


@pytest.mark.core
def test_pipe_takes_a_body_of_unknown_length(service):
    content = random_bytes(3 * MIB + 7)

    def chunks():
        for start in range(0, len(content), 100_000):
            yield content[start:start + 100_000]

    name = unique() + ".tar"
    response = service.put(f"/api/files/pipe/{name}", data=chunks())
    assert response.status_code == 201, response.text
    check_file(response.json(), name, content)
    assert service.get(f"/api/files/{response.json()['id']}").content == content


def test_pipe_takes_a_body_of_known_length_too(service):
    response = service.put("/api/files/pipe/known.bin", data=TEXT)
    assert response.status_code == 201
    check_file(response.json(), "known.bin", TEXT)


def test_curl_upload_file_appends_the_name(service, tmp_path):
    path = tmp_path / "bericht mit Ümlaut.pdf"
    path.write_bytes(PDF)
    status, body = curl("-T", path, service.url + "/api/files/upload/")
    assert status == 201
    check_file(json.loads(body), path.name, PDF)


def test_curl_pipe_from_standard_input(service, tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "b.bin").write_bytes(random_bytes(200_000))
    script = f"tar c -C '{tmp_path}' . | curl -sS -T - {service.url}/api/files/pipe/a.tar"
    done = subprocess.run(["bash", "-euc", script], capture_output=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    listed = subprocess.run(
        ["tar", "t"], input=service.get(f"/api/files/{found['id']}").content,
        capture_output=True, check=True,
    ).stdout.decode()
    assert "./a.txt" in listed and "./b.bin" in listed


def test_curl_form(service, tmp_path):
    path = tmp_path / "x y.txt"
    path.write_bytes(TEXT)
    status, body = curl(
        "-F", 'metadata={"a":"b"}', "-F", f"file=@{path}", service.url + "/api/files/upload"
    )
    assert status == 201
    assert json.loads(body)["metadata"] == {"a": "b"}
    assert json.loads(body)["originalName"] == "x y.txt"


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_put_with_right_digest(service, header):
    content = random_bytes(70_000)
    response = service.put(
        "/api/files/upload/a.bin", data=content, headers={header: sha256_digest(content)}
    )
    assert response.status_code == 201


@pytest.mark.core
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Digest", sha256_digest(b"other")),
        ("Repr-Digest", sha256_digest(b"other")),
        ("Content-MD5", md5_base64(b"other")),
    ],
)
def test_wrong_digest_is_422_and_nothing_stored(service, header, value):
    name = unique()
    response = service.put(f"/api/files/upload/{name}", data=TEXT, headers={header: value})
    check_problem(response, 422, "digest_mismatch")
    assert service.get("/api/files", params={"prefix": name}).json()["total"] == 0


def test_right_content_md5(service):
    response = service.put(
        "/api/files/upload/a.bin", data=TEXT, headers={"Content-MD5": md5_base64(TEXT)}
    )
    assert response.status_code == 201


@pytest.mark.core
def test_empty_file_by_both_ways(service):
    for response in (service.upload(b"", "empty"), service.put("/api/files/upload/empty", data=b"",
                                                               headers={"Content-Length": "0"})):
        assert response.status_code == 201, response.text
        assert response.json()["sha256"] == EMPTY_SHA256
        assert service.get(f"/api/files/{response.json()['id']}").content == b""


@pytest.mark.core
def test_same_content_twice_is_two_files(service):
    first, second = service.create(TEXT, "a"), service.create(TEXT, "a")
    assert first["id"] != second["id"] and first["key"] != second["key"]
    service.delete(f"/api/files/{first['id']}")
    assert service.get(f"/api/files/{second['id']}").content == TEXT


def test_ids_are_in_the_order_of_creation(service):
    ids = [service.create(b"x", "order")["id"] for _ in range(20)]
    assert ids == sorted(ids)


def test_declared_type_is_kept_only_when_the_bytes_agree(service):
    assert service.create(PNG, "a.png", mime="image/png")["mimeType"] == "image/png"
    assert service.create(TEXT, "a.txt", mime="text/plain; charset=utf-8")["mimeType"] == (
        "text/plain"
    )
    lie = service.create(b"<html><script>1</script></html>", "a.png", mime="image/png")
    assert lie["mimeType"] == "application/octet-stream"


@pytest.mark.core
def test_expired_file_is_gone_everywhere(service):
    name = unique()
    found = service.create(TEXT, name, expiresIn="1", visibility="public")
    path = f"/api/files/{found['id']}"
    assert service.get(path).status_code in (200, 404)
    wait_for(lambda: service.get(path).status_code == 404, "expired", 5)
    for method, target in (
        ("GET", path + "/meta"), ("GET", path + "/download"), ("HEAD", path), ("DELETE", path),
    ):
        assert service.request(method, target).status_code == 404, (method, target)
    assert service.patch(path, json={"expiresAt": None}).status_code == 404
    page = service.get("/api/files", params={"prefix": name}).json()
    assert page["files"] == [] and page["total"] == 0
