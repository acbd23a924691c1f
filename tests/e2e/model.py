"""What the service must answer, in the simplest way it can be said: dictionaries and sorting.

A call returns (status, body, headers): only what is worth comparing. Where the service chooses
(ids, times, storage keys), it is told with `adopt`. Errors are (status, problem code, {}).
"""

import json
from dataclasses import dataclass, field, replace

from samples import sha256

MUTABLE = ("originalName", "metadata", "visibility", "expiresAt")


@dataclass(frozen=True)
class Known:
    id: str
    owner: str
    name: str
    mime: str
    content: bytes
    visibility: str = "private"
    metadata: dict = field(default_factory=dict)
    version: int = 1
    expires: str = None
    created: str = ""

    @property
    def etag(self):
        return f'"{sha256(self.content)}"'

    def json(self):
        """The file object without what only the service knows."""
        return {
            "id": self.id, "originalName": self.name, "mimeType": self.mime,
            "size": len(self.content), "sha256": sha256(self.content), "owner": self.owner,
            "visibility": self.visibility, "metadata": self.metadata, "status": "ready",
            "expiresAt": self.expires, "createdAt": self.created,
            "links": {"self": f"/api/files/{self.id}/meta", "download": f"/api/files/{self.id}"},
        }


def problem(status, code):
    return status, code, {}


NOT_FOUND = problem(404, "not_found")
FAILED = problem(412, "precondition_failed")

SORTS = {
    "createdAt": (lambda file: (file.created, file.id), False),
    "-createdAt": (lambda file: (file.created, file.id), True),
    "name": (lambda file: (file.name.encode(), file.id), False),
    "size": (lambda file: (len(file.content), file.id), False),
}


class Model:
    def __init__(self):
        self.files = {}    # id: Known
        self.answers = {}  # (owner, Idempotency-Key): (what makes the request, answer)

    # ---- Idempotency-Key ----

    def once(self, owner, key, request, act):
        """Runs `act` unless the key was used: then the first answer, or 422."""
        if key is None:
            return act()
        if (owner, key) in self.answers:
            first, answer = self.answers[owner, key]
            if first != request:
                return problem(422, "idempotency_mismatch")
            status, body, headers = answer
            return status, body, {**headers, "Idempotency-Replayed": "true"}
        answer = act()
        if answer[0] < 300:
            self.answers[owner, key] = (request, answer)
        return answer

    # ---- calls ----

    def upload(self, owner, way, name, mime, content, adopt, key=None, **fields):
        """`adopt` is the service's answer, from which a new file's id and time are taken."""

        def act():
            file = Known(
                adopt["id"], owner, name, mime, content, fields.get("visibility", "private"),
                fields.get("metadata", {}), created=adopt["createdAt"],
            )
            self.files[file.id] = file
            return 201, file.json(), {"Location": f"/api/files/{file.id}"}

        request = ("upload", way, name, sha256(content), json.dumps(fields, sort_keys=True))
        return self.once(owner, key, request, act)

    def visible(self, owner, file_id):
        file = self.files.get(file_id)
        return file if file and (file.owner == owner or file.visibility == "public") else None

    def own(self, owner, file_id):
        file = self.files.get(file_id)
        return file if file and file.owner == owner else None

    def get(self, owner, file_id, span=None, if_none_match=None, if_match=None):
        file = self.visible(owner, file_id)
        if not file:
            return NOT_FOUND
        if if_match and if_match not in ("*", file.etag):
            return FAILED
        if if_none_match in ("*", file.etag):
            return 304, b"", {"ETag": file.etag}
        return self.bytes_of(file, span)

    @staticmethod
    def bytes_of(file, span):
        size, headers = len(file.content), {"ETag": file.etag}
        if span is None:
            return 200, file.content, headers
        first, last = span
        if first is None:
            first, last = max(size - last, 0), size - 1
        last = size - 1 if last is None else min(last, size - 1)
        if first >= size or first > last:
            return problem(416, "range_not_satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return 206, file.content[first:last + 1], headers

    def meta(self, owner, file_id):
        file = self.visible(owner, file_id)
        return (200, file.json(), {"ETag": f'"v{file.version}"'}) if file else NOT_FOUND

    def list(self, owner, prefix="", mime="", sort="createdAt", limit=100, offset=0):
        """The page, and whether there is a next one."""
        key, reverse = SORTS[sort]
        found = sorted(
            (
                file for file in self.files.values()
                if file.owner == owner and file.name.startswith(prefix)
                and (not mime or file.mime == mime)
            ),
            key=key, reverse=reverse,
        )
        page = [file.json() for file in found[offset:offset + limit]]
        return 200, (page, len(found), offset + limit < len(found)), {}

    def patch(self, owner, file_id, patch, if_match=None, key=None):
        def act():
            file = self.own(owner, file_id)
            if not file:
                return NOT_FOUND
            if if_match and if_match not in ("*", file.etag, f'"v{file.version}"'):
                return FAILED
            if set(patch) - set(MUTABLE):
                return problem(400, "bad_parameter")
            if "/" in patch.get("originalName", ""):
                return problem(400, "bad_name")
            if patch.get("visibility", "public") not in ("public", "private"):
                return problem(400, "bad_parameter")
            self.files[file_id] = changed = self.merged(file, patch)
            return 200, changed.json(), {"ETag": f'"v{changed.version}"'}

        return self.once(owner, key, ("patch", file_id, json.dumps(patch)), act)

    @staticmethod
    def merged(file, patch):
        metadata = file.metadata
        if "metadata" in patch:
            metadata = {**metadata, **patch["metadata"]} if patch["metadata"] is not None else {}
            metadata = {name: value for name, value in metadata.items() if value is not None}
        return replace(
            file, name=patch.get("originalName", file.name), metadata=metadata,
            visibility=patch.get("visibility", file.visibility), version=file.version + 1,
            expires=patch.get("expiresAt", file.expires),
        )

    def delete(self, owner, file_id, if_match=None):
        file = self.own(owner, file_id)
        if not file:
            return NOT_FOUND
        if if_match and if_match not in ("*", file.etag, f'"v{file.version}"'):
            return FAILED
        del self.files[file_id]
        return 200, {"id": file_id, "deleted": True}, {}

    def batch(self, owner, ids, key=None):
        def act():
            results = []
            for file_id in ids:
                if file_id == "nonsense":
                    results.append({"id": file_id, "deleted": False, "error": "bad_id"})
                elif self.own(owner, file_id):
                    del self.files[file_id]
                    results.append({"id": file_id, "deleted": True})
                else:
                    results.append({"id": file_id, "deleted": False, "error": "not_found"})
            return 200, {"results": results}, {}

        return self.once(owner, key, ("batch", json.dumps(ids)), act)
