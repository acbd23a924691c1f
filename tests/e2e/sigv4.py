"""S3 requests signed with Signature Version 4, with nothing but the standard library: what starts
a store, makes a bucket, or sends a store what no client library would."""

import hashlib
import hmac
import http.client
import time
import urllib.parse

# A request that a store answers late, not never: generous, as the machine may be busy.
TIMEOUT = 30  # seconds


def hmac_sha256(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def sign(method, host, path, query, headers, payload_hash, *, access_key, secret_key,
         region="us-east-1", when=None):
    """The headers to send: those given (lower-case names), and those that sign them. `path` is
    escaped already; `query` is a dictionary."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(when))
    headers = {**headers, "host": host, "x-amz-date": stamp, "x-amz-content-sha256": payload_hash}
    names = sorted(headers)
    canonical_query = "&".join(
        f"{urllib.parse.quote(name, safe='-_.~')}={urllib.parse.quote(str(value), safe='-_.~')}"
        for name, value in sorted(query.items()))
    canonical = "\n".join([
        method, path, canonical_query,
        "".join(f"{name}:{str(headers[name]).strip()}\n" for name in names),
        ";".join(names), payload_hash])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                         hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac_sha256(key, part)
    signature = hmac_sha256(key, to_sign).hex()
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, "
                                f"SignedHeaders={';'.join(names)}, Signature={signature}")
    return headers


def request(endpoint, method, path, *, access_key, secret_key, query=None, body=b"", headers=None,
            region="us-east-1", payload_hash=None, when=None):
    """(status, headers with lower-case names, body) of one signed request. `payload_hash` replaces
    the hash of the body, `when` the time (seconds since 1970), for tests that lie."""
    url = urllib.parse.urlsplit(endpoint)
    path = url.path.rstrip("/") + urllib.parse.quote(path, safe="/-_.~")
    query = query or {}
    payload_hash = payload_hash or hashlib.sha256(body).hexdigest()
    signed = sign(method, url.netloc, path, query, headers or {}, payload_hash,
                  access_key=access_key, secret_key=secret_key, region=region, when=when)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=TIMEOUT)
    try:
        target = path
        if query:
            target += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        connection.request(method, target, body, signed)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
    finally:
        connection.close()
