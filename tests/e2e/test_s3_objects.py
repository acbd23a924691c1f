"""What a bucket holds, as another client of the store sees it (boto3), and objects that somebody
changed: they are never served as good."""

import time

import pytest

from problems import check_problem
from rawhttp import RawConnection, raw_request
from samples import GIF, MIB, PNG, TEXT, random_bytes, sha256, unique
from service import wait_for

pytestmark = pytest.mark.backends("s3+mongodb", "minio+mongodb", "s3+sqlite")

PART = 8 * MIB


@pytest.fixture
def watched(start_service):
    """A service of its own, whose objects may be damaged."""
    service = start_service(SWEEP_INTERVAL_SECONDS="0")
    service.expect_5xx = service.expect_damage = True
    return service


# ---- objects as we describe them ----

def head_of(service, made):
    """The one object of a file, as the store tells of it."""
    objects = service.stores.objects
    assert made["bucket"] == objects.bucket
    assert objects.every()[made["key"]] == made["size"]
    return objects.head(made["key"])


def told_sha256(service, made):
    """The SHA-256 that the object carries for other clients."""
    head = head_of(service, made)
    if "sha256" in head["Metadata"]:
        return head["Metadata"]["sha256"]
    objects = service.stores.objects
    tags = objects.client.get_object_tagging(Bucket=objects.bucket, Key=made["key"])["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}.get("sha256")


@pytest.mark.core
@pytest.mark.parametrize("size", [0, 1, 300_000, PART, PART + 1, 20_345_678])
def test_an_object_is_its_file(service, size):
    content = random_bytes(size, seed=size)
    made = service.create(content, unique())
    head = head_of(service, made)
    assert head["ContentLength"] == size and head["ContentType"] == made["mimeType"]
    assert told_sha256(service, made) == made["sha256"] == sha256(content)
    assert service.stores.objects.read(made["key"]) == content
    parts = -(-size // PART)
    etag = head["ETag"].strip('"')
    assert etag.endswith(f"-{parts}") if parts > 1 else "-" not in etag


@pytest.mark.parametrize("content, mime", [(PNG, "image/png"), (GIF, "image/gif"),
                                           (TEXT, "text/plain"), (TEXT, "image/png")])
def test_the_type_is_what_the_file_says(service, content, mime):
    made = service.create(content, mime=mime)
    assert head_of(service, made)["ContentType"] == made["mimeType"]


@pytest.mark.core
@pytest.mark.parametrize("way", ["upload", "pipe"])
def test_each_way_to_upload_makes_one_object(service, way):
    content = random_bytes(PART + 100, seed=3)
    before = set(service.objects())
    made = service.put(f"/api/files/{way}/{unique()}", data=content).json()
    assert told_sha256(service, made) == sha256(content)
    assert made["key"] in set(service.objects()) - before
    assert service.stores.objects.unfinished() == {}


def test_the_checksum_of_a_small_object_is_verified_by_the_store(service):
    """What the driver asserts comes back: it was checked when the object was written."""
    import base64

    content = random_bytes(1000, seed=4)
    head = head_of(service, service.create(content))
    assert base64.b64decode(head["ChecksumSHA256"]).hex() == sha256(content)


def test_nothing_is_left_after_a_delete(watched):
    made = [watched.create(random_bytes(size, seed=5)) for size in (0, 1000, PART + 1)]
    assert len(watched.objects()) == 3
    for file in made[:2]:
        assert watched.delete(f"/api/files/{file['id']}").status_code == 200
    wait_for(lambda: set(watched.objects()) == {made[2]["key"]}, "two objects are gone", 10)
    body = {"ids": [made[2]["id"]]}
    assert watched.post("/api/files/delete", json=body).json()["results"][0]["deleted"]
    wait_for(lambda: watched.stored_bytes() == {}, "nothing is left", 10)


def test_parts_of_another_size(start_service):
    service = start_service(S3_PART_SIZE="6M")
    content = random_bytes(13 * MIB, seed=6)
    made = service.create(content)
    assert head_of(service, made)["ETag"].strip('"').endswith("-3")
    assert service.get(f"/api/files/{made['id']}").content == content


@pytest.mark.core
def test_what_is_refused_leaves_no_upload(start_service):
    """Bodies of several parts that are refused at their end, or break off."""
    service = start_service(MAX_FILE_SIZE=12 * MIB)
    content = random_bytes(12 * MIB, seed=7)
    wrong = service.put("/api/files/upload/a", data=content,
                        headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    check_problem(wrong, 422, "digest_mismatch")
    check_problem(service.upload(content + b"x"), 413, "file_too_large")
    wait_for(lambda: service.stored_bytes() == {}, "nothing is left", 10)
    service.create(content)
    assert len(service.stored_bytes()) == 1


def test_init_keeps_a_bucket_and_what_is_in_it(watched):
    made = watched.create(TEXT)
    watched.coffer("init")
    watched.restart()
    assert list(watched.objects()) == [made["key"]]
    assert watched.get(f"/api/files/{made['id']}").content == TEXT


def test_objects_of_others_are_left_alone(watched):
    """No key of ours: neither fsck nor the sweep knows them."""
    objects = watched.stores.objects
    for name in ("holiday.jpg", "a/b/c.txt", "ab/"):
        objects.client.put_object(Bucket=objects.bucket, Key=name, Body=b"")
    watched.create(TEXT)
    assert watched.coffer("fsck").returncode == 0
    assert "orphans 0" in watched.coffer("gc", "--grace", "0").stdout
    assert {"holiday.jpg", "a/b/c.txt"} <= set(watched.objects())


# ---- objects that somebody changed ----

def change(service, made, content, kind):
    objects, key = service.stores.objects, made["key"]
    if kind == "gone":
        objects.remove(key)
    elif kind == "same size":
        objects.write(key, content[:-1] + bytes([content[-1] ^ 1]))
    elif kind == "shorter":
        objects.write(key, content[:-1])
    elif kind == "longer":
        objects.write(key, content + b"x")
    elif kind == "empty":
        objects.write(key, b"")


CHANGES = ["same size", "shorter", "longer", "empty", "gone"]


def check_not_good(service, made, kind, size):
    """Whole downloads are judged by their hash, ranges by the store's tag, HEAD by the size."""
    path = f"/api/files/{made['id']}"
    # A young object that is missing may not be visible yet.
    expected = (503, "storage_unavailable") if kind == "gone" else (502, "storage_error")
    for headers in ({"Range": "bytes=0-9"}, {"Range": f"bytes={size - 5}-"}, {"Range": "bytes=-1"}):
        check_problem(service.get(path, headers=headers), *expected)
    for tail in ("", "/download"):
        if kind == "same size" and size > MIB:
            # Its head has left when the hash is known: it is cut, and never as long as promised.
            with RawConnection(service) as connection:
                started = time.monotonic()
                answer = connection.send(raw_request("GET", path + tail)).read()
            assert answer.status == 200 and answer.closed and not answer.complete
            assert time.monotonic() - started < 8, "it is told at once"
        else:
            check_problem(service.get(path + tail), *expected)
    head = service.head(path).status_code
    assert head == (200 if kind == "same size" else expected[0])
    return expected[0]


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("size", [20_000, PART + MIB])
def test_a_changed_object_is_never_good(watched, kind, size):
    content = random_bytes(size, seed=8)
    made = watched.create(content)
    change(watched, made, content, kind)
    path = f"/api/files/{made['id']}"
    status = check_not_good(watched, made, kind, size)
    # What doesn't touch the bytes goes on.
    assert watched.get(path + "/meta").json()["status"] == "ready"
    assert watched.get(path, headers={"If-None-Match": f'"{made["sha256"]}"'}).status_code == 304
    check_problem(watched.get(path, headers={"Range": f"bytes={size}-"}), 416)
    # It is told, and fsck finds it.
    told = [line for line in watched.log_lines()
            if line.get("url.path") in (path, path + "/download")
            and line.get("http.request.method") == "GET" and line["log.level"] == "error"]
    assert len(told) == 5, [line.get("error.message") for line in told]
    assert {line["http.response.status_code"] for line in told} <= {status, 200}
    found = watched.coffer("fsck", check=False)
    assert found.returncode == 1 and made["id"] in found.stdout
    assert watched.delete(path).status_code == 200
    wait_for(lambda: watched.stored_bytes() == {}, "the wrong bytes are gone", 10)


@pytest.mark.parametrize("size", [20_000, PART + MIB])
def test_the_same_bytes_written_again_are_the_same_file(watched, size):
    """Somebody restored the object from a copy: in one part, so that its tag may be another."""
    content = random_bytes(size, seed=9)
    made = watched.create(content)
    watched.stores.objects.write(made["key"], content)
    path = f"/api/files/{made['id']}"
    assert watched.get(path).content == content
    part = watched.get(path, headers={"Range": "bytes=5-9"})
    if size < PART:
        assert part.content == content[5:10]
    else:
        check_problem(part, 502, "storage_error")


def test_a_file_that_was_damaged_and_deleted_meanwhile_is_404(watched):
    made = watched.create(TEXT)
    watched.stores.objects.remove(made["key"])
    assert watched.delete(f"/api/files/{made['id']}").status_code == 200
    check_problem(watched.get(f"/api/files/{made['id']}"), 404, "not_found")
