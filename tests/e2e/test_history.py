"""The history checker itself: a toy service that keeps every promise passes, and each way to break
one is found and named by its invariant."""

import hashlib
import json
import subprocess
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from backends import named, sizes
from history import Load

pytestmark = pytest.mark.thorough("about the checker that tests use")


class Toy:
    """Enough of the API for the load, in memory, with one fault built in."""

    backend = named("fs+sqlite")

    def __init__(self, folder, fault):
        self.fault = fault
        self.files, self.keys, self.gone = {}, {}, {}
        self.uploads = self.deletes = 0
        self.lock = threading.Lock()
        self.data_dir = folder
        self.log_file = folder / "log"
        self.log_file.write_text("" if fault != "forged log" else '{"message": "x"}\n')
        (folder / "objects").mkdir()
        toy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                toy.serve(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def objects(self):
        return sizes(self.data_dir / "objects")

    def log_files(self):
        return [self.log_file]

    def coffer(self, *_args, **_options):
        return subprocess.CompletedProcess(_args, 1 if self.fault == "fsck" else 0, "", "")

    def serve(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        url = urlsplit(handler.path)
        with self.lock:
            status, answer = self.answer(handler, url, body)
        kind = "application/problem+json" if status >= 400 else "application/json"
        if status >= 400:
            answer = self.problem(status)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("X-Request-Id", "r")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    def problem(self, status):
        problem = {"type": "about:blank", "title": "t", "status": status, "detail": "d",
                   "code": "c", "message": "d", "traceId": "0" * 32, "requestId": "r", "ts": "t",
                   "path": "/"}
        if self.fault == "leak":
            problem["detail"] = "cannot open /tmp/data/coffer.db"
        if self.fault == "no request id":
            del problem["requestId"]
        return problem

    def answer(self, handler, url, body):
        method, parts = handler.command, url.path.strip("/").split("/")
        if parts[:2] != ["api", "files"]:
            return 200, {}
        if len(parts) == 2:
            return self.listing(parse_qs(url.query))
        if parts[2] in ("upload", "pipe"):
            return self.upload(handler, parts, body)
        if parts[2] == "delete":
            return 200, {"results": [{"id": i, "deleted": self.delete(i)[0] == 200}
                                     for i in json.loads(body)["ids"]]}
        return self.one(method, parts, handler, body)

    def listing(self, _query):
        rows = [entry for entry, _ in self.files.values()]
        if self.fault == "unknown listed" and self.uploads:
            rows.append({**self.entry("stranger", b"x"), "metadata": {}})
        return 200, {"files": rows, "nextCursor": None, "total": len(rows)}

    @staticmethod
    def entry(name, content):
        return {"id": str(uuid.uuid4()), "originalName": name, "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(), "metadata": {}}

    def upload(self, handler, parts, body):
        if handler.command == "PUT":
            name, content = unquote(parts[3]), body
        else:
            head, content = body.split(b"\r\n\r\n", 1)
            name = head.split(b'filename="')[1].split(b'"')[0].decode()
            content = content.rsplit(b"\r\n--", 1)[0]
        key = handler.headers.get("Idempotency-Key")
        self.uploads += 1
        if key in self.keys and self.fault != "key":
            return 201, self.keys[key]
        entry = self.entry(name, content)
        if key:
            self.keys[key] = entry
        faulty = self.uploads % 7 == 0
        if not (faulty and self.fault == "lost upload"):
            stored = content[:-1] if faulty and content and self.fault == "cut bytes" else content
            self.files[entry["id"]] = (entry, stored)
            (self.data_dir / "objects" / entry["id"]).write_bytes(stored)
        if faulty and self.fault in ("key", "no request id", "leak"):
            return 503, None
        return 201, entry

    def delete(self, file_id):
        if file_id not in self.files:
            return 404, None
        self.deletes += 1
        if not (self.fault == "undead" and self.deletes % 3 == 0):
            self.gone[file_id] = self.files.pop(file_id)
            if self.fault != "orphan":
                (self.data_dir / "objects" / file_id).unlink(missing_ok=True)
        return 200, {"id": file_id, "deleted": True}

    def one(self, method, parts, handler, body):
        if method == "DELETE":
            return self.delete(parts[2])
        found = self.files.get(parts[2])
        if not found and self.fault == "readable meta" and parts[-1] == "meta":
            found = self.gone.get(parts[2])
        if not found:
            return 404, None
        entry, content = found
        if method == "PATCH":
            if self.fault != "lost change":
                entry["metadata"] = json.loads(body).get("metadata", entry["metadata"])
            return 200, entry
        if parts[-1] == "meta":
            return 200, entry
        if handler.headers.get("Range"):
            return (206, content[:1]) if content else (416, None)
        return 200, content


def run(folder, fault):
    toy = Toy(folder, fault)
    try:
        load = Load(toy, clients=4, seed=5, sizes=(1, 700, 20_000), pause=0)
        with load:
            load.wait_for(30)
        load.check()
    finally:
        toy.close()


def test_a_good_history_passes(tmp_path):
    run(tmp_path, None)


@pytest.mark.parametrize("fault, invariant", [
    ("lost upload", "I1"), ("lost change", "I1"), ("cut bytes", "I1|I2"), ("undead", "I3"),
    ("readable meta", "I3"), ("unknown listed", "I4"), ("orphan", "I5"), ("key", "I6"),
    ("no request id", "I7"), ("leak", "I9"), ("forged log", "I9"), ("fsck", "I2"),
])
def test_each_broken_promise_is_found(tmp_path, fault, invariant):
    with pytest.raises(AssertionError, match=invariant):
        run(tmp_path, fault)
