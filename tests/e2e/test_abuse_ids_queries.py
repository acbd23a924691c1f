"""Bad ids, queries, bodies, keys and tokens, one test a row of the abuse table (rows 54–62)."""

import base64
import statistics
import time

import pytest

from problems import check_problem
from rawhttp import RawConnection, exchange, raw_request
from samples import TEXT, UNKNOWN_ID, unique
from service import wait_for

pytestmark = pytest.mark.local("about what is refused, and to whom, before a store is asked")


BAD_IDS = [
    "x", "0", "123", UNKNOWN_ID.upper(), UNKNOWN_ID[:-1], UNKNOWN_ID + "0",
    UNKNOWN_ID.replace("-", ""), UNKNOWN_ID.replace("-7c3e", "-4c3e"),
    UNKNOWN_ID.replace("-9a55", "-1a55"), UNKNOWN_ID.replace("a", "g"), "{" + UNKNOWN_ID + "}",
    UNKNOWN_ID + "%00", "%20" + UNKNOWN_ID, UNKNOWN_ID + "%20", UNKNOWN_ID + "%0a", "..", "*",
    "%27%20OR%201%3D1--", "x" * 3000, UNKNOWN_ID.replace("-", "_"), "null", "-1",
    UNKNOWN_ID + ";x=1", "%ff", "%80", "%e4", "%c3%28", "%ed%a0%80", "%c0%ae", "%00", "%7f", "%zz",
    UNKNOWN_ID + "%ff",
]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize(
    ("method", "suffix"),
    [("GET", ""), ("HEAD", ""), ("GET", "/meta"), ("GET", "/download"), ("PATCH", ""),
     ("DELETE", "")],
)
def test_row_54_ids_that_are_none(service, bad, method, suffix):
    headers = [("Content-Type", "application/json")] if method == "PATCH" else []
    body = b"{}" if method == "PATCH" else b""
    request = raw_request(method, f"/api/files/{bad}{suffix}", headers, body)
    response = exchange(service, request, method)
    if bad == "..":
        assert response.status in (400, 404, 405)
    else:
        assert response.status == 400
        assert method == "HEAD" or b'"bad_id"' in response.body


def test_row_54_bad_ids_do_not_touch_the_database(start_service):
    service = start_service()

    def gets():
        return service.metric("metadata_operations_total", operation="file_get")

    service.get(f"/api/files/{UNKNOWN_ID}")
    before = gets()
    assert before >= 1, "the metric this test reads does not count"
    for bad in ("x", UNKNOWN_ID.upper(), UNKNOWN_ID[:-1]):
        check_problem(service.get(f"/api/files/{bad}"), 400, "bad_id")
    assert gets() == before


def comparable(response):
    problem = response.json()
    for own in ("traceId", "requestId", "ts", "path"):
        problem.pop(own)
    kept = {
        name: value for name, value in response.headers.items()
        if name.lower() not in ("date", "x-request-id", "traceparent", "content-length")
    }
    return problem, kept


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("method", "suffix"),
    [("GET", ""), ("GET", "/meta"), ("GET", "/download"), ("PATCH", ""), ("DELETE", "")],
)
def test_row_55_unknown_and_foreign_ids_look_the_same(token_service, method, suffix):
    owner, other = (token_service.token(unique("row55")) for _ in range(2))
    foreign = token_service.create(TEXT, token=owner)["id"]
    options = {"json": {}} if method == "PATCH" else {}
    answers = {}
    times = {foreign: [], UNKNOWN_ID: []}
    for _ in range(30):
        for each in (foreign, UNKNOWN_ID):
            started = time.monotonic()
            answers[each] = token_service.request(
                method, f"/api/files/{each}{suffix}", token=other, **options
            )
            times[each].append(time.monotonic() - started)
    for answer in answers.values():
        check_problem(answer, 404, "not_found")
    assert comparable(answers[foreign]) == comparable(answers[UNKNOWN_ID])
    medians = [statistics.median(each) for each in times.values()]
    assert max(medians) < 10 * min(medians) + 0.05
    assert token_service.get(f"/api/files/{foreign}", token=owner).content == TEXT


@pytest.mark.parametrize(
    "value", ["-1", "0", "1000000000", "1001", "abc", "5x", "9223372036854775808", "", "%2B5",
              "1.5", "%205", "0x10", "1e2", "18446744073709551617", "5%00", "٣"]
)
def test_row_56_limits(service, value):
    response = exchange(service, raw_request("GET", f"/api/files?limit={value}".encode()))
    assert response.status == 400
    assert b"bad_parameter" in response.body or "%00" in value


def test_row_56_limit_given_twice(service):
    check_problem(service.get("/api/files?limit=1&limit=1"), 400, "bad_parameter")


@pytest.mark.parametrize("value", ["-1", "10001", "9223372036854775808", "x", "", "1x", "%2B1"])
def test_row_57_offsets(service, value):
    check_problem(service.get(f"/api/files?offset={value}"), 400, "bad_parameter")


@pytest.fixture(scope="module")
def cursor(token_service):
    """(token, query, cursor) of a list with more pages."""
    token = token_service.token(unique("row57"))
    for number in range(5):
        token_service.create(b"x" * number, f"c{number}", token=token)
    query = {"limit": "2", "sort": "name"}
    page = token_service.get("/api/files", token=token, params=query).json()
    return token, query, page["nextCursor"]


def test_row_57_cursor_changed_in_every_character(token_service, cursor):
    token, query, value = cursor
    for at in range(len(value)):
        changed = value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1:]
        answer = token_service.get("/api/files", token=token, params={**query, "cursor": changed})
        check_problem(answer, 400, "bad_cursor")


def test_row_57_cursor_cut_anywhere(token_service, cursor):
    token, query, value = cursor
    for length in range(len(value)):
        cut = {**query, "cursor": value[:length]}
        answer = token_service.get("/api/files", token=token, params=cut)
        check_problem(answer, 400, "bad_cursor")


@pytest.mark.parametrize(
    "garbage", ["x", "....", "A" * 200, "e30", base64.urlsafe_b64encode(b'{"id":""}').decode(),
                "%00", "日本", "' OR 1=1", "A" * 5000]
)
def test_row_57_garbage_cursors(token_service, cursor, garbage):
    token, query, _ = cursor
    answer = token_service.get("/api/files", token=token, params={**query, "cursor": garbage})
    check_problem(answer, 400, "bad_cursor")


@pytest.mark.parametrize(
    "change", [{"sort": "size"}, {"sort": "createdAt"}, {"prefix": "c"}, {"mimeType": "text/plain"}]
)
def test_row_57_cursor_of_another_query(token_service, cursor, change):
    token, query, value = cursor
    answer = token_service.get(
        "/api/files", token=token, params={**query, **change, "cursor": value}
    )
    check_problem(answer, 400, "bad_cursor")


@pytest.mark.smoke
def test_row_57_cursor_of_another_owner_and_installation(token_service, service, cursor):
    _, query, value = cursor
    other = token_service.token(unique("row57"))
    answer = token_service.get("/api/files", token=other, params={**query, "cursor": value})
    check_problem(answer, 400, "bad_cursor")
    check_problem(service.get("/api/files", params={**query, "cursor": value}), 400, "bad_cursor")


@pytest.mark.parametrize(
    "query", ["sort=owner", "sort=", "sort=CREATEDAT", "sort=-name", "sort=name,size",
              "sort=name;drop", "fields=id", "unknown=1", "Limit=5", "=5", "a", "limit",
              "limit=5&%00=1", "prefix=%zz", "prefix=%ff", "prefix=%00", "prefix=%ed%a0%80",
              "prefix=%", "&".join(f"p{n}=1" for n in range(100)), "prefix=" + "x" * 300]
)
def test_row_59_query_parameters_off_the_list(service, query):
    response = exchange(service, raw_request("GET", f"/api/files?{query}"))
    assert response.status == 400
    by_gateway = any(escape in query for escape in ("%00", "%ff"))
    assert b"bad_parameter" in response.body or by_gateway


BAD_JSON = [
    b"", b" ", b"{", b"}", b'{"originalName":"a",}', b"{'originalName':'a'}",
    b'{"originalName":"a"} x', b'{"originalName":"a"}{}', b"\xef\xbb\xbf{}",
    b'{"originalName":"a","originalName":"b"}', b'{"metadata":{"a":"1","a":"2"}}',
    b'{"originalName":"\xff"}', b'{"originalName":"\xc0\xae"}', b'{"originalName":"\\ud800"}',
    b'{"originalName":"a\nb"}', b'{"originalName":"a\\u0000b"}', b'{"originalName":"a\0b"}',
    b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"metadata":' * 5000 + b"{}" + b"}" * 5000,
    b'{"originalName":nan}', b'{"originalName":01}', b'{"originalName":tru}', b"/*x*/{}",
    b'{"originalName":"unterminated', b'{"a' + b"a" * 70_000 + b'":1}',
]


@pytest.mark.parametrize("body", BAD_JSON, ids=range(len(BAD_JSON)))
def test_row_59_bad_json(service, body):
    file = service.create(TEXT)
    for method, path in (("PATCH", f"/api/files/{file['id']}"), ("POST", "/api/files/delete")):
        response = exchange(
            service, raw_request(method, path, [("Content-Type", "application/json")], body)
        )
        assert response.status in (400, 413), (method, response)
        assert b'"code":"' in response.body
    assert service.get(f"/api/files/{file['id']}/meta").json() == file


@pytest.mark.parametrize(
    ("key", "status"),
    [("k" * 1_000_000, 431), ("k" * 9000, 431), ("k" * 256, 400), ("k\x7f", 400), ("é", 400),
     ("a\x02", 400)],
)
def test_row_60_bad_idempotency_keys(service, key, status):
    request = raw_request("PUT", "/api/files/upload/row60", [("Idempotency-Key", key)], TEXT)
    assert exchange(service, request).status in ((status,) if status != 431 else (431, 400))


def test_row_60_key_used_for_another_body(service):
    headers = {"Idempotency-Key": unique("row60")}
    assert service.put("/api/files/upload/row60", data=b"1", headers=headers).status_code == 201
    other = service.put("/api/files/upload/row60", data=b"2", headers=headers)
    check_problem(other, 422, "idempotency_mismatch")


def test_row_60_key_still_running(service):
    """The first request has sent half its body; the second with its key meets a 409."""
    key = unique("row60")
    request = raw_request(
        "PUT", f"/api/files/upload/{key}", [("Idempotency-Key", key)], b"12345678"
    )
    with RawConnection(service) as first:
        first.send(request[:-4])
        service.wait_in_flight()
        second = exchange(service, request)
        assert second.status == 409 and b'"conflict"' in second.body
        first.send(request[-4:])
        answer = first.read("PUT")
    assert answer.status == 201
    again = exchange(service, request)
    assert again.status == 201 and again.body == answer.body
    assert service.get("/api/files", params={"prefix": key}).json()["total"] == 1


@pytest.fixture(scope="module")
def good_token(token_service):
    return token_service.token(unique("row61"))


def bad_tokens(good):
    flipped = ["A" if c != "A" else "B" for c in good]
    yield from (good[:at] + flipped[at] + good[at + 1:] for at in range(0, len(good), 3))
    yield good[:-1]
    yield good + "A"
    yield good[:-1] + flipped[-1]
    yield "_".join(good.split("_")[:2]) + "_"
    yield "_".join([*good.split("_")[:2], "a" * len(good.split("_", 2)[2])])
    yield from ("", " ", "x", "null", "Bearer " + good, "a" * 7000, good + " " + good, good + ",")


@pytest.mark.parametrize("path", ["/api/files", f"/api/files/{UNKNOWN_ID}/meta"])
def test_row_61_bad_tokens(token_service, good_token, path):
    for token in bad_tokens(good_token):
        request = raw_request("GET", path, [("Authorization", f"Bearer {token}")])
        response = exchange(token_service, request)
        assert response.status == 401, token
        assert b'"unauthorized"' in response.body
        assert response.header("www-authenticate").startswith("Bearer")
        assert good_token.encode() not in response.body


@pytest.mark.parametrize(
    "value", [b"", b"Basic dXNlcjpwYXNz", b"Bearer", b"{good}", b"Token {good}", b"Bearer{good}",
              b"Bearer \xff", b"Bearer {good}\x01"]
)
def test_row_61_malformed_authorization(token_service, good_token, value):
    value = value.replace(b"{good}", good_token.encode())
    response = exchange(token_service, raw_request("GET", "/api/files", [("Authorization", value)]))
    assert response.status in (401, 400)
    assert response.status == 401 or b"\x01" in value


def test_row_61_nul_inside_a_token(token_service, good_token):
    value = b"Bearer " + good_token[:10].encode() + b"\0" + good_token[10:].encode()
    request = raw_request("GET", "/api/files", [("Authorization", value)])
    assert exchange(token_service, request).status in (400, 401)


def test_row_61_missing_token_and_other_places_for_it(token_service, good_token):
    for path in ("/api/files", f"/api/files?access_token={good_token}",
                 f"/api/files?token={good_token}"):
        answer = token_service.get(path, headers={"Cookie": f"token={good_token}"})
        assert answer.status_code in (401, 400)
        check_problem(token_service.get("/api/files"), 401, "unauthorized")
    two = [("Authorization", f"Bearer {good_token}")] * 2
    assert exchange(token_service, raw_request("GET", "/api/files", two)).status in (400, 401)


def test_row_61_a_bad_token_is_worse_than_none(token_service, good_token):
    """Public files are for everybody, but a token that is given must be good."""
    file = token_service.create(TEXT, token=good_token, visibility="public")
    path = f"/api/files/{file['id']}"
    assert token_service.get(path).content == TEXT
    check_problem(token_service.get(path, token=good_token[:-1] + "!"), 401, "unauthorized")


@pytest.mark.smoke
def test_row_61_expired_token(token_service):
    token = token_service.token(unique("row61"), expires="1s")

    def expired():
        return token_service.get("/api/files", token=token).status_code == 401

    wait_for(expired, "token expired", 5)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("read", "GET", "/api/files", 200), ("read", "PUT", "/api/files/upload/x", 403),
        ("read", "POST", "/api/files/upload", 403), ("read", "POST", "/api/files/delete", 403),
        ("read", "PATCH", "{id}", 403), ("read", "DELETE", "{id}", 403),
        ("write", "GET", "/api/files", 403), ("write", "GET", "{id}", 403),
        ("write", "GET", "{id}/meta", 403), ("write", "PATCH", "{id}", 200),
        ("read,write", "GET", "/api/files?owner=someone", 403),
        ("admin", "GET", "/api/files?owner=someone", 200), ("admin", "DELETE", "{id}", 200),
    ],
)
def test_row_62_scopes(token_service, scope, method, path, status):
    owner = unique("row62")
    file = token_service.create(TEXT, token=token_service.token(owner))
    path = path.replace("{id}", f"/api/files/{file['id']}")
    bodies = {"PATCH": {"json": {}}, "POST": {"json": {}}, "PUT": {"data": b"x"}}
    body = bodies.get(method, {})
    answer = token_service.request(method, path, token=token_service.token(owner, scope), **body)
    assert answer.status_code == status, answer.text
    if status == 403:
        check_problem(answer, 403, "forbidden")
