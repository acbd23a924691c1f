"""At least 300 real files of this machine, there and back by every way; 60 on remote stores."""

import itertools
import json
import os
import random
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

import backends
from samples import sha256, unique

COUNT = 320 if backends.current().is_local else backends.rounds(64, 320)
ROOTS = {
    "programs": ("/usr/bin", 120, None),
    "libraries": ("/usr/lib", 60, {".so", ".a", ".o"}),
    "images": ("/usr/share", 60, {".png", ".svg", ".jpg", ".gif", ".ico"}),
    "archives": ("/usr/share", 60, {".gz", ".zip", ".xz", ".bz2", ".tgz", ".deb", ".whl", ".jar"}),
    "texts": ("/usr/share", 80, {".txt", ".html", ".xml", ".json", ".md", ".py", ".conf", ""}),
}
PREFIXES = ["", "with space ", "Grüße ", "日本 ", "naïve – ", "😀 "]


def walk(root, wanted, suffixes):
    found = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if suffixes is not None and path.suffix not in suffixes:
                continue
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 4_000_000:
                found.append(path)
        if len(found) > 40 * wanted:
            break
    return random.Random(root).sample(found, min(wanted * COUNT // 320, len(found)))


@pytest.fixture(scope="module")
def real_files(tmp_path_factory):
    """{path: SHA-256 as sha256sum says}; every second one is a copy under a harder name."""
    folder = tmp_path_factory.mktemp("real")
    sources = [path for root in ROOTS.values() for path in walk(*root)][:COUNT]
    assert len(sources) >= COUNT * 15 // 16, f"only {len(sources)} files were found"
    paths = []
    for number, path in enumerate(sources):
        target = folder / str(number)
        target.mkdir()
        prefix = PREFIXES[number % len(PREFIXES)] if number % 2 else ""
        paths.append(Path(shutil.copyfile(path, target / (prefix + path.name))))
    said = subprocess.run(
        ["sha256sum", "-z", "--", *paths], capture_output=True, check=True
    ).stdout.split(b"\0")
    return {Path(os.fsdecode(line[66:])): line[:64].decode() for line in said if line}


def send(service, number, path, token):
    """By turns: a form by requests, a form by curl, curl -T, curl -T through the pipe."""
    if number % 4 == 0:
        return service.create(path.read_bytes(), path.name, token=token)
    curl = ["curl", "-sS", "--fail-with-body", "-H", f"Authorization: Bearer {token}"]
    if number % 4 == 1:
        # curl's own escaping of a form's file name, given as it is
        quoted = str(path).replace("\\", "\\\\").replace('"', '\\"')
        curl += ["-F", f'file=@"{quoted}"', service.url + "/api/files/upload"]
        done = subprocess.run(curl, capture_output=True, check=True)
    elif number % 4 == 2:
        curl += ["-g", "-T", str(path), service.url + "/api/files/upload/"]
        done = subprocess.run(curl, capture_output=True, check=True)
    else:
        curl += ["-T", "-", service.url + f"/api/files/pipe/{quote(path.name, safe='')}"]
        with open(path, "rb") as content:
            done = subprocess.run(curl, stdin=content, capture_output=True, check=True)
    return json.loads(done.stdout)


def listed(service, token, by_cursor):
    files, position = [], {} if by_cursor else {"offset": 0}
    while True:
        page = service.get("/api/files", token=token, params={"limit": 37, **position}).json()
        files += page["files"]
        if page["nextCursor"] is None:
            return files, page["total"]
        position = {"cursor": page["nextCursor"]} if by_cursor else {"offset": len(files)}


def by_ranges(service, file, token):
    size = file["size"]
    step = max(1, size // 3 + 1)
    parts = [
        service.get(
            f"/api/files/{file['id']}", token=token,
            headers={"Range": f"bytes={start}-{start + step - 1}"},
        )
        for start in range(0, size, step)
    ]
    assert all(part.status_code == 206 for part in parts)
    return b"".join(part.content for part in parts)


@pytest.mark.timeout(300)
def test_real_files_there_and_back(token_service, real_files):
    service, token = token_service, token_service.token(unique("real"))
    numbers = itertools.count()
    lock = threading.Lock()

    def number():
        with lock:
            return next(numbers)

    def there(path):
        file = send(service, number(), path, token)
        assert file["originalName"] == path.name
        assert file["sha256"] == real_files[path]
        assert file["size"] == path.stat().st_size
        return file

    def back(file):
        path = f"/api/files/{file['id']}"
        assert sha256(service.get(path, token=token).content) == file["sha256"]
        assert sha256(by_ranges(service, file, token)) == file["sha256"]

    def gone(file):
        path = f"/api/files/{file['id']}"
        assert service.delete(path, token=token).json() == {"id": file["id"], "deleted": True}
        for target in (path, path + "/meta", path + "/download"):
            assert service.get(target, token=token).status_code == 404

    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(there, real_files))
        wanted = {file["id"]: file for file in files}
        assert len(wanted) == len(real_files)
        for by_cursor in (False, True):
            found, total = listed(service, token, by_cursor)
            assert total == len(found) == len(files)
            assert {file["id"]: file for file in found} == wanted
        list(pool.map(back, files))
        list(pool.map(gone, files))
    assert listed(service, token, True) == ([], 0)
