"""Builds and runs the measuring programs: wrk with Lua scripts, and the small C programs here."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent
TOOLS = ROOT / "build" / "bench" / "bin"
LIBRARIES = {
    "sha256": ["-lcrypto"],
    "bare_loop": ["-lsqlite3"],
    "put_client": [],
    "s3_direct": ["build/release/libcoffer.a", "-lcurl", "-lcrypto"],
    "seed": ["build/release/libcoffer.a", "-lsqlite3", "-lcjson", "-lcrypto", "-lmagic"],
}


class BenchError(Exception):
    """A measurement that could not be made; the text says why."""


def run(command, **options):
    """The standard output of a command; BenchError with its last words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-800:]
        raise BenchError(f"{Path(command[0]).name} ended with {done.returncode}: {words}")
    return done.stdout


def tool(name):
    """The path of a C program of this folder, built with the project's own flags."""
    target = TOOLS / name
    objects = f"build/release/tests/bench/{name}.o"
    goals = [objects] + [part for part in LIBRARIES[name] if part.endswith(".a")]
    run(["make", "-C", str(ROOT), *goals])
    newest = max((ROOT / goal).stat().st_mtime for goal in goals)
    if not target.exists() or target.stat().st_mtime < newest:
        TOOLS.mkdir(parents=True, exist_ok=True)
        run(["gcc", "-pie", "-pthread", "-Wl,--gc-sections", objects, *LIBRARIES[name],
             "-o", str(target)], cwd=ROOT)
    return str(target)


def sha256_speed(rounds):
    """Bytes a second of SHA-256 over 50 MiB, one number a round."""
    return json.loads(run([tool("sha256"), str(rounds)]))


def bare_loop_rate(folder, threads, seconds):
    """Files a second of write, fsync, rename, folder fsync and SQLite commit without HTTP."""
    folder.mkdir(parents=True)
    result = json.loads(run([tool("bare_loop"), str(folder), str(threads), str(seconds)]))
    return result["operations"] / result["seconds"]


def put_seconds(port, path, file, connections, requests, content_type=None):
    """Seconds of each PUT of a file (POST where a type is given), over connections that are kept
    alive."""
    return json.loads(run([tool("put_client"), str(port), path, str(file), str(connections),
                           str(requests), *([content_type] if content_type else [])]))


def direct_seconds(settings, mode, name, what, count):
    """Seconds of each request of s3_direct, straight to the store or to any address."""
    return json.loads(run([tool("s3_direct"), mode, name, str(what), str(count)],
                          env=os.environ | settings))


def seed_rows(environment, rows):
    """Writes rows into the metadata of a stopped service."""
    run([tool("seed"), str(rows), "16"], env=environment | {"DURABILITY": "relaxed"})


@dataclass
class Load:
    """What wrk saw."""

    rate: float            # answers a second
    bytes_per_second: float
    p99_ms: float


def wrk(url, connections, seconds, script="report.lua", arguments=()):
    """Loads a URL; BenchError when any answer was an error."""
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s",
               "-s", str(BENCH / "lua" / script), url, "--", *arguments]
    for line in run(command).splitlines():
        if line.startswith("RESULT "):
            count, microseconds, size, wrong, errors, p99 = map(int, line.split()[1:])
            if wrong or errors or not count:
                raise BenchError(f"{url}: {count} answers, {wrong} errors, {errors} broken")
            return Load(count * 1e6 / microseconds, size * 1e6 / microseconds, p99 / 1000)
    raise BenchError(f"wrk printed no result for {url}")
