"""HTTP as bytes on a socket: exactly what is given is sent, exactly what comes is read."""

import socket
import struct
from dataclasses import dataclass, field


@dataclass
class RawResponse:
    status: int = 0                 # 0: the connection ended without an answer
    version: str = ""
    headers: list = field(default_factory=list)  # (lower-case name, value) in their order
    body: bytes = b""
    closed: bool = False            # the server closed after (or instead of) the answer
    complete: bool = False          # the body is as long as the answer promised

    def header(self, name, default=None):
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} given {len(values)} times"
        return values[0] if values else default


class RawConnection:
    """One TCP connection; a context manager. Reads end after `timeout` seconds of silence. With a
    small `receive_buffer` and `segment`, the kernel keeps little of what a client does not read."""

    def __init__(self, service, timeout=30.0, receive_buffer=None, segment=None):
        self.socket = socket.socket()
        if segment:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", service.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, *pieces):
        """Each piece is a write, so a packet, of its own."""
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def send_as_taken(self, content):
        """Sends what the server takes; False when it closed or reset before the end."""
        try:
            self.socket.sendall(content)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        """Closes with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def _more(self):
        """Adds what comes to `pending`; False at the end of the connection."""
        try:
            chunk = self.socket.recv(65536)
        except ConnectionResetError:
            chunk = b""
        self.pending += chunk
        return bool(chunk)

    def _take(self, count, skip=0):
        """The first `count` bytes of what is pending; those and `skip` more are pending no longer."""
        found = bytes(self.pending[:count])
        del self.pending[:count + skip]
        return found

    def _until(self, mark):
        while (at := self.pending.find(mark)) < 0:
            if not self._more():
                return None
        return self._take(at, len(mark))

    def _exactly(self, count):
        while len(self.pending) < count:
            if not self._more():
                break
        return self._take(count)

    def read(self, method="GET", skip_interim=True):
        """The next answer. `method` says whether it has a body."""
        response = RawResponse()
        head = self._until(b"\r\n\r\n")
        if head is None:
            response.closed = True
            return response
        lines = head.decode("latin-1").split("\r\n")
        response.version, status, *_ = lines[0].split(" ", 2)
        response.status = int(status)
        for line in lines[1:]:
            name, _, value = line.partition(":")
            response.headers.append((name.lower(), value.strip()))
        if skip_interim and 100 <= response.status < 200:
            return self.read(method, skip_interim)
        self._body(response, method)
        return response

    def _body(self, response, method):
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            response.complete = True
        elif response.header("transfer-encoding") == "chunked":
            self._chunks(response)
        elif (length := response.header("content-length")) is not None:
            response.body = self._exactly(int(length))
            response.complete = len(response.body) == int(length)
        else:
            while self._more():
                pass
            response.body = self._take(len(self.pending))
            response.complete = response.closed = True
        if response.header("connection") == "close" or not response.complete:
            response.closed = self.ended()

    def _chunks(self, response):
        while (line := self._until(b"\r\n")) is not None:
            size = int(line.split(b";")[0], 16)
            chunk = self._exactly(size + 2)
            response.body += chunk[:size]
            if len(chunk) < size + 2:
                return
            if size == 0:
                response.complete = True
                return

    def ended(self):
        """Waits until the server closes; False when it stays open for the timeout."""
        try:
            while self._more():
                pass
            return True
        except TimeoutError:
            return False


def raw_request(method, target, headers=(), body=b"", host="127.0.0.1", length=True):
    """The bytes of a request. `headers`: (name, value) pairs, text (latin-1) or bytes."""

    def to_bytes(value):
        return value if isinstance(value, bytes) else str(value).encode("latin-1")

    lines = [to_bytes(method) + b" " + to_bytes(target) + b" HTTP/1.1"]
    if host is not None:
        lines.append(b"Host: " + to_bytes(host))
    lines += [to_bytes(name) + b": " + to_bytes(value) for name, value in headers]
    names = {to_bytes(name).lower() for name, _ in headers}
    has_body = body or method in ("POST", "PUT", "PATCH")
    if length and has_body and not names & {b"content-length", b"transfer-encoding"}:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def exchange(service, request, method="GET", timeout=30.0, pieces=None):
    """One request on a connection of its own, in `pieces` when given, and its answer."""
    with RawConnection(service, timeout) as connection:
        for piece in pieces or [request]:
            if not connection.send_as_taken(piece):
                break
        return connection.read(method)
