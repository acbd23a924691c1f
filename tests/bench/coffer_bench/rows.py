"""The rows of the table. Each takes a Bench and returns the results it is good for."""

import http.client
import json
import os
import shutil
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import processes, tools
from .pairs import Calm, interleave
from .servers import Coffer, Express, Lighttpd
from .tools import BenchError

KIB = 1024
MIB = 1024 * 1024


@dataclass
class Result:
    """One line of the table; `reached` is None for a line that has no target."""

    work: str
    measured: str
    compared: str
    ratio: str
    target: str
    reached: bool | None
    raw: dict = field(default_factory=dict)
    note: str = ""


@dataclass
class Bench:
    """What all rows share: where to work, how long, and whom to tell."""

    folder: Path
    rounds: int
    seconds: int
    listed_rows: int
    calm: Calm
    progress: object
    store: str  # which S3 store, by its name in stores.KINDS
    count: int = 0

    def place(self, name):
        """A new folder path."""
        self.count += 1
        return self.folder / f"{self.count}-{name}"

    def random_file(self, size):
        """A file of random bytes."""
        path = self.folder / f"random-{size}"
        if not path.exists():
            path.write_bytes(os.urandom(size))
        return path


class Running:
    """Servers that are stopped and removed at the end of a `with`."""

    def __init__(self, *servers):
        self.servers = servers

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.__exit__()
            raise
        return self.servers

    def __exit__(self, *_):
        for server in self.servers:
            server.remove()


def compare(pairs, name, other, unit, scale=1.0, digits=0):
    """The cells "measured", "compared" and "ratio" of a pair."""
    low, high = pairs.spread(name, other)
    return (f"{pairs.median(name) / scale:,.{digits}f} {unit}",
            f"{other}: {pairs.median(other) / scale:,.{digits}f} {unit}",
            f"{pairs.ratio(name, other):.2f} ({low:.2f}–{high:.2f})")


def ratio_result(work, pairs, other, target, cells, of="coffer"):
    """A line whose target is a ratio of one contender to another."""
    measured, compared, ratio = compare(pairs, of, other, *cells)
    reached = None if target is None else pairs.ratio(of, other) >= target
    wanted = "–" if target is None else f"≥ {target:g} × {other}"
    return Result(work, measured, compared, ratio, wanted, reached, dict(pairs.values))


def download(bench, size, targets):
    """GET of one file over 32 connections against lighttpd alone and Express."""
    label = f"GET {size // KIB} KiB" if size < MIB else f"GET {size // MIB} MiB"
    cells = ("/s",) if size < MIB else ("MB/s", 1e6)
    content = bench.random_file(size).read_bytes()
    names = ("coffer", "lighttpd", "express", "express, 2 processes")
    with Running(Coffer(bench.place("coffer")), Lighttpd(bench.place("lighttpd")),
                 Express(bench.place("express")),
                 Express(bench.place("express2"), 2)) as servers:
        contenders = {}
        for name, server in zip(names, servers):
            url = server.url(server.put_file(size, content))
            if server.request("GET", url.removeprefix(server.url("")))[2] != content:
                raise BenchError(f"{name} gave other bytes than it was given")
            contenders[name] = lambda url=url: measured_load(url, size, bench.seconds)
        pairs = interleave(contenders, bench.rounds, bench.calm, bench.progress)
    work = f"{label}, 32 connections"
    return [ratio_result(work, pairs, name, target, cells)
            for name, target in zip(names[1:], (*targets, None))]


def measured_load(url, size, seconds):
    """Answers a second, or bytes a second for what is large."""
    load = tools.wrk(url, 32, seconds)
    return load.rate if size < MIB else load.bytes_per_second


def get_small(bench):
    """GET 1 KiB, 32 connections."""
    return download(bench, KIB, (0.18, 4))


def get_large(bench):
    """GET 1 MiB, 32 connections."""
    return download(bench, MIB, (0.80, 2))


def put(bench):
    """PUT of 50 MiB by one client against SHA-256 alone and mod_webdav."""
    size = 50 * MIB
    file = bench.random_file(size)
    coffer = Coffer(bench.place("coffer"), DURABILITY="full")
    webdav = Lighttpd(bench.place("lighttpd"))

    def put_speed(server, path):
        seconds = tools.put_seconds(server.port, f"{path}{time.monotonic_ns()}", file, 1, 6)
        if server is webdav:
            webdav.forget_uploads()
        return size / statistics.median(seconds)

    with Running(coffer, webdav):
        pairs = interleave({
            "coffer": lambda: put_speed(coffer, "/api/files/upload/large"),
            "SHA-256 alone": lambda: statistics.median(tools.sha256_speed(6)),
            "mod_webdav": lambda: put_speed(webdav, "/dav/large"),
        }, bench.rounds, bench.calm, bench.progress)
    work = "PUT 50 MiB, one client, `full`"
    results = [ratio_result(work, pairs, "SHA-256 alone", 0.70, ("MB/s", 1e6)),
               ratio_result(work, pairs, "mod_webdav", 0.40, ("MB/s", 1e6))]
    smaller = 0.4 * pairs.median("mod_webdav") < 0.7 * pairs.median("SHA-256 alone")
    for result, counts in zip(results, (not smaller, smaller)):
        if not counts:
            result.reached, result.target = None, f"({result.target}: not the smaller)"
    return results


def post_full(bench):
    """POST of 1 KiB files, durable, against a bare loop without HTTP."""
    def bare_loop():
        folder = bench.place("bare")
        rate = tools.bare_loop_rate(folder, 16, bench.seconds)
        shutil.rmtree(folder)
        return rate

    with Running(Coffer(bench.place("coffer"), DURABILITY="full")) as (coffer,):
        pairs = interleave({"coffer": lambda: post_rate(coffer, bench.seconds),
                            "bare loop": bare_loop}, bench.rounds, bench.calm, bench.progress)
    return [ratio_result("POST 1 KiB files, 16 connections, `full`", pairs, "bare loop", 0.6,
                         ("/s",))]


def post_relaxed(bench):
    """POST of 1 KiB files, relaxed, against Express."""
    names = ("coffer", "express", "express, 2 processes")
    with Running(Coffer(bench.place("coffer"), DURABILITY="relaxed"),
                 Express(bench.place("express")),
                 Express(bench.place("express2"), 2)) as servers:
        contenders = {name: lambda server=server: post_rate(server, bench.seconds)
                      for name, server in zip(names, servers)}
        pairs = interleave(contenders, bench.rounds, bench.calm, bench.progress)
    work = "POST 1 KiB files, 16 connections, `relaxed`"
    return [ratio_result(work, pairs, "express", 3, ("/s",)),
            ratio_result(work, pairs, "express, 2 processes", None, ("/s",))]


def post_rate(server, seconds):
    """Multipart uploads of 1 KiB a second over 16 connections."""
    path = "/upload" if isinstance(server, Express) else "/api/files/upload"
    return tools.wrk(server.url(path), 16, seconds, "multipart.lua", (str(KIB),)).rate


class Pages:
    """Pages of the listing over one connection."""

    def __init__(self, server):
        self.link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def get(self, limit, cursor=None):
        """One page and the milliseconds it took."""
        began = time.monotonic()
        self.link.request("GET", f"/api/files?limit={limit}"
                          + (f"&cursor={cursor}" if cursor else ""))
        answer = self.link.getresponse()
        body = answer.read()
        took = (time.monotonic() - began) * 1000
        if answer.status != 200:
            raise BenchError(f"the listing answered {answer.status}: {body[:300]!r}")
        return json.loads(body), took

    def last_cursor(self, total):
        """Walks to the cursor of the last 100 rows."""
        cursor, seen = None, 0
        while seen < total - 100:
            page, _ = self.get(min(1000, total - 100 - seen), cursor)
            seen += len(page["files"])
            cursor = page["nextCursor"]
        return cursor


def listing(bench):
    """The first and the last page of many rows by cursor."""
    coffer = Coffer(bench.place("coffer"))
    total = bench.listed_rows
    with Running(coffer):
        coffer.stop()
        bench.progress(f"  writing {total:,} rows")
        tools.seed_rows(coffer.environment(), total)
        coffer.start()
        pages = Pages(coffer)
        last = pages.last_cursor(total)
        page, _ = pages.get(100, last)
        if len(page["files"]) != 100 or page["nextCursor"] or page["total"] != total:
            raise BenchError(f"the last page is wrong: {len(page['files'])} of {page['total']}")
        times = interleave({
            "first": lambda: statistics.median(pages.get(100)[1] for _ in range(20)),
            "last": lambda: statistics.median(pages.get(100, last)[1] for _ in range(20)),
        }, bench.rounds, bench.calm, bench.progress)
    low, high = times.spread("last", "first")
    first = times.median("first")
    work = f"list 100 of {total:,} rows by cursor"
    return [Result(work, f"last page {times.median('last'):.2f} ms", f"first page: {first:.2f} ms",
                   f"{times.ratio('last', 'first'):.2f} ({low:.2f}–{high:.2f})",
                   "≤ 2 × first page", times.ratio("last", "first") <= 2, dict(times.values)),
            Result(work, f"first page {first:.2f} ms", "–", "–", "≤ 10 ms", first <= 10)]


def exercise(server):
    """One request to every program, so that idle does not mean unused."""
    path = server.put_file(KIB, b"x" * KIB)
    for method, where in (("GET", path), ("GET", "/api/files"), ("GET", "/health"),
                          ("GET", "/api/metrics"), ("PATCH", path), ("DELETE", path)):
        body = '{"visibility":"public"}' if method == "PATCH" else None
        status, _, answer = server.request(
            method, where, body, {"Content-Type": "application/merge-patch+json"} if body else {})
        if status != 200:
            raise BenchError(f"{method} {where} answered {status}: {answer[:300]!r}")


def memory_idle(bench):
    """PSS of the whole service, after every program has served, at rest."""
    sums, parts = [], {}
    for number in range(bench.rounds):
        with Running(Coffer(bench.place("coffer"))) as (coffer,):
            exercise(coffer)
            time.sleep(1)
            pids = processes.tree(coffer.process.pid)
            parts = {f"{processes.name(pid)} {pid}": processes.pss(pid) for pid in pids}
            sums.append(sum(parts.values()))
        bench.progress(f"  round {number + 1}/{bench.rounds}: {sums[-1] / 1e6:.1f} MB, "
                       f"{len(parts)} processes")
    median = statistics.median(sums)
    note = ", ".join(f"{name.split()[0]} {size / 1e6:.1f}" for name, size in
                     sorted(parts.items(), key=lambda item: -item[1]))
    return [Result("idle memory of all programs and lighttpd (PSS)", f"{median / 1e6:.1f} MB",
                   "–", "–", "≤ 50 MB", median <= 50e6, {"sums": sums, "parts": parts},
                   f"MB by process: {note}")]


def memory_growth(bench):
    """How far PSS rises above rest while 8 clients upload 50 MiB each."""
    file = bench.random_file(50 * MIB)
    results = {"coffer": [], "express": []}
    samples = []
    for number in range(bench.rounds):
        with Running(Coffer(bench.place("coffer"))) as (coffer,):
            exercise(coffer)
            time.sleep(0.5)
            rest = processes.tree_pss(coffer.process.pid)
            sampler = processes.PeakSampler(coffer.process.pid)
            sampler.start()
            seconds = tools.put_seconds(coffer.port, "/api/files/upload/large", file, 8, 2)
            results["coffer"].append(sampler.stop() - rest)
            samples.append(sampler.samples)
        bench.progress(f"  round {number + 1}/{bench.rounds}: "
                       f"{results['coffer'][-1] / MIB:.1f} MiB in {sampler.samples} samples, "
                       f"slowest upload {max(seconds):.2f} s")
    with Running(Express(bench.place("express"))) as (express,):
        results["express"].append(express_growth(express, file))
    median = statistics.median(results["coffer"])
    return [Result("memory growth, 8 uploads of 50 MiB at once (PSS, peak)",
                   f"{median / MIB:.1f} MiB", f"express: {results['express'][0] / MIB:.1f} MiB",
                   "–", "≤ 32 MiB", median <= 32 * MIB, results | {"samples": samples})]


def express_growth(express, file):
    """The same for Express, by multipart."""
    rest = processes.tree_pss(express.process.pid)
    sampler = processes.PeakSampler(express.process.pid)
    content = file.read_bytes()
    threads = [threading.Thread(target=express.put_file, args=(number, content))
               for number in range(8)]
    sampler.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sampler.stop() - rest


def start(bench):
    """From the launcher's start in an empty place, and again over data, to the first answer."""
    first, again = [], []
    for _ in range(bench.rounds):
        with Running(Coffer(bench.place("coffer"))) as (coffer,):
            first.append(coffer.start_seconds)
            coffer.stop()
            coffer.start()
            again.append(coffer.start_seconds)
        bench.progress(f"  first start {first[-1]:.3f} s, again {again[-1]:.3f} s")
    worst = max(statistics.median(first), statistics.median(again))
    return [Result("start to first answer (listing), empty and over data",
                   f"{statistics.median(first):.2f} s / {statistics.median(again):.2f} s", "–",
                   "–", "≤ 1 s", worst <= 1, {"first": first, "again": again})]


ROWS = {"get-1k": get_small, "get-1m": get_large, "put": put, "post-full": post_full,
        "post-relaxed": post_relaxed, "list": listing, "idle": memory_idle,
        "growth": memory_growth, "start": start}
