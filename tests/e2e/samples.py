"""Small real contents of known types, and names that are hard to carry."""

import base64
import hashlib
import itertools
import os
import random

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
MIB = 1024 * 1024
MAX_FILE_SIZE = 50 * MIB

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"
HTML = b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>\n"
SVG = (
    b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
    b"<script>alert(1)</script></svg>\n"
)
TEXT = b"plain words, nothing more\n" * 4

UNKNOWN_ID = "0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77"

_numbers = itertools.count(1)


def unique(stem="t"):
    """A name part nobody else uses in this run."""
    return f"{stem}-{os.getpid()}-{next(_numbers)}-{os.urandom(3).hex()}"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def sha256_digest(content):
    """RFC 9530's value for a content."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def md5_base64(content):
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def random_bytes(count, seed=None):
    if seed is None:
        return os.urandom(count)
    return random.Random(seed).randbytes(count)
