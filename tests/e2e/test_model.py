"""Random operations of several owners give the same answers as the reference model.

MODEL_SEED and MODEL_OPERATIONS change the run; the seed of a failed one is in its message.
"""

import json
import os
import random
from collections import Counter
from urllib.parse import quote

import pytest

from backends import examples
from model import Model
from samples import GIF, PNG, TEXT, UNKNOWN_ID

pytestmark = pytest.mark.core

SEED = int(os.environ.get("MODEL_SEED", "20261121"))
OPERATIONS = int(os.environ.get("MODEL_OPERATIONS") or examples(2500))

NAMES = ["a.txt", "ab", "Ä.bin", "日本.txt", "x y", "q\"q", "zz", "a%b", "A.TXT", "😀", "10", "9"]
COMPARED = ("Location", "ETag", "Content-Range", "Idempotency-Replayed")
TAGS = {
    "*": lambda file: "*",
    "content": lambda file: file.etag,
    "version": lambda file: f'"v{file.version}"',
    "stale": lambda file: f'"v{file.version + 7}"',
}


class Run:
    """One run of random operations against a service with tokens."""

    def __init__(self, service, seed):
        self.service = service
        self.random = random.Random(seed)
        self.model = Model()
        self.owners = {
            owner: service.token(owner) for owner in (f"m{seed}-{n}" for n in range(3))
        }
        self.gone = []      # ids of deleted files
        self.uploads = []   # arguments of uploads that had a key, to be sent again
        self.changes = []   # the same of patches and batches
        self.keys = 0

    # ---- choices ----

    def owner(self):
        return self.random.choice(list(self.owners))

    def file_id(self):
        dice = self.random.random()
        if dice < 0.05:
            return UNKNOWN_ID
        if dice < 0.12 and self.gone:
            return self.random.choice(self.gone)
        return self.random.choice(list(self.model.files) or [UNKNOWN_ID])

    def content(self):
        size = self.random.choice([0, 1, 2, 100, 1000, 70_000])
        return self.random.choice(
            [(self.random.randbytes(size), "application/octet-stream"), (TEXT, "text/plain"),
             (PNG, "image/png"), (GIF, "image/gif")]
        )

    def key(self):
        if self.random.random() < 0.6:
            return None
        self.keys += 1
        return f"key-{self.keys}"

    def tag(self, file_id):
        file = self.model.files.get(file_id)
        if not file or self.random.random() < 0.6:
            return None
        return TAGS[self.random.choice(list(TAGS))](file)

    # ---- sending and comparing ----

    def send(self, owner, method, path, **options):
        headers = {k: v for k, v in options.pop("headers", {}).items() if v is not None}
        return self.service.request(
            method, path, token=self.owners[owner], headers=headers, **options
        )

    def compare(self, response, wanted, body=None):
        status, content, headers = wanted
        assert response.status_code == status, response.text[:500]
        if status >= 400:
            assert response.json()["code"] == content
            return
        found = {name: response.headers[name] for name in COMPARED if name in response.headers}
        found = {name: value for name, value in found.items() if name in headers or name in (
            "Content-Range", "Idempotency-Replayed")}
        assert found == headers
        if isinstance(content, bytes):
            assert response.content == content
        else:
            same_json(body if body is not None else response.json(), content)

    # ---- operations ----

    def upload(self, again=None):
        if again is None:
            content, mime = self.content()
            fields = {}
            if self.random.random() < 0.4:
                fields["metadata"] = {self.random.choice("abc"): self.random.choice(NAMES)}
            if self.random.random() < 0.3:
                fields["visibility"] = self.random.choice(["public", "private"])
            way = self.random.choice(["multipart", "upload", "pipe"])
            if way != "multipart":
                fields = {}
            again = (self.owner(), way, self.random.choice(NAMES), mime, content, self.key(),
                     fields)
        owner, way, name, mime, content, key, fields = again
        headers = {"Idempotency-Key": key} if key else {}
        if way == "multipart":
            response = self.service.upload(
                content, name, token=self.owners[owner], headers=headers, mime=mime, **fields
            )
        else:
            response = self.send(
                owner, "PUT", f"/api/files/{way}/{quote(name, safe='')}", data=content,
                headers={**headers, "Content-Type": mime},
            )
        adopt = response.json()
        wanted = self.model.upload(owner, way, name, mime, content, adopt, key, **fields)
        self.compare(response, wanted)
        if key and response.status_code == 201:
            self.uploads.append(again)

    def retry_upload(self):
        if not self.uploads:
            return
        owner, way, name, mime, content, key, fields = self.random.choice(self.uploads)
        if self.random.random() < 0.3:
            name = self.random.choice(NAMES)
        if self.random.random() < 0.2:
            owner = self.owner()
        self.upload((owner, way, name, mime, content, key, fields))

    def get(self):
        owner, file_id = self.owner(), self.file_id()
        span, headers = None, {}
        if self.random.random() < 0.5:
            first = self.random.choice([0, 1, 50, 999, 5000, 80_000])
            last = self.random.choice([None, first, first + 10, 100_000])
            span = self.random.choice([(first, last), (None, self.random.choice([1, 10, 90_000]))])
            left = "" if span[0] is None else span[0]
            right = "" if span[1] is None else span[1]
            headers["Range"] = f"bytes={left}-{right}"
        file = self.model.files.get(file_id)
        if_match = self.tag(file_id)
        none_match = self.random.choice([None, None, "*", file.etag if file else '"x"', '"x"'])
        headers.update({"If-Match": if_match, "If-None-Match": none_match})
        path = f"/api/files/{file_id}" + self.random.choice(["", "/download", "?inline=1"])
        if "?" in path and file_id == UNKNOWN_ID:
            path = f"/api/files/{file_id}"
        response = self.send(owner, "GET", path, headers=headers)
        self.compare(response, self.model.get(owner, file_id, span, none_match, if_match))

    def meta(self):
        owner, file_id = self.owner(), self.file_id()
        response = self.send(owner, "GET", f"/api/files/{file_id}/meta")
        self.compare(response, self.model.meta(owner, file_id))

    def list(self):
        owner = self.owner()
        query = {}
        if self.random.random() < 0.4:
            query["prefix"] = self.random.choice(["a", "A", "Ä", "日", "x", "%", "a%", "none"])
        if self.random.random() < 0.3:
            query["mimeType"] = self.random.choice(["text/plain", "image/png", "x/y"])
        if self.random.random() < 0.7:
            query["sort"] = self.random.choice(["createdAt", "-createdAt", "name", "size"])
        query["limit"] = self.random.choice([1, 3, 10, 100, 1000])
        by_cursor = self.random.random() < 0.5
        at = 0 if by_cursor else self.random.choice([0, 0, 1, 5, 50])
        cursor = None
        while True:
            position = {"cursor": cursor} if cursor else {} if by_cursor else {"offset": at}
            response = self.send(owner, "GET", "/api/files", params={**query, **position})
            arguments = {("mime" if k == "mimeType" else k): v for k, v in query.items()}
            wanted = self.model.list(owner, **arguments, offset=at)
            page = response.json()
            body = (page["files"], page["total"], page["nextCursor"] is not None)
            self.compare(response, wanted, body)
            cursor, at = page["nextCursor"], at + query["limit"]
            if not by_cursor or not cursor:
                return

    def patch(self, again=None):
        if again is None:
            owner, file_id = self.owner(), self.file_id()
            patch = {}
            if self.random.random() < 0.5:
                patch["originalName"] = self.random.choice([*NAMES, "a/b"])
            if self.random.random() < 0.5:
                patch["metadata"] = self.random.choice(
                    [None, {}, {"a": "1"}, {"a": None}, {"b": "2", "c": None}]
                )
            if self.random.random() < 0.4:
                patch["visibility"] = self.random.choice(["public", "private", "other"])
            if self.random.random() < 0.2:
                patch["expiresAt"] = self.random.choice([None, "2035-01-02T03:04:05.678Z"])
            if self.random.random() < 0.05:
                patch["size"] = 5
            again = (owner, file_id, patch, self.tag(file_id), self.key())
        owner, file_id, patch, if_match, key = again
        response = self.send(
            owner, "PATCH", f"/api/files/{file_id}", data=json.dumps(patch),
            headers={"If-Match": if_match, "Idempotency-Key": key,
                     "Content-Type": "application/merge-patch+json"},
        )
        if wanted_conflict(patch):
            # Two faults at once: which is told first is not promised.
            wanted = self.model.patch(owner, file_id, patch, if_match, key)
            assert response.status_code == wanted[0]
            return
        self.compare(response, self.model.patch(owner, file_id, patch, if_match, key))
        if key and response.status_code == 200:
            self.changes.append((self.patch, again))

    def delete(self):
        owner, file_id = self.owner(), self.file_id()
        if_match = self.tag(file_id)
        response = self.send(
            owner, "DELETE", f"/api/files/{file_id}", headers={"If-Match": if_match}
        )
        self.compare(response, self.model.delete(owner, file_id, if_match))
        if response.status_code == 200:
            self.gone.append(file_id)

    def batch(self, again=None):
        if again is None:
            count = self.random.choice([1, 2, 4])
            ids = [self.random.choice([self.file_id(), "nonsense"]) for _ in range(count)]
            again = (self.owner(), ids, self.key())
        owner, ids, key = again
        before = set(self.model.files)
        response = self.send(
            owner, "POST", "/api/files/delete", json={"ids": ids},
            headers={"Idempotency-Key": key},
        )
        self.compare(response, self.model.batch(owner, ids, key))
        self.gone += before - set(self.model.files)
        if key:
            self.changes.append((self.batch, again))

    def retry_change(self):
        if self.changes:
            call, arguments = self.random.choice(self.changes)
            call(arguments)


def wanted_conflict(patch):
    return ("size" in patch) + ("/" in patch.get("originalName", "")) + (
        patch.get("visibility") == "other") > 1


def same_json(found, wanted):
    """Every member the model knows is equal; lists and pages member by member."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            same_json(found[name], value)
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted), (found, wanted)
        for one, other in zip(found, wanted, strict=True):
            same_json(one, other)
    else:
        assert found == wanted


WEIGHTS = {
    "upload": 22, "retry_upload": 6, "get": 22, "meta": 8, "list": 12, "patch": 14, "delete": 7,
    "batch": 4, "retry_change": 5,
}


def test_random_operations_answer_as_the_model(token_service):
    run = Run(token_service, SEED)
    done = Counter()
    print(f"MODEL_SEED={SEED} MODEL_OPERATIONS={OPERATIONS}")
    for number in range(OPERATIONS):
        name = run.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        try:
            getattr(run, name)()
        except Exception as error:
            raise AssertionError(
                f"operation {number} ({name}), MODEL_SEED={SEED}: {error}"
            ) from error
        done[name] += 1
    for owner in run.owners:
        page = token_service.get("/api/files?limit=1000&sort=name", token=run.owners[owner])
        mine = {file.id for file in run.model.files.values() if file.owner == owner}
        assert {file["id"] for file in page.json()["files"]} == mine
    assert sum(done.values()) == OPERATIONS and min(done.values()) > 0
    print(dict(done))
