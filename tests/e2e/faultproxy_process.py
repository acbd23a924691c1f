"""The process behind faultproxy.FaultProxy: a thread for each connection, orders as JSON lines on
standard input, one JSON line back for each.

    python3 faultproxy_process.py http|mongo HOST PORT LISTEN_PORT
"""

import itertools
import json
import os
import re
import select
import socket
import struct
import sys
import threading
import time

CHUNK = 256 * 1024
HEAD_LIMIT = 1 << 20
TICKS = 20  # a second, for slow()
XML = ('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
       "<Message>made by the fault proxy</Message></Error>")
S3_CODES = {400: "InvalidArgument", 403: "AccessDenied", 404: "NoSuchKey", 501: "NotImplemented",
            503: "SlowDown"}


class Cut(Exception):
    """This connection is over; `how` is "close", "reset" or "silent"."""

    def __init__(self, how="close"):
        super().__init__(how)
        self.how = how


class Fault:
    numbers = itertools.count(1)

    def __init__(self, kind, match, options):
        self.number = next(self.numbers)
        self.kind, self.options = kind, options
        self.method = match.get("method")
        self.path = re.compile(match["path"]) if match.get("path") is not None else None
        self.header = match.get("header")
        self.skip, self.times = match.get("skip", 0), match.get("times")
        self.hits = 0

    def __getattr__(self, name):
        try:
            return self.options[name]
        except KeyError:
            raise AttributeError(name) from None

    def take(self, method, path, headers=()):
        """Whether it is for this request; counts it."""
        if self.method is not None and self.method != method:
            return False
        if self.path is not None and not self.path.search(path):
            return False
        if self.header is not None and not any(name.startswith(self.header) for name in headers):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class State:
    """What orders change and connections read; `lock` guards all of it."""

    def __init__(self):
        self.lock = threading.RLock()
        self.faults, self.all_faults, self.requests = [], {}, []
        self.connections = set()

    def begin(self, method, path, **more):
        """(record, fault or None) of a request that has arrived."""
        with self.lock:
            fault = next((each for each in self.faults if each.take(method, path, more.get("headers", ()))), None)
            record = {"method": method, "path": path, "fault": fault.kind if fault else None,
                      "forwarded": False, "status": None, "request_bytes": 0, "reply_bytes": 0,
                      "done": False, **more}
            self.requests.append(record)
            return record, fault


class Stream:
    """A socket with what was read of it too early."""

    def __init__(self, connection, owner):
        self.socket, self.owner, self.buffer = connection, owner, b""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, most=CHUNK):
        piece = self.socket.recv(most)
        if self.owner.aborted:
            raise Cut("reset")
        return piece

    def read(self, most=CHUNK):
        """b"" at the end."""
        if self.buffer:
            piece, self.buffer = self.buffer[:most], self.buffer[most:]
            return piece
        return self.receive(most)

    def read_exactly(self, count):
        pieces = []
        while count:
            piece = self.read(min(count, CHUNK))
            if not piece:
                raise Cut()
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def read_until(self, mark):
        """What ends with `mark`; None when the other side went before it said anything."""
        while mark not in self.buffer:
            if len(self.buffer) > HEAD_LIMIT:
                raise Cut()
            piece = self.receive()
            if not piece:
                if self.buffer:
                    raise Cut()
                return None
            self.buffer += piece
        at = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:at], self.buffer[at:]
        return found

    def send(self, piece):
        self.socket.sendall(piece)

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Body:
    """Passes a body on through what a fault does to it. `send` takes what remains."""

    def __init__(self, fault, direction, send):
        self.fault, self.send, self.offset = fault, send, 0
        kind = fault.kind if fault else None
        mine = fault and fault.options.get("direction", "reply") == direction
        self.rate = fault.rate if mine and kind == "slow" else None
        self.flip_at = fault.at if mine and kind == "flip" else None
        self.end_at = fault.options.get("after") if (
            mine and direction == "reply" and kind in ("silent", "reset", "truncate")) else None

    def end(self):
        """The reply has had its bytes: what comes of the connection."""
        if self.end_at is not None and self.offset >= self.end_at:
            raise Cut({"truncate": "close"}.get(self.fault.kind, self.fault.kind))

    def write(self, piece):
        if self.end_at is not None:
            piece = piece[:self.end_at - self.offset]
        if self.flip_at is not None and 0 <= self.flip_at - self.offset < len(piece):
            at = self.flip_at - self.offset
            piece = piece[:at] + bytes([piece[at] ^ 0x20]) + piece[at + 1:]
        if self.rate:
            self.trickle(piece)
        elif piece:
            self.send(piece)
        self.offset += len(piece)
        self.end()

    def trickle(self, piece):
        step = max(1, self.rate // TICKS)
        for at in range(0, len(piece), step):
            self.send(piece[at:at + step])
            time.sleep(min(step, len(piece) - at) / self.rate)


class Connection:
    """One client, and the connection to the store that goes with it."""

    def __init__(self, state, client, upstream_address):
        self.state, self.client = state, Stream(client, self)
        self.address, self.upstream = upstream_address, None
        self.aborted = self.over = False
        with state.lock:
            state.connections.add(self)

    def run(self):
        how = "close"
        try:
            while self.serve_one():
                pass
        except Cut as cut:
            how = cut.how
        except OSError:
            how = "reset"
        try:
            if how == "silent":
                self.drop_upstream()
                while self.client.receive():
                    pass
        except (Cut, OSError):
            pass
        self.close("reset" if self.aborted else how)

    def linger(self):
        """What the client still sends is read for a second: else its unread bytes would reset the
        connection, and it might never see the answer."""
        self.client.socket.shutdown(socket.SHUT_WR)
        self.client.socket.settimeout(0.2)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and self.client.receive():
            pass

    def close(self, how):
        self.drop_upstream()
        if how == "close":
            try:
                self.linger()
            except (Cut, OSError):
                pass
        with self.state.lock:
            if how == "reset":
                self.client.reset()
            self.client.socket.close()
            self.over = True
            self.state.connections.discard(self)

    def abort(self, how):
        """By another thread: ends what this one waits for."""
        with self.state.lock:
            if self.over:
                return
            self.aborted = True
            for each, manner in ((self.client, how), (self.upstream, socket.SHUT_RDWR)):
                try:
                    if each:
                        each.socket.shutdown(manner)
                except OSError:
                    pass

    def drop_upstream(self):
        with self.state.lock:
            if self.upstream:
                self.upstream.socket.close()
                self.upstream = None

    def connect(self):
        """To the store, unless it is and the store has not closed it meanwhile."""
        if self.upstream and select.select([self.upstream.socket], [], [], 0)[0]:
            self.drop_upstream()
        if not self.upstream:
            try:
                self.upstream = Stream(socket.create_connection(self.address, timeout=10), self)
            except OSError:
                raise Cut("reset") from None
            self.upstream.socket.settimeout(None)
        return self.upstream


# ---- HTTP ----

def parse_head(head):
    """(first line's three words, [(name, value)])"""
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = [(name.strip(), value.strip())
               for name, _, value in (line.partition(":") for line in lines)]
    return first.split(" ", 2), headers


def header(headers, name, default=None):
    return next((value for each, value in headers if each.lower() == name), default)


def print_head(first, headers):
    lines = [" ".join(first)] + [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def framing(headers, otherwise):
    """"chunked", a number of bytes, or what holds when neither is said."""
    if "chunked" in header(headers, "transfer-encoding", "").lower():
        return "chunked"
    length = header(headers, "content-length")
    return otherwise if length is None else int(length)


def pieces_of(stream, length):
    """The body's bytes as they come, without framing; Cut when it ends too early."""
    if length == "close":
        while piece := stream.read():
            yield piece
    elif length == "chunked":
        while size := int((stream.read_until(b"\r\n") or b"0").split(b";")[0], 16):
            while size:
                piece = stream.read(min(size, CHUNK))
                if not piece:
                    raise Cut()
                size -= len(piece)
                yield piece
            stream.read_exactly(2)
        while stream.read_until(b"\r\n") not in (b"\r\n", None):  # trailers
            pass
    else:
        while length:
            piece = stream.read(min(length, CHUNK))
            if not piece:
                raise Cut()
            length -= len(piece)
            yield piece


def chunk(piece):
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class HttpConnection(Connection):
    def serve_one(self):
        head = self.client.read_until(b"\r\n\r\n")
        if head is None:
            return False
        (method, target, _), headers = parse_head(head)
        record, fault = self.state.begin(
            method, target, headers={name.lower(): value for name, value in headers})
        length = framing(headers, 0)
        kind = fault.kind if fault else None
        if kind == "delay":
            time.sleep(fault.seconds)
        if kind == "silent" and fault.after is None:
            raise Cut("silent")
        if kind == "reset" and fault.after is None:
            raise Cut("reset")
        if kind == "status":
            return self.answer(record, fault, method, headers, length)
        whole = self.forward(record, fault, head, headers, length)
        if kind == "lost_reply":
            self.lose(record, fault, method)
        kept = self.reply(record, fault, method)
        record["done"] = True
        return kept and whole and header(headers, "connection", "").lower() != "close"

    def answer(self, record, fault, method, headers, length):
        """A reply of the proxy's own."""
        if not fault.early:
            if header(headers, "expect"):
                self.client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            for piece in pieces_of(self.client, length):
                record["request_bytes"] += len(piece)
        body = XML.format(code=S3_CODES.get(fault.status, "InternalError")).encode()
        lines = [("Content-Type", "application/xml"), ("Content-Length", len(body)),
                 *fault.headers.items()]
        if fault.early:
            lines.append(("Connection", "close"))
        record["status"] = fault.status
        self.client.send(print_head(("HTTP/1.1", str(fault.status), "Fault"), lines)
                         + (b"" if method == "HEAD" else body))
        record["done"] = True
        return not fault.early

    def forward(self, record, fault, head, headers, length):
        """Passes the request on. False when the store answered before it had all of it."""
        upstream = self.connect()
        upstream.send(head)
        if header(headers, "expect") and not self.wait_for_continue():
            return False

        def send(piece):
            upstream.send(chunk(piece) if length == "chunked" else piece)

        body = Body(fault, "request", send)
        try:
            for piece in pieces_of(self.client, length):
                record["request_bytes"] += len(piece)
                body.write(piece)
                if upstream.buffer or select.select([upstream.socket], [], [], 0)[0]:
                    if record["request_bytes"] != length:
                        return False
            if length == "chunked":
                upstream.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return False
        record["forwarded"] = True
        return True

    def wait_for_continue(self):
        """True when the body is to be sent: the store asked for it, or the client does not wait."""
        upstream = self.upstream
        ready, _, _ = select.select([upstream.socket, self.client.socket], [], [])
        if upstream.socket not in ready:
            return True
        head = upstream.read_until(b"\r\n\r\n")
        if head and head.split(b" ")[1] == b"100":
            self.client.send(head)
            return True
        upstream.buffer = (head or b"") + upstream.buffer
        return False

    def read_reply_head(self, pass_on):
        """(first line, headers) of the final answer; interim ones are passed on."""
        while True:
            head = self.upstream.read_until(b"\r\n\r\n")
            if head is None:
                raise Cut()
            first, headers = parse_head(head)
            if not first[1].startswith("1"):
                return first, headers
            if pass_on:
                self.client.send(head)

    @staticmethod
    def reply_length(method, status, headers):
        if method == "HEAD" or status in ("204", "304"):
            return 0
        return framing(headers, "close")

    def lose(self, record, fault, method):
        first, headers = self.read_reply_head(pass_on=False)
        record["status"] = int(first[1])
        for _ in pieces_of(self.upstream, self.reply_length(method, first[1], headers)):
            pass
        record["done"] = True
        raise Cut(fault.ending)

    def reply(self, record, fault, method):
        """Passes the reply back. Whether both connections can be used again."""
        first, headers = self.read_reply_head(pass_on=True)
        record["status"] = int(first[1])
        length = self.reply_length(method, first[1], headers)
        kind = fault.kind if fault else None
        framed = "chunked" if kind == "chunked" and length else length
        more = fault.count if kind == "extra" else 0
        headers = self.change_headers(fault, headers, more if length not in (0, "close") else 0)

        def send(piece):
            record["reply_bytes"] += len(piece)
            self.client.send(chunk(piece) if framed == "chunked" else piece)

        body = Body(fault, "reply", send)
        self.client.send(print_head(first, headers))
        body.end()
        for piece in pieces_of(self.upstream, length):
            body.write(piece)
        if more:
            send(b"+" * more)
        if framed == "chunked":
            self.client.send(b"0\r\n\r\n")
        return length != "close" and header(headers, "connection", "").lower() != "close"

    @staticmethod
    def change_headers(fault, headers, more):
        kind = fault.kind if fault else None
        if kind == "header":
            headers = [each for each in headers if each[0].lower() != fault.name.lower()]
            if fault.value is not None:
                headers.append((fault.name, fault.value))
        if kind == "chunked" and header(headers, "content-length", "0") != "0":
            headers = [each for each in headers if each[0].lower() != "content-length"]
            headers.append(("Transfer-Encoding", "chunked"))
        if kind == "huge_headers":
            headers = headers + [(f"X-Fill-{n}", "f" * 1000) for n in range(fault.size // 1000)]
        if more and fault.framed:
            headers = [(name, str(int(value) + more) if name.lower() == "content-length" else value)
                       for name, value in headers]
        return headers


# ---- MongoDB's wire protocol ----

OP_QUERY, OP_MSG = 2004, 2013
MORE_TO_COME = 2


def read_message(stream):
    """(header, rest) or None at the end."""
    first = stream.read(16)
    if not first:
        return None
    head = first + stream.read_exactly(16 - len(first))
    size = struct.unpack("<i", head[:4])[0]
    if not 16 <= size <= 64 << 20:
        raise Cut()
    return head, stream.read_exactly(size - 16)


def first_element(document):
    """(name, value when it is a string, else "") of a BSON document."""
    end = document.index(b"\0", 5)
    name, value = document[5:end].decode(errors="replace"), ""
    if document[4] == 2:
        size = struct.unpack("<i", document[end + 1:end + 5])[0]
        value = document[end + 5:end + 4 + size].decode(errors="replace")
    return name, value


def describe(head, rest):
    """(command, collection, whether a reply comes)"""
    code = struct.unpack("<i", head[12:16])[0]
    if code == OP_QUERY:
        at = rest.index(b"\0", 4) + 9
        return (*first_element(rest[at:]), True)
    if code != OP_MSG:
        return f"opcode {code}", "", True
    at = 4
    while rest[at] == 1:  # documents of a batch, before the command
        at += 1 + struct.unpack("<i", rest[at + 1:at + 5])[0]
    flags = struct.unpack("<I", rest[:4])[0]
    return (*first_element(rest[at + 1:]), not flags & MORE_TO_COME)


def element(kind, name, value):
    return bytes([kind]) + name.encode() + b"\0" + value


def text(value):
    data = value.encode() + b"\0"
    return struct.pack("<i", len(data)) + data


def document(*elements):
    data = b"".join(elements) + b"\0"
    return struct.pack("<i", len(data) + 4) + data


class MongoConnection(Connection):
    def serve_one(self):
        message = read_message(self.client)
        if message is None:
            return False
        head, rest = message
        command, collection, answered = describe(head, rest)
        record, fault = self.state.begin(command, collection)
        record["request_bytes"] = len(rest)
        kind = fault.kind if fault else None
        if kind == "delay":
            time.sleep(fault.seconds)
        if kind == "silent" and fault.after is None:
            raise Cut("silent")
        if kind == "reset" and fault.after is None:
            raise Cut("reset")
        if kind == "error":
            self.client.send(self.error(fault, head))
            record["status"], record["done"] = fault.code, True
            return True
        upstream = self.connect()
        upstream.send(head)
        Body(fault, "request", upstream.send).write(rest)
        record["forwarded"] = True
        while answered:
            answered = self.reply(record, fault)
        record["done"] = True
        return True

    def reply(self, record, fault):
        """Passes one reply back. Whether the store says that there is another."""
        message = read_message(self.upstream)
        if message is None:
            raise Cut()
        head, rest = message
        if fault and fault.kind == "lost_reply":
            record["done"] = True
            raise Cut(fault.ending)
        self.client.send(head)
        record["reply_bytes"] += len(rest)
        body = Body(fault, "reply", self.client.send)
        body.end()
        body.write(rest)
        return (struct.unpack("<i", head[12:16])[0] == OP_MSG
                and bool(struct.unpack("<I", rest[:4])[0] & MORE_TO_COME))

    @staticmethod
    def error(fault, head):
        labels = document(*(element(2, str(at), text(label))
                            for at, label in enumerate(fault.labels)))
        reply = document(element(1, "ok", struct.pack("<d", 0)),
                         element(2, "errmsg", text("made by the fault proxy")),
                         element(16, "code", struct.pack("<i", fault.code)),
                         element(2, "codeName", text(fault.name)),
                         element(4, "errorLabels", labels))
        rest = struct.pack("<IB", 0, 0) + reply
        request = struct.unpack("<i", head[4:8])[0]
        return struct.pack("<iiii", len(rest) + 16, request + 1, request, OP_MSG) + rest


# ---- orders ----

class Proxy:
    def __init__(self, protocol, host, port, listen_port):
        self.kind = {"http": HttpConnection, "mongo": MongoConnection}[protocol]
        self.upstream, self.listen_port = (host, port), listen_port
        self.state = State()
        self.listener = self.acceptor = None

    def serve(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.kind(self.state, client, self.upstream).run,
                             daemon=True).start()

    # Each order is a method; its result goes back as JSON.

    def do_accept(self):
        if self.listener:
            return
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.listen_port))
        self.listener.listen(1024)
        self.acceptor = threading.Thread(target=self.serve, args=(self.listener,), daemon=True)
        self.acceptor.start()

    def do_refuse(self):
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the acceptor
            self.acceptor.join()
            self.listener.close()
            self.listener = None
        self.do_cut()

    def do_cut(self):
        """Returns when they are gone."""
        with self.state.lock:
            cut = set(self.state.connections)
        # A connection that was shut for writing ends in good order, not by a reset: so that is
        # only for those that wait for their client to read.
        for how, seconds in ((socket.SHUT_RD, 0.3), (socket.SHUT_RDWR, 5)):
            for each in cut:
                each.abort(how)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                cut = {each for each in cut if not each.over}
                if not cut:
                    return
                time.sleep(0.005)
        raise AssertionError(f"{len(cut)} connections could not be cut")

    def do_fault(self, kind, match, options):
        fault = Fault(kind, match, options)
        with self.state.lock:
            self.state.faults.append(fault)
            self.state.all_faults[fault.number] = fault
        return fault.number

    def do_hits(self, fault):
        return self.state.all_faults[fault].hits

    def do_clear(self, fault):
        with self.state.lock:
            self.state.faults = [each for each in self.state.faults
                                 if fault is not None and each.number != fault]

    def do_requests(self):
        with self.state.lock:
            return [dict(each) for each in self.state.requests]

    def do_forget(self):
        with self.state.lock:
            self.state.requests = []

    def do_connections(self):
        with self.state.lock:
            return len(self.state.connections)

    def obey(self):
        for line in sys.stdin:
            order = json.loads(line)
            try:
                result = getattr(self, "do_" + order.pop("operation"))(**order)
                answer = {"result": result}
            except Exception as error:  # told to the test, which fails with it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


def main():
    protocol, host, port, listen_port = sys.argv[1:]
    proxy = Proxy(protocol, host, int(port), int(listen_port))
    proxy.do_accept()
    print("ready", flush=True)
    proxy.obey()
    os._exit(0)  # with the test gone, held connections end too


if __name__ == "__main__":
    main()
