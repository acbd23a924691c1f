"""Properties over random files, 100 examples each on the default backend."""

import hashlib
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import examples
from problems import check_problem
from samples import MAX_FILE_SIZE, random_bytes, sha256, unique
from service import running

LIMIT = 100_000

SIZES = st.one_of(
    st.integers(0, 300),
    st.integers(0, 2_000_000),
    st.sampled_from([65535, 65536, 65537, 262143, 262144, 262145, 524288, 1048577]),
)
CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.builds(random_bytes, SIZES, st.integers(0, 2**32)),
)
FORBIDDEN = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_name(text):
    return 0 < len(text.encode()) <= 255 and text not in (".", "..")


NAMES = st.text(
    st.characters(
        exclude_categories=("Cs", "Cc"),
        exclude_characters="".join(FORBIDDEN) + "/\\",
    ),
    min_size=1, max_size=60,
).filter(is_name)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
METADATA = st.dictionaries(TEXTS, TEXTS, max_size=8)


@pytest.fixture(scope="module")
def small_service():
    """MAX_FILE_SIZE small enough to go above it often."""
    yield from running(MAX_FILE_SIZE=str(LIMIT))


def upload(service, way, content, name="p.bin"):
    if way == "multipart":
        return service.upload(content, name)
    return service.put(f"/api/files/{way}/p.bin", data=content)


WAYS = st.sampled_from(["multipart", "upload", "pipe"])


@pytest.mark.core
@given(content=CONTENTS, way=WAYS)
def test_random_bytes_survive_the_round_trip(service, content, way):
    response = upload(service, way, content)
    assert response.status_code == 201
    file = response.json()
    assert file["size"] == len(content)
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    got = service.get(f"/api/files/{file['id']}")
    assert got.content == content
    assert got.headers["Content-Length"] == str(len(content))
    assert service.delete(f"/api/files/{file['id']}").status_code == 200


@pytest.mark.core
@given(content=st.binary(min_size=1, max_size=5000), data=st.data())
def test_every_range_is_the_slice_of_the_whole(service, content, data):
    path = f"/api/files/{service.create(content)['id']}"
    first = data.draw(st.integers(0, len(content) - 1))
    last = data.draw(st.integers(first, len(content) + 10))
    got = service.get(path, headers={"Range": f"bytes={first}-{last}"})
    assert got.status_code == 206
    assert got.content == content[first:last + 1]
    suffix = data.draw(st.integers(1, len(content) + 10))
    assert service.get(path, headers={"Range": f"bytes=-{suffix}"}).content == content[-suffix:]


@given(content=st.binary(max_size=500), batch=st.booleans(), visibility=st.sampled_from(
    ["public", "private"]))
def test_after_delete_every_path_is_404(service, content, batch, visibility):
    file = service.create(content, unique("gone"), visibility=visibility)
    path = f"/api/files/{file['id']}"
    if batch:
        answer = service.post("/api/files/delete", json={"ids": [file["id"]]})
        assert answer.json()["results"] == [{"id": file["id"], "deleted": True}]
    else:
        assert service.delete(path).status_code == 200
    for target in (path, path + "/meta", path + "/download", path + "?inline=1"):
        assert service.get(target).status_code == 404
        assert service.head(target).status_code == 404
    assert service.get(path, headers={"Range": "bytes=0-0"}).status_code == 404
    assert service.patch(path, json={"visibility": "public"}).status_code == 404
    assert service.delete(path).status_code == 404
    page = service.get("/api/files", params={"prefix": file["originalName"]}).json()
    assert page["files"] == [] and page["total"] == 0


@given(over=st.one_of(st.integers(1, 20), st.integers(1, 1500)), way=WAYS)
def test_above_the_limit_is_413_and_nothing_stored(small_service, over, way):
    before = small_service.state()
    response = upload(small_service, way, b"x" * (LIMIT + over))
    problem = check_problem(response, 413, "file_too_large")
    assert problem["details"] == {"limit": LIMIT}
    assert small_service.state() == before


@given(under=st.integers(0, 20), way=WAYS)
def test_up_to_the_limit_is_accepted(small_service, under, way):
    content = random_bytes(LIMIT - under)
    response = upload(small_service, way, content)
    assert response.status_code == 201, response.text
    assert response.json()["sha256"] == sha256(content)


@pytest.mark.core
def test_the_real_limit(service):
    before = service.state()
    for way in ("multipart", "upload"):
        check_problem(upload(service, way, bytes(MAX_FILE_SIZE + 1)), 413, "file_too_large")
    assert service.state() == before
    file = upload(service, "multipart", bytes(MAX_FILE_SIZE)).json()
    assert file["size"] == MAX_FILE_SIZE
    service.delete(f"/api/files/{file['id']}")


@given(name=NAMES)
@settings(max_examples=examples(200))
def test_names_round_trip(service, name):
    by_form = service.create(b"n", name)
    assert by_form["originalName"] == name
    response = service.put(f"/api/files/upload/{quote(name, safe='')}", data=b"n")
    assert response.status_code == 201, response.text
    file = response.json()
    assert file["originalName"] == name
    service.patch(f"/api/files/{by_form['id']}", json={"originalName": "between"})
    patched = service.patch(f"/api/files/{by_form['id']}", json={"originalName": name})
    assert patched.status_code == 200 and patched.json()["originalName"] == name
    disposition = service.head(f"/api/files/{file['id']}").headers["Content-Disposition"]
    assert disposition.isascii() and disposition.isprintable()
    extended = re.search(r"filename\*=UTF-8''([^;]+)$", disposition)
    assert extended is None or unquote(extended.group(1)) == name
    page = service.get("/api/files", params={"prefix": name, "limit": 1000}).json()
    assert {file["id"], by_form["id"]} <= {found["id"] for found in page["files"]}
    for each in (file["id"], by_form["id"]):
        service.delete(f"/api/files/{each}")


@given(metadata=METADATA, patch=st.dictionaries(TEXTS, st.none() | TEXTS, max_size=5))
def test_metadata_round_trips_and_merges(service, metadata, patch):
    file = service.create(b"m", metadata=metadata)
    assert file["metadata"] == metadata
    path = f"/api/files/{file['id']}"
    patched = service.patch(path, json={"metadata": patch})
    assert patched.status_code == 200, patched.text
    wanted = {key: value for key, value in {**metadata, **patch}.items() if value is not None}
    assert patched.json()["metadata"] == wanted
    assert service.get(path + "/meta").json()["metadata"] == wanted
