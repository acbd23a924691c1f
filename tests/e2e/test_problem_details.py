"""Problem details name the part, parameter or field at fault; the fields of a form are the parameters of
a PUT."""

import json

import pytest

from forms import FILE, send
from multipart import file_part, join, part, text_part
from problems import check_problem
from samples import TEXT, unique

pytestmark = pytest.mark.local("about what is refused, before a store is asked")


# ---- fields that are empty ----

def test_empty_fields_count_as_absent(service):
    fields = [text_part(each, "") for each in ("metadata", "visibility", "expiresIn")]
    by_form = json.loads(send(service, join([*fields, file_part(TEXT)])).body)
    by_put = service.put("/api/files/upload/a?metadata=&visibility=&expiresIn=", data=TEXT).json()
    for file in (by_form, by_put):
        assert (file["metadata"], file["visibility"], file["expiresAt"]) == ({}, "private", None)


def test_an_empty_field_and_a_full_one_are_two(service, nothing_stored):
    answer = send(service, join([text_part("visibility", ""), text_part("visibility", "public"),
                                 file_part()]))
    assert answer.status == 400 and b'"part":"visibility"' in answer.body


# ---- parameters of a PUT ----

@pytest.mark.smoke
@pytest.mark.parametrize("route", ["upload", "pipe"])
def test_put_takes_the_fields_as_parameters(service, route):
    answer = service.put(f"/api/files/{route}/a", data=TEXT, params={
        "visibility": "public", "expiresIn": "3600", "metadata": '{"a b":"ü"}'})
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert (file["visibility"], file["metadata"]) == ("public", {"a b": "ü"})
    assert file["expiresAt"] is not None
    assert service.get(file["links"]["self"]).json() == file


@pytest.mark.smoke
def test_idempotency_covers_the_parameters(service):
    key = {"Idempotency-Key": unique()}
    path = "/api/files/upload/a?visibility=public"
    first = service.put(path, data=TEXT, headers=key)
    again = service.put(path, data=TEXT, headers=key)
    assert again.json() == first.json() and again.headers["Idempotency-Replayed"] == "true"
    check_problem(service.put("/api/files/upload/a", data=TEXT, headers=key), 422,
                  "idempotency_mismatch")


PARAMETERS = [
    ("visibility=secret", "visibility"), ("expiresIn=0", "expiresIn"), ("expiresIn=5x", "expiresIn"),
    ("metadata={", "metadata"), ("metadata=[]", "metadata"), ("metadata={\"a\":1}", "metadata"),
    ("unknown=1", "unknown"), ("Visibility=public", "Visibility"), ("owner=bob", "owner"),
    ("visibility=public&visibility=public", "visibility"), ("expiresIn=%zz", "expiresIn"),
]


@pytest.mark.parametrize("query,name", PARAMETERS)
@pytest.mark.parametrize("route", ["upload", "pipe"])
def test_put_names_the_parameter(service, nothing_stored, route, query, name):
    problem = check_problem(service.put(f"/api/files/{route}/a?{query}", data=TEXT), 400)
    assert problem["details"] == {"parameter": name} and name in problem["detail"]


@pytest.mark.parametrize("query,name", [
    ("limit=0", "limit"), ("offset=x", "offset"), ("cursor=x", "cursor"), ("sort=owner", "sort"),
    ("unknown=1", "unknown"), ("limit=1&limit=1", "limit"), ("owner=a%20b", "owner"),
    ("cursor=x&offset=1", "cursor"), ("x" * 200 + "=1", "x" * 63), ("mimeType=" + "m" * 256, "mimeType"),
    ("prefix=" + "p" * 256, "prefix"), ("%C3%BC=1", "ü"),
])
def test_list_names_the_parameter(service, query, name):
    problem = check_problem(service.get(f"/api/files?{query}"), 400)
    assert problem["details"] == {"parameter": name} and name in problem["detail"]


def test_reads_name_the_parameter(service):
    path = service.create(TEXT, "a")["links"]["download"]
    for target, name in ((path + "?inline=2", "inline"), (path + "/meta?x=1", "x"),
                         ("/api/files/not-an-id", "id")):
        problem = check_problem(service.get(target), 400)
        assert problem["details"] == {"parameter": name} and name in problem["detail"]


# ---- parts ----

@pytest.mark.parametrize("parts,name", [
    ([text_part("visibility", "secret"), file_part()], "visibility"),
    ([text_part("expiresIn", "x"), file_part()], "expiresIn"),
    ([text_part("metadata", "{"), file_part()], "metadata"),
    ([text_part("metadata", '{"a":1}'), file_part()], "metadata"),
    ([text_part("metadata", b"\xef\xbb\xbf{}"), file_part()], "metadata"),
    ([text_part("metadata", "x" * 10_000), file_part()], "metadata"),
    ([text_part("colour", "red"), file_part()], "colour"),
    ([text_part("metadata", "{}"), text_part("metadata", "{}"), file_part()], "metadata"),
    ([file_part(), text_part("metadata", "{}")], "metadata"),
    ([file_part(), file_part()], "file"), ([text_part("metadata", "{}")], "file"),
    ([part('Content-Disposition: form-data; name="file"', b"x")], "file"),
    ([part(FILE.format("a\u202eb"), b"x")], "file"), ([part(FILE.format(""), b"x")], "file"),
])
def test_form_names_the_part(service, nothing_stored, parts, name):
    answer = send(service, join(parts))
    problem = json.loads(answer.body)
    assert answer.status == 400 and problem["details"] == {"part": name}, problem
    assert name in problem["detail"] and problem["message"] == problem["detail"]


# ---- fields ----

@pytest.mark.parametrize("patch,name", [
    ({"originalName": 1}, "originalName"), ({"originalName": "a/b"}, "originalName"),
    ({"metadata": []}, "metadata"), ({"metadata": {"a": 1}}, "metadata"),
    ({"metadata": {"a": "x" * 5000}}, "metadata"), ({"visibility": "x"}, "visibility"),
    ({"expiresAt": "soon"}, "expiresAt"), ({"size": 1}, "size"), ({"visibility": None}, "visibility"),
])
def test_patch_names_the_field(service, patch, name):
    path = service.create(TEXT, "a")["links"]["download"]
    problem = check_problem(service.patch(path, json=patch), 400)
    assert problem["details"] == {"field": name} and name in problem["detail"]


@pytest.mark.parametrize("body", [{}, {"ids": 1}, {"ids": [1]}, {"ids": ["x"] * 1001}])
def test_batch_names_the_field(service, body):
    problem = check_problem(service.post("/api/files/delete", json=body), 400, "bad_parameter")
    assert problem["details"] == {"field": "ids"} and "ids" in problem["detail"]
