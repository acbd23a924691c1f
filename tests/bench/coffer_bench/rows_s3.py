"""The rows on S3 and MongoDB: all contenders of a row use the same store and the same FerretDB."""

import http.client
import json
import statistics
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

from . import processes, tools
from .pairs import interleave
from .rows import KIB, MIB, Result, Running, exercise, ratio_result
from .servers import Coffer, ExpressS3, LighttpdProxy
from .stores import KINDS, Stores
from .tools import BenchError

LARGE = 50 * MIB
BOUNDARY = "coffer-bench-c0ffe2"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PARALLEL = 16
LISTED = 1000
GROWTH_ALLOWED = 16 * MIB
MEMORY_SIZES = (128, 32)  # MiB of UPLOAD_MEMORY; the first is the default


def titled(bench, work):
    """The name of a row."""
    return f"S3 on {KINDS[bench.store].__name__}: {work}"


def form_file(bench, size):
    """A file that is the body of a form with one file of so many random bytes."""
    path = bench.folder / f"form-{size}"
    if not path.exists():
        head = (f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; "
                f"filename=\"{size}.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n")
        path.write_bytes(head.encode() + bench.random_file(size).read_bytes()
                         + f"\r\n--{BOUNDARY}--\r\n".encode())
    return path


def post_seconds(server, bench, size, connections, requests):
    """Seconds of each upload by form, the same client and the same bytes for everybody."""
    path = "/upload" if isinstance(server, ExpressS3) else "/api/files/upload"
    return tools.put_seconds(server.port, path, form_file(bench, size), connections, requests,
                             FORM)


def pair(bench, stores):
    """The service and its peer."""
    return (Coffer(bench.place("coffer"), **stores.coffer()),
            ExpressS3(bench.place("express"), **stores.settings("express")))


def put_large(bench):
    """Upload of 50 MiB by one client against the store itself."""
    file = bench.random_file(LARGE)

    def speed(seconds):
        return LARGE / statistics.median(seconds)

    with Stores(bench.store) as stores:
        direct = stores.settings("direct")
        with Running(*pair(bench, stores)) as (coffer, express):
            pairs = interleave({
                "coffer": lambda: speed(tools.put_seconds(
                    coffer.port, "/api/files/upload/large", file, 1, 4)),
                "direct": lambda: speed(tools.direct_seconds(
                    direct, "put", f"large-{time.monotonic_ns()}", file, 4)),
                "express": lambda: speed(post_seconds(express, bench, LARGE, 1, 4)),
            }, bench.rounds, bench.calm, bench.progress)
    work = titled(bench, "PUT 50 MiB, one client")
    return [ratio_result(work, pairs, "direct", 0.6, ("MB/s", 1e6)),
            ratio_result(work, pairs, "express", None, ("MB/s", 1e6))]


def redirected_seconds(direct, server, path, requests):
    """Seconds of downloads that the service sends to the store: its answer, and the store's."""
    seconds = []
    for _ in range(requests):
        began = time.monotonic()
        status, headers, _ = server.request("GET", path)
        if status != 302:
            raise BenchError(f"{path} answered {status}, not a redirect")
        told = time.monotonic() - began
        seconds.append(told + tools.direct_seconds(direct, "fetch", headers["Location"], LARGE,
                                                   1)[0])
    return seconds


def get_contenders(direct, servers, content):
    """name → speed of a download of 50 MiB: the service and its peer."""
    wanted = {}
    for name, server in zip(("coffer", "express"), servers):
        path = server.put_file(LARGE, content)
        if server.request("GET", path)[2] != content:
            raise BenchError(f"{name} gave other bytes than it was given")
        wanted[name] = server.url(path)
    return {name: lambda url=url: LARGE / statistics.median(
                tools.direct_seconds(direct, "fetch", url, LARGE, 10))
            for name, url in wanted.items()}


def get_large(bench):
    """Download of 50 MiB by one client against the store itself."""
    file = bench.random_file(LARGE)
    with Stores(bench.store) as stores:
        direct = stores.settings("direct")
        redirecting = Coffer(bench.place("coffer-302"),
                             **stores.coffer("redirect", DOWNLOAD_MODE="redirect"))
        store = urllib.parse.urlsplit(direct["S3_ENDPOINT"])
        proxy = LighttpdProxy(bench.place("proxy"), store.port)
        with Running(*pair(bench, stores), redirecting, proxy) as (*servers, _, _):
            tools.direct_seconds(direct, "put", "large", file, 1)
            contenders = get_contenders(direct, servers, file.read_bytes())
            for name, endpoint in (("direct", direct["S3_ENDPOINT"]), ("proxy", proxy.url(""))):
                settings = direct | {"S3_ENDPOINT": endpoint}
                contenders[name] = lambda settings=settings: LARGE / statistics.median(
                    tools.direct_seconds(settings, "get", "large-0", LARGE, 10))
            path = redirecting.put_file(LARGE, file.read_bytes())
            contenders["redirect"] = lambda: LARGE / statistics.median(
                redirected_seconds(direct, redirecting, path, 10))
            pairs = interleave(contenders, bench.rounds, bench.calm, bench.progress)
    work = titled(bench, "GET 50 MiB, one client")
    return [ratio_result(work, pairs, "direct", 0.75, ("MB/s", 1e6)),
            ratio_result(f"{work}, `DOWNLOAD_MODE=redirect`", pairs, "direct", 0.75,
                         ("MB/s", 1e6), of="redirect"),
            ratio_result(f"{work}, lighttpd alone as a proxy", pairs, "direct", None,
                         ("MB/s", 1e6), of="proxy"),
            ratio_result(work, pairs, "express", None, ("MB/s", 1e6))]


def put_parallel(bench):
    """16 uploads of 50 MiB at once against Express, and to the store itself."""
    def speed(server):
        return PARALLEL * LARGE / max(post_seconds(server, bench, LARGE, PARALLEL, 1))

    def direct_seconds(number):
        return tools.direct_seconds(direct, "put", f"large-{time.monotonic_ns()}-{number}", file,
                                    1)[0]

    def direct_speed():
        with ThreadPoolExecutor(PARALLEL) as clients:
            return PARALLEL * LARGE / max(clients.map(direct_seconds, range(PARALLEL)))

    file = bench.random_file(LARGE)
    with Stores(bench.store) as stores:
        direct = stores.settings("direct")
        small = Coffer(bench.place("coffer-32"), **stores.coffer("small", UPLOAD_MEMORY="32M"))
        with Running(*pair(bench, stores), small) as (coffer, express, _):
            pairs = interleave({
                "coffer": lambda: speed(coffer),
                "express": lambda: speed(express),
                "itself, `UPLOAD_MEMORY=32M`": lambda: speed(small),
                "direct": direct_speed,
            }, bench.rounds, bench.calm, bench.progress)
    work = titled(bench, f"{PARALLEL} uploads of 50 MiB at once")
    return [ratio_result(work, pairs, "express", 1.5, ("MB/s", 1e6)),
            ratio_result(f"{work}, the store itself", pairs, "express", None,
                         ("MB/s", 1e6), of="direct"),
            ratio_result(work, pairs, "itself, `UPLOAD_MEMORY=32M`", None, ("MB/s", 1e6))]


def growth(server, bench, spooled=None):
    """How far PSS of all its processes rises above rest during such uploads, and the most that lay
    in the spool meanwhile."""
    post_seconds(server, bench, KIB, 1, 1)
    time.sleep(0.5)
    rest = processes.tree_pss(server.process.pid)
    sampler = processes.PeakSampler(server.process.pid, spooled)
    sampler.start()
    try:
        post_seconds(server, bench, LARGE, PARALLEL, 1)
    finally:
        peak = sampler.stop()
    return peak - rest, sampler.also_peak


def growth_round(bench, stores, values):
    """One turn of each contender; appends to values, by contender."""
    for size in MEMORY_SIZES:
        settings = stores.coffer(f"growth{size}", UPLOAD_MEMORY=f"{size}M")
        with Running(Coffer(bench.place("coffer"), **settings)) as (coffer,):
            exercise(coffer)
            grown, spooled = growth(coffer, bench, coffer.spooled)
        values[size].append(grown)
        values["spool"].append(spooled)
    settings = stores.settings("express")
    with Running(ExpressS3(bench.place("express"), **settings)) as (express,):
        values["express"].append(growth(express, bench)[0])


def put_growth(bench):
    """Memory during 16 uploads of 50 MiB at once, by UPLOAD_MEMORY, beside Express."""
    values = {name: [] for name in (*MEMORY_SIZES, "express", "spool")}
    with Stores(bench.store) as stores:
        for number in range(bench.rounds):
            growth_round(bench, stores, values)
            bench.progress(f"  round {number + 1}/{bench.rounds}: " + ", ".join(
                f"{name} {each[-1] / MIB:.1f} MiB" for name, each in values.items()))
    peer = statistics.median(values["express"])
    results = []
    for size in MEMORY_SIZES:
        median = statistics.median(values[size])
        limit = size * MIB + GROWTH_ALLOWED
        results.append(Result(
            titled(bench, f"memory growth, {PARALLEL} uploads of 50 MiB at once (PSS, peak), "
                          f"`UPLOAD_MEMORY={size}M`"), f"{median / MIB:.1f} MiB",
            f"express: {peer / MIB:.1f} MiB", "–", f"≤ {limit // MIB} MiB", median <= limit,
            {str(name): each for name, each in values.items()}))
    results[0].note = (f"beside it up to {max(values['spool']) / MIB:.0f} MiB lay in the gateway's "
                       "spool, a file system in memory that `SPOOL_MAX_BYTES` bounds")
    return results


def get_small(bench):
    """GET 1 KiB, 32 connections, against Express."""
    content = bench.random_file(KIB).read_bytes()
    with Stores(bench.store) as stores, Running(*pair(bench, stores)) as servers:
        contenders = {}
        for name, server in zip(("coffer", "express"), servers):
            path = server.put_file(KIB, content)
            if server.request("GET", path)[2] != content:
                raise BenchError(f"{name} gave other bytes than it was given")
            contenders[name] = lambda url=server.url(path): tools.wrk(url, 32, bench.seconds).rate
        pairs = interleave(contenders, bench.rounds, bench.calm, bench.progress)
    return [ratio_result(titled(bench, "GET 1 KiB, 32 connections"), pairs, "express", 2, ("/s",))]


def page_seconds(link, path):
    """The time of one page of a listing, which has to be right."""
    began = time.monotonic()
    link.request("GET", path)
    answer = link.getresponse()
    body = answer.read()
    took = time.monotonic() - began
    page = json.loads(body) if answer.status == 200 else {"files": []}
    if len(page["files"]) != 100 or page["total"] != LISTED:
        raise BenchError(f"{path} answered {answer.status}: {body[:300]!r}")
    return took


def list_rate(server, path):
    """Pages a second over one connection, by the median of 20; servers close idle ones, so it is
    a new one each turn."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        return 1 / statistics.median(page_seconds(link, path) for _ in range(20))
    finally:
        link.close()


def listing(bench):
    """Lists of 100 out of 1,000 files against Express."""
    with Stores(bench.store) as stores, Running(*pair(bench, stores)) as servers:
        for server in servers:
            post_seconds(server, bench, KIB, 10, LISTED // 10)
        coffer, express = servers
        pairs = interleave({"coffer": lambda: list_rate(coffer, "/api/files?limit=100"),
                            "express": lambda: list_rate(express, "/files?limit=100")},
                           bench.rounds, bench.calm, bench.progress)
    return [ratio_result(titled(bench, "list 100 of 1,000 files, one client"), pairs, "express",
                         1, ("/s", 1, 1))]


S3_ROWS = {"s3-put": put_large, "s3-get": get_large, "s3-parallel": put_parallel,
           "s3-growth": put_growth, "s3-get-1k": get_small, "s3-list": listing}
