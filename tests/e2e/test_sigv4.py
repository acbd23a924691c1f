"""Signatures, byte for byte those of botocore: headers and presigned URLs.

tests/tools/sigv4_sign.c signs with shared/net/sigv4.c what is drawn here.
"""

import datetime
import hashlib
import os
import pathlib
import random
import subprocess
from unittest import mock
from urllib.parse import quote

import botocore.auth
import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SIGNER = pathlib.Path(
    os.environ.get("SIGV4_SIGN", REPOSITORY / "build" / "release" / "tests" / "tools" / "sigv4_sign")
)
COUNT = 500

# What keys, values and headers are made of. Control characters can't be sent.
PIECES = [
    "a", "Z", "0", "key", "photo", " ", "  ", "+", "%", "%20", "%2F", "~", "-", "_", ".", "..", "!",
    "'", "(", ")", "*", "$", "&", "=", ";", ":", "@", ",", "?", "#", "[", "]", "{", "}", "|", "\\",
    "^", "`", '"', "<", ">", "ä", "é", "e\u0301", "日本", "😀", "\u200e", "\u00a0", "ÿ",
]
SUBRESOURCES = ["uploads", "acl", "versions", "tagging", "policy", "lifecycle", "delete"]
# botocore does not sign these.
HEADERS = [
    "Content-Type", "content-md5", "Range", "If-Match", "X-AMZ-Meta-Name", "x-amz-meta-name2",
    "x-amz-Storage-Class", "Cache-Control", "Content-Disposition", "x-amz-copy-source", "Zeta",
    "x-amz-acl", "A-b.c_d", "DATE-2",
]
HOSTS = [
    "examplebucket.s3.amazonaws.com", "127.0.0.1:9000", "localhost:8333", "s3.eu-west-1.example.org",
    "storage.example:8443", "[::1]:9000",
]


def text(draw, most, pieces=PIECES):
    return "".join(draw.choice(pieces) for _ in range(draw.randint(0, most)))


def path(draw):
    parts = [text(draw, 5) for _ in range(draw.randint(0, 4))]
    return "/" + draw.choice(["/", "//"]).join(parts)


def parameters(draw):
    pairs = [(draw.choice(SUBRESOURCES), "") for _ in range(draw.randint(0, 1))]
    for _ in range(draw.randint(0, 5)):
        pairs.append((text(draw, 3) or "p", draw.choice(["", text(draw, 4)])))
    # A name again, with other values.
    for name, _ in draw.sample(pairs, draw.randint(0, len(pairs))):
        pairs.append((name, text(draw, 2)))
    return pairs


def headers(draw):
    """Values in ASCII, with spaces at the ends and within."""
    pieces = [piece for piece in PIECES if piece.isascii()] + [" ", "   "]
    names = draw.sample(HEADERS, draw.randint(0, 6))
    return [(name, text(draw, 6, pieces)) for name in names]


def encoded(pairs):
    """As they are signed and sent: in their order, encoded as AWS wants it."""
    sent = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(sent))


def credentials(draw):
    token = draw.choice(["", "", "FwoGZXIvYXdzE+token/with=odd+bytes=="])
    return Credentials(f"AKIA{draw.randint(0, 10**9)}", f"s/ecret+{draw.random()}", token or None)


def fixed(now):
    """botocore's clock at that time."""
    return mock.patch.object(botocore.auth, "get_current_datetime", return_value=now)


def now_ms(now):
    return int(now.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000)


def moment(draw):
    return datetime.datetime(2000, 1, 1) + datetime.timedelta(seconds=draw.randint(0, 2**30))


def fields_of(kind, keys, region, *rest, pairs=()):
    lines = [kind, keys.access_key, keys.secret_key, keys.token or "", region, *map(str, rest)]
    for some in pairs:
        lines.append(str(len(some)))
        for name, value in some:
            lines += [name, value]
    return "".join(line + "\0" for line in lines)


def signed(requests):
    """What the program answers to them, in their order."""
    done = subprocess.run(
        [SIGNER], input="".join(requests).encode(), stdout=subprocess.PIPE, check=True, timeout=60
    )
    answers = done.stdout.decode().split("\0")
    assert answers.pop() == "" and len(answers) == len(requests)
    return answers


class Drawn:
    """One request, for both signers."""

    def __init__(self, seed):
        draw = random.Random(seed)
        self.keys = credentials(draw)
        self.region = draw.choice(["us-east-1", "eu-central-1", "garage"])
        self.method = draw.choice(["GET", "PUT", "POST", "DELETE", "HEAD"])
        self.scheme = draw.choice(["http", "https"])
        self.host = draw.choice(HOSTS)
        self.path = path(draw)
        self.query = parameters(draw)
        self.headers = headers(draw)
        self.body = draw.randbytes(draw.randint(0, 100))
        self.unsigned = draw.random() < 0.3
        self.now = moment(draw)
        self.seconds = draw.randint(1, 604800)

    def payload(self):
        return "UNSIGNED-PAYLOAD" if self.unsigned else hashlib.sha256(self.body).hexdigest()

    def target(self):
        query = encoded(self.query)
        return quote(self.path, safe="/-_.~") + ("?" + query if query else "")

    def for_program(self, kind):
        return fields_of(
            kind, self.keys, self.region, self.method, self.scheme, self.host, self.path,
            self.payload(), now_ms(self.now), self.seconds, pairs=(self.query, self.headers),
        )

    def for_botocore(self):
        request = AWSRequest(
            method=self.method, url=f"{self.scheme}://{self.host}{self.target()}", data=self.body
        )
        for name, value in self.headers:
            request.headers.add_header(name, value)
        # botocore leaves out the port that is the scheme's; here, none is. It also forgets the
        # brackets of an IPv6 address, which RFC 9110 §7.2 wants.
        request.headers["host"] = self.host
        request.context["client_config"] = Config(s3={"payload_signing_enabled": not self.unsigned})
        return request


def test_headers_are_signed_as_by_botocore():
    drawn = [Drawn(f"headers {seed}") for seed in range(COUNT)]
    for one, answer in zip(drawn, signed([one.for_program("sign") for one in drawn])):
        request = one.for_botocore()
        with fixed(one.now):
            botocore.auth.S3SigV4Auth(one.keys, "s3", one.region).add_auth(request)
        target, _, lines = answer.partition("\n")
        ours = dict(line.split(": ", 1) for line in lines.split("\r\n") if line)
        assert target == one.target()
        theirs = {name.lower(): value for name, value in request.headers.items()}
        assert ours.pop("Authorization") == theirs["authorization"], one.__dict__
        for name in ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token"):
            assert ours.pop(name, None) == theirs.get(name)
        assert ours == dict(one.headers)


def test_urls_are_presigned_as_by_botocore():
    drawn = [Drawn(f"urls {seed}") for seed in range(COUNT)]
    for one in drawn:
        one.body = b""
        # botocore keeps one value of each name in a URL.
        one.query = sorted({name: value for name, value in one.query}.items(),
                           key=lambda pair: [quote(part, safe="-_.~") for part in pair])
    for one, answer in zip(drawn, signed([one.for_program("presign") for one in drawn])):
        request = one.for_botocore()
        auth = botocore.auth.S3SigV4QueryAuth(one.keys, "s3", one.region, expires=one.seconds)
        with fixed(one.now):
            auth.add_auth(request)
        assert answer == request.url, one.__dict__
