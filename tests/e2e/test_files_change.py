"""PATCH, DELETE and batch delete, with their conditions."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from problems import check_problem
from samples import TEXT, UNKNOWN_ID, sha256, unique
from service import wait_for


def time_text(**ahead):
    moment = datetime.now(timezone.utc) + timedelta(**ahead)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def path_of(file):
    return f"/api/files/{file['id']}"


@pytest.mark.core
def test_patch_changes_what_it_names_and_nothing_else(service):
    file = service.create(TEXT, "before.txt", metadata={"a": "1", "b": "2"}, mime="text/plain")
    expires = time_text(hours=1)
    patch = {
        "originalName": "nachher ü.txt", "visibility": "public", "expiresAt": expires,
        "metadata": {"b": None, "c": "3"},
    }
    response = service.patch(path_of(file), json=patch)
    assert response.status_code == 200
    assert response.headers["Accept-Ranges"] == "none"
    changed = response.json()
    assert changed["updatedAt"] >= file["updatedAt"]
    assert changed == {
        **file, "originalName": "nachher ü.txt", "visibility": "public", "expiresAt": expires,
        "metadata": {"a": "1", "c": "3"}, "updatedAt": changed["updatedAt"],
    }
    meta = service.get(path_of(file) + "/meta")
    assert meta.json() == changed
    assert response.headers["ETag"] == meta.headers["ETag"]
    got = service.get(path_of(file))
    assert got.content == TEXT
    assert got.headers["ETag"] == f'"{sha256(TEXT)}"'
    assert "nachher%20%C3%BC.txt" in got.headers["Content-Disposition"]


def test_every_change_moves_the_version_tag(service):
    file = service.create()
    tags = [service.get(path_of(file) + "/meta").headers["ETag"]]
    for name in ("one", "two", "two"):
        service.patch(path_of(file), json={"originalName": name})
        tags.append(service.get(path_of(file) + "/meta").headers["ETag"])
    assert len(set(tags[:3])) == 3


def test_null_removes(service):
    file = service.create(metadata={"a": "1"}, expiresIn="3600")
    changed = service.patch(path_of(file), json={"metadata": None, "expiresAt": None}).json()
    assert changed["metadata"] == {} and changed["expiresAt"] is None


def test_merge_patch_media_type(service):
    path = path_of(service.create())
    body = json.dumps({"originalName": "merged"})
    for media_type in ("application/merge-patch+json", "application/json",
                       "application/json; charset=utf-8"):
        response = service.patch(path, data=body, headers={"Content-Type": media_type})
        assert response.status_code == 200, media_type
    for media_type in ("text/plain", "application/json-patch+json"):
        response = service.patch(path, data=body, headers={"Content-Type": media_type})
        check_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "patch",
    [
        {"originalName": None}, {"originalName": ""}, {"originalName": "a/b"}, {"originalName": 5},
        {"originalName": ".."}, {"originalName": "a\u0000b"}, {"originalName": "a\nb"},
        {"originalName": "x" * 256}, {"originalName": "a\u202eb"},
        {"metadata": []}, {"metadata": "x"}, {"metadata": {"a": 1}}, {"metadata": {"a": {}}},
        {"metadata": {"a": "x" * 4096}},
        {"visibility": None}, {"visibility": "hidden"}, {"visibility": 1},
        {"expiresAt": "2001-01-01T00:00:00Z"}, {"expiresAt": "tomorrow"}, {"expiresAt": 5},
        {"expiresAt": ""}, {"expiresAt": "2026-13-01T00:00:00Z"},
        {"size": 1}, {"owner": "other"}, {"id": UNKNOWN_ID}, {"unknown": "x"},
        [], "text", None, 5,
    ],
)
def test_bad_patch_changes_nothing(service, patch):
    file = service.create(metadata={"keep": "me"})
    body = json.dumps(patch)
    headers = {"Content-Type": "application/merge-patch+json"}
    problem = check_problem(service.patch(path_of(file), data=body, headers=headers), 400)
    assert problem["code"] in ("bad_parameter", "bad_name", "bad_json")
    assert service.get(path_of(file) + "/meta").json() == file


def test_a_patch_is_applied_wholly_or_not_at_all(service):
    file = service.create()
    patch = {"originalName": "new", "visibility": "wrong"}
    check_problem(service.patch(path_of(file), json=patch), 400)
    assert service.get(path_of(file) + "/meta").json() == file


def test_metadata_limit_holds_after_merging(service):
    file = service.create(metadata={"a": "x" * 2500})
    check_problem(service.patch(path_of(file), json={"metadata": {"b": "y" * 2500}}), 400)
    response = service.patch(path_of(file), json={"metadata": {"a": None, "b": "y" * 2500}})
    assert response.status_code == 200


def test_patch_without_body_or_length(service):
    path = path_of(service.create())
    response = service.request("PATCH", path, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 411)


def test_patch_of_an_unknown_file(service):
    check_problem(service.patch(f"/api/files/{UNKNOWN_ID}", json={}), 404, "not_found")


@pytest.mark.core
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_match(service, method):
    file = service.create(TEXT)
    path = path_of(file)
    tag = service.get(path + "/meta").headers["ETag"]
    options = {"json": {"originalName": "x"}} if method == "PATCH" else {}
    for wrong in ('"other"', f"W/{tag}", "garbage"):
        response = service.request(method, path, headers={"If-Match": wrong}, **options)
        check_problem(response, 412, "precondition_failed")
    assert service.get(path + "/meta").json() == file
    ok = service.request(method, path, headers={"If-Match": f'"other", {tag}'}, **options)
    assert ok.status_code == 200, ok.text
    if method == "PATCH":
        stale = service.request(method, path, headers={"If-Match": tag}, **options)
        check_problem(stale, 412, "precondition_failed")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("tag", ["content", "*"])
def test_if_match_may_name_the_content(service, method, tag):
    file = service.create(TEXT)
    value = f'"{file["sha256"]}"' if tag == "content" else "*"
    options = {"json": {"originalName": "x"}} if method == "PATCH" else {}
    response = service.request(method, path_of(file), headers={"If-Match": value}, **options)
    assert response.status_code == 200


@pytest.mark.core
def test_patched_expiry_takes_effect(service):
    path = path_of(service.create())
    assert service.patch(path, json={"expiresAt": time_text(seconds=1)}).status_code == 200
    wait_for(lambda: service.get(path).status_code == 404, "expired", 5)
    check_problem(service.get(path + "/meta"), 404, "not_found")


@pytest.mark.core
def test_delete_and_gone_by_every_path(service):
    name = unique()
    file = service.create(TEXT, name, visibility="public")
    path = path_of(file)
    response = service.delete(path)
    assert response.status_code == 200
    assert response.json() == {"id": file["id"], "deleted": True}
    for method, target in (
        ("GET", path), ("HEAD", path), ("GET", path + "/meta"), ("GET", path + "/download"),
        ("HEAD", path + "/meta"), ("DELETE", path),
    ):
        assert service.request(method, target).status_code == 404, (method, target)
    headers = {"Range": "bytes=0-1", "If-None-Match": f'"{file["sha256"]}"'}
    check_problem(service.get(path, headers=headers), 404, "not_found")
    check_problem(service.patch(path, json={}), 404, "not_found")
    assert service.get("/api/files", params={"prefix": name}).json()["files"] == []


@pytest.mark.core
def test_deleted_bytes_leave_the_store(service):
    content = unique("wiped").encode() * 1000
    file = service.create(content)
    name = service.object_of(content)
    service.delete(path_of(file))
    wait_for(lambda: name not in service.objects(), "bytes removed", 10)


@pytest.mark.core
def test_batch_delete_judges_each_by_itself(service):
    files = [service.create() for _ in range(3)]
    gone = service.create()
    service.delete(path_of(gone))
    ids = [files[0]["id"], UNKNOWN_ID, gone["id"], "nonsense", files[1]["id"], files[0]["id"]]
    response = service.post("/api/files/delete", json={"ids": ids})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["id"] for result in results] == ids
    assert [result["deleted"] for result in results] == [True, False, False, False, True, False]
    assert [result.get("error") for result in results] == [
        None, "not_found", "not_found", "bad_id", None, "not_found",
    ]
    assert [service.get(path_of(file)).status_code for file in files] == [404, 404, 200]


def test_batch_delete_of_a_thousand(service):
    ids = [service.create(b"x", "many")["id"] for _ in range(120)]
    ids += [UNKNOWN_ID[:-4] + f"{number:04x}" for number in range(880)]
    results = service.post("/api/files/delete", json={"ids": ids}).json()["results"]
    assert sum(result["deleted"] for result in results) == 120
    too_many = service.post("/api/files/delete", json={"ids": ids + [UNKNOWN_ID]})
    check_problem(too_many, 400)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"ids":"x"}', b'{"ids":[1]}', b'{"ids":null}',
             b'{"ids":["x"],"other":1}', b'{"ids":["x"],"ids":["y"]}', b'"x"', b"\xff"]
)
def test_bad_batch(service, body):
    headers = {"Content-Type": "application/json"}
    check_problem(service.post("/api/files/delete", data=body, headers=headers), 400)


def test_batch_delete_leaves_foreign_files_alone(token_service):
    mine, other = (token_service.token(unique("batch")) for _ in range(2))
    file = token_service.create(TEXT, token=mine, visibility="public")
    answer = token_service.post("/api/files/delete", token=other, json={"ids": [file["id"]]})
    assert answer.json()["results"] == [
        {"id": file["id"], "deleted": False, "error": "not_found"}
    ]
    assert token_service.get(path_of(file), token=mine).content == TEXT


def test_changes_to_a_foreign_public_file_are_404(token_service):
    mine, other = (token_service.token(unique("owner")) for _ in range(2))
    path = path_of(token_service.create(TEXT, token=mine, visibility="public"))
    assert token_service.get(path, token=other).status_code == 200
    assert token_service.get(path).status_code == 200
    check_problem(token_service.patch(path, token=other, json={}), 404, "not_found")
    check_problem(token_service.delete(path, token=other), 404, "not_found")
    check_problem(token_service.delete(path), 401, "unauthorized")
