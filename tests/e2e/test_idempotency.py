"""Idempotency-Key: the first answer again, one file, and what counts as the same request."""

import pytest

from multipart import content_type, file_part, join, text_part
from problems import check_problem
from rawhttp import exchange, raw_request
from samples import TEXT, sha256_digest, unique

REPLAYED = "Idempotency-Replayed"


def key():
    return {"Idempotency-Key": unique("key")}


def count(service, prefix, token=None):
    return service.get("/api/files", token=token, params={"prefix": prefix}).json()["total"]


def same_answer(first, second):
    assert REPLAYED not in first.headers
    assert second.headers[REPLAYED] == "true"
    assert second.status_code == first.status_code
    assert second.content == first.content
    for header in ("Location", "ETag", "Content-Type"):
        assert second.headers.get(header) == first.headers.get(header), header


@pytest.mark.core
def test_multipart_retry_with_another_boundary(service):
    name, headers = unique(), key()
    parts = [text_part("metadata", '{"a":"b"}'), file_part(TEXT, name)]
    answers = [
        service.post("/api/files/upload", data=join(parts, boundary),
                     headers={**headers, "Content-Type": content_type(boundary)})
        for boundary in ("first-boundary", "another-boundary")
    ]
    assert answers[0].status_code == 201
    same_answer(*answers)
    assert count(service, name) == 1


@pytest.mark.core
@pytest.mark.parametrize("route", ["upload", "pipe"])
def test_put_retry(service, route):
    name, headers = unique(), key()
    target = f"/api/files/{route}/{name}"
    answers = [service.put(target, data=TEXT, headers=headers) for _ in range(3)]
    same_answer(answers[0], answers[1])
    same_answer(answers[0], answers[2])
    assert count(service, name) == 1


def test_the_same_key_with_another_request_is_422(service):
    name, headers = unique(), key()
    assert service.upload(TEXT, name, headers=headers).status_code == 201
    others = [
        service.upload(TEXT + b"x", name, headers=headers),
        service.upload(TEXT, name + "x", headers=headers),
        service.upload(TEXT, name, headers=headers, visibility="public"),
        service.upload(TEXT, name, headers=headers, metadata={"a": "b"}),
        service.put(f"/api/files/upload/{name}", data=TEXT, headers=headers),
        service.put(f"/api/files/pipe/{name}", data=TEXT, headers=headers),
        service.post("/api/files/delete", json={"ids": [unique()]}, headers=headers),
    ]
    for other in others:
        check_problem(other, 422, "idempotency_mismatch")
        assert REPLAYED not in other.headers
    assert count(service, name) == 1


@pytest.mark.core
def test_patch_retry_gives_the_first_answer_and_changes_nothing(service):
    path = f"/api/files/{service.create()['id']}"
    headers = key()
    first = service.patch(path, json={"originalName": "one"}, headers=headers)
    assert first.status_code == 200
    service.patch(path, json={"originalName": "two"})
    same_answer(first, service.patch(path, json={"originalName": "one"}, headers=headers))
    assert service.get(path + "/meta").json()["originalName"] == "two"
    other = service.patch(path, json={"originalName": "three"}, headers=headers)
    check_problem(other, 422, "idempotency_mismatch")


def test_patch_key_of_another_file_is_422(service):
    one, two = (f"/api/files/{service.create()['id']}" for _ in range(2))
    headers = key()
    assert service.patch(one, json={"originalName": "x"}, headers=headers).status_code == 200
    other = service.patch(two, json={"originalName": "x"}, headers=headers)
    check_problem(other, 422, "idempotency_mismatch")


def test_patch_retry_with_its_old_precondition(service):
    path = f"/api/files/{service.create()['id']}"
    headers = {**key(), "If-Match": service.get(path + "/meta").headers["ETag"]}
    first = service.patch(path, json={"originalName": "one"}, headers=headers)
    assert first.status_code == 200
    same_answer(first, service.patch(path, json={"originalName": "one"}, headers=headers))


@pytest.mark.core
def test_batch_delete_retry(service):
    ids = [service.create()["id"] for _ in range(2)]
    headers = key()
    answers = [service.post("/api/files/delete", json={"ids": ids}, headers=headers)
               for _ in range(2)]
    assert all(result["deleted"] for result in answers[0].json()["results"])
    same_answer(*answers)


def test_replay_outlives_the_file(service):
    name, headers = unique(), key()
    first = service.upload(TEXT, name, headers=headers)
    service.delete(first.headers["Location"])
    same_answer(first, service.upload(TEXT, name, headers=headers))
    assert count(service, name) == 0


def test_keys_belong_to_owners(token_service):
    name, headers = unique(), key()
    tokens = [token_service.token(unique("idem")) for _ in range(2)]
    answers = [token_service.upload(TEXT, name, headers=headers, token=token) for token in tokens]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    for token, first in zip(tokens, answers, strict=True):
        same_answer(first, token_service.upload(TEXT, name, headers=headers, token=token))
        assert count(token_service, name, token) == 1


def test_keys_are_kept_over_a_restart(start_service):
    service = start_service()
    name, headers = unique(), key()
    first = service.upload(TEXT, name, headers=headers)
    service.restart()
    same_answer(first, service.upload(TEXT, name, headers=headers))
    assert count(service, name) == 1


def test_a_failed_request_frees_its_key(service):
    name, headers = unique(), key()
    wrong = {**headers, "Content-Digest": sha256_digest(b"other")}
    target = f"/api/files/upload/{name}"
    check_problem(service.put(target, data=TEXT, headers=wrong), 422, "digest_mismatch")
    again = service.put(target, data=TEXT, headers=headers)
    assert again.status_code == 201 and REPLAYED not in again.headers


@pytest.mark.parametrize("value", ["k", "k" * 255, "~!@#$%^&*()", '"quoted-key"'])
def test_printable_keys(service, value):
    headers = {"Idempotency-Key": value}
    name = "fixed-for-" + value[:5]
    first = service.put(f"/api/files/upload/{unique()}", data=TEXT, headers=headers)
    assert first.status_code == 201
    other = service.upload(TEXT, name, headers=headers)
    check_problem(other, 422, "idempotency_mismatch")


@pytest.mark.parametrize("value", [b"k" * 256, b"a\x01b", "ä".encode(), b"a\x7f", b"\tk\x00"])
def test_bad_keys(service, value):
    request = raw_request("PUT", "/api/files/upload/bad-key", [("Idempotency-Key", value)], TEXT)
    assert exchange(service, request).status == 400


def test_a_key_on_get_and_delete_means_nothing(service):
    file, headers = service.create(TEXT), key()
    path = f"/api/files/{file['id']}"
    for _ in range(2):
        assert service.get(path, headers=headers).content == TEXT
    assert service.delete(path, headers=headers).status_code == 200
    assert service.delete(path, headers=headers).status_code == 404
