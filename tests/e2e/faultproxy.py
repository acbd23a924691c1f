"""A proxy between the service and a store that does what networks and stores do on bad days. It
runs in a process of its own (faultproxy_process.py), speaks HTTP/1.1 (S3) or MongoDB's wire
protocol, and passes everything on unchanged until a fault is set.

    with FaultProxy(store.endpoint) as proxy:
        Service(S3_ENDPOINT=proxy.endpoint, …)
        fault = proxy.status(500, method="PUT", path="uploadId=", times=1)
        …
        assert fault.hits == 1 and proxy.count("PUT", "uploadId=") == 2   # tried again, once

What each fault takes besides its own arguments says which requests it is for:
    method  of the request; the command's name (`insert`, `find`, `hello`, …) for MongoDB
    path    a regular expression, searched in the raw path with its query; in the collection's name
            for MongoDB
    header  the beginning of a header's name in lower case; HTTP alone
    skip    how many matching requests pass before it begins (0)
    times   how many it is for then (no limit)
The first fault set that matches is used, one for each request. refuse() and cut() are for all
connections, accept() ends refuse(). A request held by silent() is held until the client goes,
also after clear().
"""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from servers import free_ports

PROCESS = Path(__file__).resolve().parent / "faultproxy_process.py"
ALL = ("method", "path", "header", "skip", "times")


class Fault:
    def __init__(self, proxy, number):
        self.proxy, self.number = proxy, number

    @property
    def hits(self):
        """How many requests it was done to."""
        return self.proxy.call("hits", fault=self.number)

    def clear(self):
        self.proxy.call("clear", fault=self.number)

    def wait(self, hits=1, seconds=30):
        """Until it was done to so many."""
        deadline = time.monotonic() + seconds
        while self.hits < hits:
            assert time.monotonic() < deadline, f"fault hit {self.hits} times, not {hits}"
            time.sleep(0.02)
        return self


class FaultProxy:
    """`upstream` is http://HOST:PORT or mongodb://HOST:PORT/…; `endpoint` is the same with the
    proxy's address, `uri` another name for it."""

    def __init__(self, upstream):
        url = urllib.parse.urlsplit(upstream)
        self.protocol = {"http": "http", "mongodb": "mongo"}[url.scheme]
        self.lock = threading.Lock()
        for _ in range(5):
            [self.port] = free_ports(1)
            self.process = subprocess.Popen(
                [sys.executable, "-B", PROCESS, self.protocol, url.hostname, str(url.port),
                 str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.process.stdout.readline():
                break
            self.close()
        else:
            raise AssertionError("the fault proxy does not start")
        user = url.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{self.port}" if user else f"127.0.0.1:{self.port}"
        self.endpoint = self.uri = urllib.parse.urlunsplit(url._replace(netloc=netloc))

    def call(self, operation, **arguments):
        with self.lock:
            self.process.stdin.write(json.dumps({"operation": operation, **arguments}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    def fault(self, kind, options):
        match = {name: options.pop(name) for name in ALL if name in options}
        return Fault(self, self.call("fault", kind=kind, match=match, options=options))

    # Faults of both protocols. `direction` is "reply" or "request".

    def slow(self, rate, direction="reply", **match):
        """At `rate` bytes a second."""
        return self.fault("slow", dict(rate=rate, direction=direction, **match))

    def delay(self, seconds, **match):
        """Passed on so much later."""
        return self.fault("delay", dict(seconds=seconds, **match))

    def silent(self, after=None, **match):
        """Never answered, and not passed on; with `after`, passed on, and the reply stops after so
        many bytes of its body."""
        return self.fault("silent", dict(after=after, **match))

    def reset(self, after=None, **match):
        """The connection is reset before the request is passed on; with `after`, when so many
        bytes of the reply's body were passed back."""
        return self.fault("reset", dict(after=after, **match))

    def truncate(self, after, **match):
        """The connection is closed in good order after so many bytes of the reply's body."""
        return self.fault("truncate", dict(after=after, **match))

    def flip(self, at=0, direction="reply", **match):
        """The byte at this offset of the body is another."""
        return self.fault("flip", dict(at=at, direction=direction, **match))

    def lost_reply(self, ending="close", **match):
        """The store gets the whole request and carries it out; its answer is thrown away. `ending`
        of the connection: "close", "reset", or "silent" (none)."""
        assert ending in ("close", "reset", "silent"), ending
        return self.fault("lost_reply", dict(ending=ending, **match))

    # Faults of HTTP alone.

    def extra(self, count=1, framed=True, **match):
        """So many bytes more than the object has: counted in Content-Length, or sent after it."""
        return self.fault("extra", dict(count=count, framed=framed, **match))

    def huge_headers(self, size=1 << 20, **match):
        """Header lines of this size together are added."""
        return self.fault("huge_headers", dict(size=size, **match))

    def header(self, name, value, **match):
        """A header of the reply has another value; none when it is None."""
        return self.fault("header", dict(name=name, value=value, **match))

    def chunked(self, **match):
        """In chunks, so without Content-Length; not for HEAD."""
        return self.fault("chunked", match)

    def status(self, status, headers=None, early=False, **match):
        """Answered with this status and an S3 error document, not passed on. The body is read
        first, unless `early`: then the connection is closed with the rest of it unread."""
        return self.fault("status", dict(status=status, headers=headers or {}, early=early,
                                         **match))

    def unavailable(self, retry_after=1, **match):
        """503 with Retry-After."""
        return self.status(503, {"Retry-After": str(retry_after)}, **match)

    def redirect(self, location, status=307, **match):
        return self.status(status, {"Location": location}, **match)

    # A fault of MongoDB alone.

    def error(self, code, name, labels=(), **match):
        """Answered with this error, not passed on: 10107 NotWritablePrimary, 91
        ShutdownInProgress, …"""
        return self.fault("error", dict(code=code, name=name, labels=list(labels), **match))

    # All connections.

    def refuse(self):
        """The port is closed and every connection reset."""
        self.call("refuse")

    def accept(self):
        """The port is open again."""
        self.call("accept")

    def cut(self):
        """Every connection is reset, once."""
        self.call("cut")

    def clear(self):
        """No fault from here on; the port is open."""
        self.call("clear", fault=None)
        self.accept()

    # What went through.

    def requests(self, method=None, path=None):
        """What was asked, in order, as dictionaries: method, path, headers (lower-case names;
        HTTP), fault (its kind or None), forwarded (whole, to the store), status (of the store, or
        the proxy's own; None before), request_bytes and reply_bytes (of bodies), done."""
        every = self.call("requests")
        return [each for each in every
                if (method is None or each["method"] == method)
                and (path is None or re.search(path, each["path"]))]

    def count(self, method=None, path=None):
        return len(self.requests(method, path))

    def forget(self):
        """Requests so far are no longer told."""
        self.call("forget")

    def connections(self):
        """How many are open now."""
        return self.call("connections")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
