"""A FastCGI client, just enough to speak to one program without a gateway in between.

The specification: https://fastcgi-archives.github.io/FastCGI_Specification.html
"""

import socket
import struct
from dataclasses import dataclass

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
RESPONDER = 1


@dataclass
class Answer:
    """What came back: complete only when the program sent END_REQUEST."""

    complete: bool
    stdout: bytes

    @property
    def status(self):
        head = self.stdout.split(b"\r\n\r\n", 1)[0]
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"status:"):
                return int(line.split(b":", 1)[1].split()[0])
        return 200

    @property
    def body(self):
        return self.stdout.split(b"\r\n\r\n", 1)[1]


def record(kind, content=b"", request_id=1, version=1, length=None):
    """One record; `length` and `version` may lie."""
    size = len(content) if length is None else length
    return struct.pack(">BBHHBB", version, kind, request_id, size, 0, 0) + content


def begin(role=RESPONDER, flags=0):
    return record(BEGIN_REQUEST, struct.pack(">HB5x", role, flags))


def encode_length(size):
    return struct.pack(">B", size) if size < 128 else struct.pack(">I", size | 0x80000000)


def encode_pair(name, value):
    return encode_length(len(name)) + encode_length(len(value)) + name + value


def params(variables):
    text = b"".join(encode_pair(k.encode(), v.encode()) for k, v in variables.items())
    return record(PARAMS, text) + record(PARAMS)


def variables(method, path, query="", **more):
    """The CGI variables the gateway would send."""
    uri = path + ("?" + query if query else "")
    return {"REQUEST_METHOD": method, "REQUEST_URI": uri, "SCRIPT_NAME": path, "PATH_INFO": "",
            "QUERY_STRING": query, "SERVER_PROTOCOL": "HTTP/1.1", "GATEWAY_INTERFACE": "CGI/1.1",
            "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1", "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "5921", "REDIRECT_STATUS": "200", **more}


def connect(path, timeout=10):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(path)
    return sock


def send_request(sock, env, body=b""):
    """Sends a whole request."""
    sock.sendall(begin() + params(env) + send_body(body))


def send_body(body, last=True):
    pieces = [record(STDIN, body[at:at + 65528]) for at in range(0, len(body), 65528)]
    return b"".join(pieces) + (record(STDIN) if last else b"")


def read_answer(sock):
    """Reads records until END_REQUEST or the connection's end."""
    stdout = bytearray()
    while True:
        header = read_exactly(sock, 8)
        if header is None:
            return Answer(False, bytes(stdout))
        _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", header)
        content = read_exactly(sock, length + padding)
        if content is None:
            return Answer(False, bytes(stdout))
        if kind == STDOUT:
            stdout += content[:length]
        elif kind == END_REQUEST:
            return Answer(True, bytes(stdout))


def read_exactly(sock, size):
    data = bytearray()
    while len(data) < size:
        try:
            piece = sock.recv(size - len(data))
        except ConnectionResetError:
            return None
        if not piece:
            return None
        data += piece
    return bytes(data)
