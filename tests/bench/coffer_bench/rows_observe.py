"""The rows about what is shown of the service."""

import http.client
import itertools
import statistics
import time

from .pairs import interleave
from .rows import KIB, MIB, Result, Running, compare, measured_load
from .servers import Coffer
from .tools import BenchError

SERIES = 2000
SCRAPES = 50  # a run
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT")
PATHS = ("/api/files", "/api/files/upload", "/api/files/upload/a", "/api/files/pipe/a",
         "/api/files/delete", "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77",
         "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/download",
         "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77/meta", "/live", "/ready", "/health",
         "/no/such/path")
OBSERVED = {  # the first: as it is without settings
    "on": {},
    "off": {"LOG_LEVEL": "error", "LOG_SUCCESS_SAMPLE": "1000000", "METRICS": "0",
            "ACCESS_LOG": "0"},
}
FORMATS = {"text": "text/plain;version=0.0.4", "OpenMetrics": "application/openmetrics-text"}


def scrape(link, kind):
    """The samples of one scrape and the milliseconds until its last byte."""
    began = time.monotonic()
    link.request("GET", "/api/metrics", headers={"Accept": kind})
    answer = link.getresponse()
    body = answer.read()
    took = (time.monotonic() - began) * 1000
    if answer.status != 200 or not answer.getheader("Content-Type").startswith(kind.split(";")[0]):
        raise BenchError(f"the scrape answered {answer.status}: {body[:300]!r}")
    return sum(not line.startswith(b"#") for line in body.splitlines()), took


def make_series(coffer, link):
    """Requests of many kinds, until a scrape shows enough series; how many it shows then."""
    for path, method in itertools.product(PATHS, METHODS):
        coffer.request(method, path)
        count, _ = scrape(link, FORMATS["text"])
        if count >= SERIES:
            return count
    raise BenchError(f"only {count} series")


def scrapes(bench):
    """One scrape of 2,000 series over a kept connection, in both formats."""
    with Running(Coffer(bench.place("coffer"))) as (coffer,):
        link = http.client.HTTPConnection("127.0.0.1", coffer.port, timeout=60)
        count = make_series(coffer, link)
        times = interleave({
            name: lambda kind=kind: statistics.median(
                scrape(link, kind)[1] for _ in range(SCRAPES))
            for name, kind in FORMATS.items()
        }, bench.rounds, bench.calm, bench.progress)
        link.close()
    return [Result(f"scrape of {count:,} series, {name}", f"{times.median(name):.2f} ms", "–", "–",
                   "≤ 5 ms", times.median(name) <= 5, {name: times.values[name]})
            for name in FORMATS]


def observability(bench):
    """GET 1 KiB, 32 connections: log, metrics and access log on against off."""
    content = bench.random_file(KIB).read_bytes()
    services = {name: Coffer(bench.place("coffer"), **settings)
                for name, settings in OBSERVED.items()}
    with Running(*services.values()):
        pairs = interleave({
            name: lambda url=server.url(server.put_file(KIB, content)): measured_load(
                url, KIB, bench.seconds)
            for name, server in services.items()
        }, bench.rounds, bench.calm, bench.progress)
        check_observed(services)
    measured, compared, ratio = compare(pairs, "on", "off", "/s")
    return [Result("GET 1 KiB with log, metrics and access log", measured, compared, ratio,
                   "≥ 0.9 × off", pairs.ratio("on", "off") >= 0.9, dict(pairs.values))]


def check_observed(services):
    """That one of them logged and counted all of it, and the other nothing."""
    for name, server in services.items():
        log = server.folder / "data/log/coffer.ndjson"
        logged = log.stat().st_size if log.exists() else 0
        status, _, text = server.request("GET", "/api/metrics")
        if (name == "on") != (logged > MIB and status == 200 and b"http_requests_total{" in text):
            raise BenchError(f"{name}: {logged} bytes of log, /api/metrics answers {status}")


OBSERVE_ROWS = {"scrape": scrapes, "observability": observability}
