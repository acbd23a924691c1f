"""Who may do what: every call by every kind of caller, as one table, for AUTH_MODE=token; and what
keeps web pages out of AUTH_MODE=none."""

import http.client
import json
import time

import pytest

from exchanges import call
from problems import check_problem
from rawhttp import exchange, raw_request
from samples import unique
from service import Service, wait_for

pytestmark = pytest.mark.local("about who may do what, whatever the stores")

CALLERS = ("nobody", "foreign", "reader", "writer", "expired", "revoked", "wrong", "owner",
           "admin")

# One row a call, on a file of the owner "alice". The columns, in the order of CALLERS:
#   nobody   no Authorization at all          foreign  another owner's token, read and write
#   reader   the owner's, scope read only     writer   the owner's, scope write only
#   expired, revoked, wrong                   tokens that no longer, or never, were in force
#   owner    the owner's, read and write      admin    another owner's, scope admin
TABLE = """
                          nobody foreign reader writer expired revoked wrong owner admin
upload form               401    201     403    201    401     401     401   201   201
upload put                401    201     403    201    401     401     401   201   201
upload pipe               401    201     403    201    401     401     401   201   201
list                      401    200     200    403    401     401     401   200   200
list of owner             401    403     403    403    401     401     401   403   200
list of foreign           401    403     403    403    401     401     401   403   200
get private               401    404     200    403    401     401     401   200   200
head private              401    404     200    403    401     401     401   200   200
download private          401    404     200    403    401     401     401   200   200
meta private              401    404     200    403    401     401     401   200   200
get public                200    200     200    200    401     401     401   200   200
head public               200    200     200    200    401     401     401   200   200
download public           200    200     200    200    401     401     401   200   200
meta public               200    200     200    200    401     401     401   200   200
get unknown               401    404     404    403    401     401     401   404   404
patch private             401    404     403    200    401     401     401   200   200
patch public              401    404     403    200    401     401     401   200   200
patch unknown             401    404     403    404    401     401     401   404   404
delete private            401    404     403    200    401     401     401   200   200
delete public             401    404     403    200    401     401     401   200   200
delete unknown            401    404     403    404    401     401     401   404   404
batch delete private      401    200-    403    200    401     401     401   200   200
batch delete public       401    200-    403    200    401     401     401   200   200
live                      200    200     200    200    200     200     200   200   200
live api                  200    200     200    200    200     200     200   200   200
ready                     200    200     200    200    200     200     200   200   200
ready api                 200    200     200    200    200     200     200   200   200
health                    200    200     200    200    200     200     200   200   200
health api                200    200     200    200    200     200     200   200   200
metrics                   401    403     403    403    401     401     401   403   200
metrics api               401    403     403    403    401     401     401   403   200
options                   204    204     204    204    204     204     204   204   204
"""
# "200-": answered, and nothing was deleted.

UNKNOWN = "/api/files/0199c0de-7d1a-7c3e-9a55-5b1f6a1d2e77"
OPERATIONS = {"live": "/live", "live api": "/api/health/live", "ready": "/ready",
              "ready api": "/api/health/ready", "health": "/health", "health api": "/api/health",
              "metrics": "/metrics", "metrics api": "/api/metrics"}


def rows():
    lines = [line for line in TABLE.splitlines() if line.strip()]
    assert tuple(lines[0].split()) == CALLERS
    for line in lines[1:]:
        name, expected = line[:26].strip(), line[26:].split()
        assert len(expected) == len(CALLERS), line
        yield name, dict(zip(CALLERS, expected))


ROWS = dict(rows())


@pytest.fixture(scope="module")
def guarded():
    """Tokens, and metrics for nobody's address."""
    running = Service(AUTH_MODE="token", METRICS_ALLOW="203.0.113.7")
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture(scope="module")
def tokens(guarded):
    """The token text of each caller; None without one."""
    made = {
        "nobody": None,
        "foreign": guarded.token("bob"),
        "reader": guarded.token("alice", "read"),
        "writer": guarded.token("alice", "write"),
        "expired": guarded.token("alice", expires="1s"),
        "revoked": guarded.token("alice"),
        "owner": guarded.token("alice"),
        "admin": guarded.token("root", "admin"),
    }
    made["wrong"] = flip(made["owner"])
    guarded.coffer("token", "revoke", token_id(guarded, made["revoked"]))
    wait_for(lambda: guarded.get("/api/files", token=made["expired"]).status_code == 401,
             "the token expires", 5)
    return made


def flip(token):
    """The token with another last character."""
    return token[:-1] + ("A" if token[-1] != "A" else "B")


def token_id(service, token):
    """The public part, by which the admin command knows it: the one listed id the text holds."""
    listed = service.coffer("token", "list").stdout
    found = {word for line in listed.splitlines() for word in line.split()[:1]
             if token.startswith(f"coffer_{word}_")}
    assert len(found) == 1, listed
    return found.pop()


def send(service, tokens, caller, name):
    """Sends the row's call; the answer and the id of the file it was about."""
    headers = {"Authorization": f"Bearer {tokens[caller]}"} if tokens[caller] else {}
    kind = name.split()[0]
    file_id = None
    if name.endswith(("private", "public")):
        visibility = name.split()[-1]
        file_id = service.create(b"content", unique(), token=tokens["owner"],
                                 visibility=visibility)["id"]
    path = f"/api/files/{file_id}" if file_id else UNKNOWN
    method, body = "GET", None
    if kind == "upload":
        way = name.split()[1]
        if way == "form":
            return service.upload(b"content", unique(), headers=headers), None
        method, body = "PUT", b"content"
        path = f"/api/files/{'pipe' if way == 'pipe' else 'upload'}/{unique()}"
    elif kind == "list":
        owner = {"list": "", "list of owner": "?owner=alice", "list of foreign": "?owner=bob"}[name]
        path = "/api/files" + owner
    elif kind in ("head", "delete"):
        method = kind.upper()
    elif kind in ("download", "meta"):
        path += "/" + kind
    elif kind == "patch":
        method, body = "PATCH", json.dumps({"metadata": {"a": "b"}})
        headers["Content-Type"] = "application/merge-patch+json"
    elif kind == "batch":
        method, path, body = "POST", "/api/files/delete", json.dumps({"ids": [file_id]})
        headers["Content-Type"] = "application/json"
    elif kind == "options":
        method, path = "OPTIONS", "/api/files"
    elif name in OPERATIONS:
        path = OPERATIONS[name]
    return service.request(method, path, headers=headers, data=body), file_id


def exists(service, tokens, file_id):
    return service.get(f"/api/files/{file_id}/meta", token=tokens["owner"]).status_code == 200


@pytest.mark.smoke
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", ROWS)
def test_access(guarded, tokens, name, caller):
    expected = ROWS[name][caller]
    status = int(expected.rstrip("-"))
    answer, file_id = send(guarded, tokens, caller, name)
    assert answer.status_code == status, f"{answer.status_code}, not {status}: {answer.text}"
    if status >= 400 and not name.startswith("head"):
        check_problem(answer, status, {401: "unauthorized", 403: "forbidden",
                                       404: "not_found"}[status])
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    if "delete" in name and file_id:
        done = answer.status_code == 200 and not expected.endswith("-")
        assert exists(guarded, tokens, file_id) == (not done)
        if "batch" in name and status == 200:
            assert answer.json()["results"][0]["deleted"] == done
    if status in (401, 403, 404) and tokens[caller]:
        assert tokens[caller] not in answer.text


@pytest.mark.smoke
def test_another_owners_file_looks_like_none(guarded, tokens):
    """404 word by word the same as for an id that nobody has."""
    made = guarded.create(b"secret", unique(), token=tokens["owner"])
    for suffix in ("", "/meta", "/download"):
        answers = []
        for path in (f"/api/files/{made['id']}{suffix}", UNKNOWN + suffix):
            problem = check_problem(guarded.get(path, token=tokens["foreign"]), 404, "not_found")
            answers.append({k: v for k, v in problem.items()
                            if k not in ("traceId", "requestId", "ts", "path")})
        assert answers[0] == answers[1]
    batch = guarded.post("/api/files/delete", token=tokens["foreign"],
                         json={"ids": [made["id"], UNKNOWN.rsplit("/", 1)[1]]}).json()["results"]
    assert {k: v for k, v in batch[0].items() if k != "id"} == \
        {k: v for k, v in batch[1].items() if k != "id"}


@pytest.mark.smoke
def test_lists_show_own_files_only(guarded, tokens):
    name = unique("mine")
    guarded.create(b"a", name + "-private", token=tokens["owner"])
    guarded.create(b"b", name + "-public", token=tokens["owner"], visibility="public")
    seen = {}
    for caller in ("foreign", "reader", "owner", "admin"):
        page = guarded.get(f"/api/files?prefix={name}", token=tokens[caller]).json()
        seen[caller] = (page["total"], len(page["files"]))
    assert seen == {"foreign": (0, 0), "reader": (2, 2), "owner": (2, 2), "admin": (2, 2)}


def test_what_is_uploaded_belongs_to_the_token(guarded, tokens):
    for caller, owner in (("foreign", "bob"), ("writer", "alice"), ("owner", "alice"),
                          ("admin", "root")):
        assert guarded.create(b"x", unique(), token=tokens[caller])["owner"] == owner


@pytest.mark.smoke
def test_expiry_and_revocation_hold_at_once(guarded):
    token = guarded.token("carol")
    assert guarded.get("/api/files", token=token).status_code == 200
    guarded.coffer("token", "revoke", token_id(guarded, token))
    assert guarded.get("/api/files", token=token).status_code == 401
    short = guarded.token("carol", expires="2s")
    assert guarded.get("/api/files", token=short).status_code == 200
    started = time.monotonic()
    wait_for(lambda: guarded.get("/api/files", token=short).status_code == 401, "expiry", 5)
    assert time.monotonic() - started < 3.5


# ---- rows 61, 62 ----

@pytest.mark.parametrize("kind", ["empty", "scheme only", "basic", "no scheme", "two", "long",
                                  "prefix", "one less", "one more", "upper", "nonsense", "quoted"])
def test_row_61_bad_tokens(guarded, tokens, kind):
    token = tokens["owner"]
    value = {"empty": "", "scheme only": "Bearer", "basic": "Basic YWxpY2U6eA==",
             "no scheme": token, "two": f"Bearer {token}, Bearer {token}",
             "long": "Bearer " + "a" * 7000, "prefix": "Bearer " + token[:len(token) // 2],
             "one less": "Bearer " + token[:-1], "one more": f"Bearer {token}A",
             "upper": f"Bearer {token.upper()}", "nonsense": "Bearer \xff\xfe",
             "quoted": f'Bearer "{token}"'}[kind]
    response = exchange(guarded, raw_request("GET", "/api/files", [("Authorization", value)]))
    assert response.status == 401
    assert response.header("www-authenticate").startswith("Bearer")
    assert json.loads(response.body)["code"] == "unauthorized"


def test_row_61_nul_inside_a_token(guarded, tokens):
    value = f"Bearer {tokens['owner']}".encode() + b"\0x"
    assert exchange(guarded, raw_request("GET", "/api/files",
                                         [("Authorization", value)])).status in (400, 401)


def test_row_61_every_character_counts(guarded, tokens):
    token = tokens["owner"]
    for at in range(len(token)):
        other = token[:at] + ("x" if token[at] != "x" else "y") + token[at + 1:]
        assert call(guarded.port, "GET", "/api/files",
                    headers={"Authorization": f"Bearer {other}"}).status == 401, at


def test_row_61_scheme_is_case_insensitive(guarded, tokens):
    for scheme in ("bearer", "BEARER", "Bearer"):
        assert call(guarded.port, "GET", "/api/files",
                    headers={"Authorization": f"{scheme} {tokens['owner']}"}).status == 200


def test_row_62_scope_is_named(guarded, tokens):
    problem = check_problem(guarded.put("/api/files/upload/a", token=tokens["reader"], data=b"x"),
                            403, "forbidden")
    assert "write" in problem["detail"]


def test_no_token_in_the_log(guarded, tokens):
    guarded.settle_log()
    text = guarded.log_file.read_text() + guarded.output()
    for caller, token in tokens.items():
        assert not token or token not in text, caller


# ---- AUTH_MODE=none ----

@pytest.mark.parametrize("host, allowed", [
    ("127.0.0.1", True), ("127.0.0.1:{port}", True), ("localhost", True),
    ("localhost:{port}", True), ("LOCALHOST", True), ("[::1]:{port}", True), ("127.1.2.3", True),
    ("evil.example", False),
    ("evil.example:{port}", False), ("127.0.0.1.evil.example", False), ("localhost.evil", False),
    ("10.0.0.1", False), ("0.0.0.0", False), ("xlocalhost", False), ("[::2]", False),
])
def test_host_must_be_loopback(service, host, allowed):
    host = host.format(port=service.port)
    for method, path in (("GET", "/api/files"), ("GET", "/live"), ("HEAD", "/api/files"),
                         ("PUT", "/api/files/upload/a"), ("OPTIONS", "/api/files")):
        answer = exchange(service, raw_request(method, path, host=host), method)
        if allowed:
            assert answer.status < 300, f"{method} {path}: {answer}"
        elif path == "/live":
            # A probe touches nothing; it may answer to any name.
            assert answer.status in (200, 403)
        else:
            assert answer.status == 403, f"{method} {path}: {answer}"


def test_allowed_hosts(start_service):
    service = start_service(ALLOWED_HOSTS="files.example,other.example:8080")
    for host, status in (("files.example", 200), ("files.example:5921", 200),
                         ("FILES.example", 200), ("other.example:8080", 200),
                         ("other.example:9", 403), ("x.files.example", 403), ("127.0.0.1", 200)):
        assert exchange(service, raw_request("GET", "/api/files", host=host)).status == status, host


FOREIGN = [("Origin", "https://evil.example"), ("Origin", "null"), ("Origin", "http://127.0.0.1:1"),
           ("Origin", "http://localhost.evil"), ("Sec-Fetch-Site", "cross-site")]


@pytest.mark.parametrize("header", FOREIGN)
def test_changes_by_pages_of_others_are_refused(service, header):
    made = service.create()
    path = f"/api/files/{made['id']}"
    for method, target in (("POST", "/api/files/upload"), ("PUT", "/api/files/upload/a"),
                           ("PUT", "/api/files/pipe/a"), ("PATCH", path), ("DELETE", path),
                           ("POST", "/api/files/delete")):
        answer = exchange(service, raw_request(method, target, [header], b"{}"), method)
        assert answer.status == 403, f"{method} {target}: {answer}"
        assert json.loads(answer.body)["code"] == "forbidden"
    assert exchange(service, raw_request("GET", path, [header])).status == 200


def test_changes_by_own_pages_are_taken(service):
    own = f"http://127.0.0.1:{service.port}"
    host = f"127.0.0.1:{service.port}"
    for headers in ([("Origin", own)], [("Origin", own), ("Sec-Fetch-Site", "same-origin")],
                    [("Sec-Fetch-Site", "none")], [("Sec-Fetch-Site", "same-site")], []):
        request = raw_request("PUT", f"/api/files/upload/{unique()}", headers, b"x", host)
        assert exchange(service, request).status == 201, headers


def test_listed_origins_may_change(start_service):
    service = start_service(ALLOWED_ORIGINS="https://app.example")
    for origin, status in (("https://app.example", 201), ("https://evil.example", 403)):
        request = raw_request("PUT", "/api/files/upload/a", [("Origin", origin)], b"x")
        assert exchange(service, request).status == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_refuses_to_listen_beyond_loopback_without_login(host):
    service = Service(GATEWAY_HOST=host, AUTH_MODE="none")
    service.expect_unclean = True
    try:
        service.launch()
        wait_for(lambda: service.process.poll() is not None, "refused")
        assert service.process.returncode > 0
        assert "ALLOW_ANONYMOUS" in service.output()
    finally:
        service.close()


@pytest.mark.parametrize("env", [{"AUTH_MODE": "none", "ALLOW_ANONYMOUS": "1"},
                                 {"AUTH_MODE": "token"}])
def test_listens_beyond_loopback_when_told(env):
    service = Service(GATEWAY_HOST="0.0.0.0", **env)
    try:
        service.start()
        assert service.get("/live").status_code == 200
    finally:
        service.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_listens_on_every_loopback_address(host):
    service = Service(GATEWAY_HOST=host, AUTH_MODE="none")
    try:
        service.launch()
        target = {"localhost": "127.0.0.1"}.get(host, host)
        wait_for(lambda: answers(target, service.port), f"{host} answers")
    finally:
        service.close()


def answers(host, port):
    wire = http.client.HTTPConnection(host, port, timeout=5)
    try:
        wire.request("GET", "/ready")
        return wire.getresponse().status == 200
    except OSError:
        return False
    finally:
        wire.close()
