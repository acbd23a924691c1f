"""GET /api/files: both kinds of paging, filters, orders and totals."""

import pytest

from problems import check_problem
from samples import GIF, PNG, TEXT, unique

NAMES = ["b", "a", "Z", "é", "aa", "z", "日", "a b", "B", "10", "9", "~"]


@pytest.fixture(scope="module")
def owner(token_service):
    """A token whose owner has exactly 25 files."""
    token = token_service.token(unique("lister"))
    for number in range(25):
        name = f"{NAMES[number % len(NAMES)]}-{number:02d}"
        token_service.create(b"x" * ((number * 7) % 11), name, token=token)
    return token


def pages(service, token, mode, **query):
    """All files by one kind of paging, and every page's total."""
    files, totals = [], set()
    offset, cursor = 0, None
    while True:
        position = {"offset": offset} if mode == "offset" else {"cursor": cursor} if cursor else {}
        response = service.get("/api/files", token=token, params={**query, **position})
        assert response.status_code == 200, response.text
        page = response.json()
        assert set(page) == {"files", "total", "limit", "offset", "nextCursor"}
        assert page["limit"] == int(query.get("limit", 100))
        assert len(page["files"]) <= page["limit"]
        files += page["files"]
        totals.add(page["total"])
        offset, cursor = offset + len(page["files"]), page["nextCursor"]
        if not cursor or (mode == "offset" and not page["files"]):
            return files, totals


SORT_KEYS = {
    "createdAt": lambda file: (file["createdAt"], file["id"]),
    "-createdAt": lambda file: (file["createdAt"], file["id"]),
    "name": lambda file: (file["originalName"].encode(), file["id"]),
    "size": lambda file: (file["size"], file["id"]),
}


@pytest.mark.parametrize("mode", ["offset", "cursor"])
@pytest.mark.parametrize("sort", list(SORT_KEYS))
@pytest.mark.parametrize("limit", [1, 7, 25, 1000])
def test_paging_gives_every_file_once_in_order(token_service, owner, mode, sort, limit):
    files, totals = pages(token_service, owner, mode, sort=sort, limit=limit)
    assert totals == {25}
    assert len({file["id"] for file in files}) == len(files) == 25
    ordered = sorted(files, key=SORT_KEYS[sort], reverse=sort.startswith("-"))
    assert [SORT_KEYS[sort](file)[0] for file in files] == [
        SORT_KEYS[sort](file)[0] for file in ordered
    ]


def test_default_page(token_service, owner):
    page = token_service.get("/api/files", token=owner).json()
    assert page["limit"] == 100 and page["offset"] == 0
    assert page["nextCursor"] is None and len(page["files"]) == 25


@pytest.mark.core
def test_listed_files_are_whole_file_objects(token_service, owner):
    for file in token_service.get("/api/files", token=owner, params={"limit": 5}).json()["files"]:
        assert token_service.get(file["links"]["self"], token=owner).json() == file


def test_offset_beyond_the_end_is_an_empty_page(token_service, owner):
    page = token_service.get("/api/files?offset=10000", token=owner).json()
    assert page["files"] == [] and page["total"] == 25
    assert page["offset"] == 10000 and page["nextCursor"] is None


def test_offset_page_can_be_followed_by_its_cursor(token_service, owner):
    first = token_service.get("/api/files?offset=3&limit=4&sort=name", token=owner).json()
    query = {"cursor": first["nextCursor"], "limit": 4, "sort": "name"}
    second = token_service.get("/api/files", token=owner, params=query).json()
    both = token_service.get("/api/files?offset=3&limit=8&sort=name", token=owner).json()
    assert first["files"] + second["files"] == both["files"]


@pytest.mark.core
def test_cursor_is_stable_while_files_come_and_go(token_service):
    token = token_service.token(unique("moving"))
    ids = [token_service.create(b"x", f"n{number}", token=token)["id"] for number in range(10)]
    page = token_service.get("/api/files?limit=4&sort=createdAt", token=token).json()
    assert [file["id"] for file in page["files"]] == ids[:4]
    token_service.delete(f"/api/files/{ids[1]}", token=token)
    token_service.delete(f"/api/files/{ids[3]}", token=token)
    added = token_service.create(b"x", "new", token=token)["id"]
    query = {"limit": 100, "sort": "createdAt", "cursor": page["nextCursor"]}
    rest = token_service.get("/api/files", token=token, params=query).json()
    assert [file["id"] for file in rest["files"]] == ids[4:] + [added]
    assert rest["total"] == 9


def test_prefix_filter_is_literal(token_service, owner):
    for prefix, wanted in (
        ("a", {"a", "aa", "a b"}), ("é", {"é"}), ("日", {"日"}), ("%", set()), ("_", set()),
        ("A", set()), ("B", {"B"}), ("a b-", {"a b"}), ("~", {"~"}),
    ):
        page = token_service.get("/api/files", token=owner, params={"prefix": prefix}).json()
        assert {file["originalName"].rsplit("-", 1)[0] for file in page["files"]} == wanted
        assert page["total"] == len(page["files"])


def test_prefix_filter_with_sql_wildcards_in_names(token_service):
    token = token_service.token(unique("wild"))
    for name in ("50%off", "50_off", "50xoff", "50*off", "50[off", "50\\off"):
        token_service.create(b"x", name, token=token)
    for prefix in ("50%", "50_", "50*", "50[", "50\\", "50?"):
        page = token_service.get("/api/files", token=token, params={"prefix": prefix}).json()
        assert [f["originalName"] for f in page["files"]] == (
            [prefix + "off"] if prefix != "50?" else []
        )


def test_mime_filter(token_service):
    token = token_service.token(unique("types"))
    for content, mime in ((PNG, "image/png"), (GIF, "image/gif"), (TEXT, "text/plain")):
        token_service.create(content, "f", token=token, mime=mime)
    for mime, count in (("image/png", 1), ("text/plain", 1), ("image", 0), ("image/jpeg", 0)):
        page = token_service.get("/api/files", token=token, params={"mimeType": mime}).json()
        assert page["total"] == len(page["files"]) == count
        assert {file["mimeType"] for file in page["files"]} <= {mime}


@pytest.mark.core
@pytest.mark.parametrize("mode", ["offset", "cursor"])
def test_filters_together_with_paging(token_service, mode):
    token = token_service.token(unique("filters"))
    for number in range(12):
        name = ("keep" if number % 2 else "drop") + str(number)
        token_service.create(
            TEXT if number % 3 else GIF, name, token=token,
            mime="text/plain" if number % 3 else "image/gif",
        )
    files, totals = pages(
        token_service, token, mode, prefix="keep", mimeType="text/plain", limit=2, sort="name"
    )
    assert [file["originalName"] for file in files] == ["keep1", "keep11", "keep5", "keep7"]
    assert totals == {4}


def test_owner_filter_is_for_admins(token_service):
    one, two = unique("owner"), unique("owner")
    token = token_service.token(one)
    file = token_service.create(b"x", "mine", token=token)
    token_service.create(b"x", "theirs", token=token_service.token(two))
    admin = token_service.token(unique("boss"), scope="read,write,admin")
    page = token_service.get("/api/files", token=admin, params={"owner": one}).json()
    assert [found["id"] for found in page["files"]] == [file["id"]]
    foreign = token_service.get("/api/files", token=token, params={"owner": two})
    check_problem(foreign, 403, "forbidden")


@pytest.mark.core
def test_total_follows_uploads_and_deletes(token_service):
    token = token_service.token(unique("totals"))

    def total(**query):
        return token_service.get("/api/files", token=token, params=query).json()["total"]

    assert total() == 0
    ids = [token_service.create(b"x", "t", token=token)["id"] for _ in range(3)]
    assert total() == total(prefix="t") == 3
    token_service.delete(f"/api/files/{ids[0]}", token=token)
    assert total() == total(prefix="t") == 2
    body = {"ids": ids}
    token_service.post("/api/files/delete", token=token, json=body)
    assert total() == total(prefix="t") == 0


@pytest.mark.core
def test_public_files_never_appear_in_others_lists(token_service):
    name = unique("public")
    file = token_service.create(
        b"x", name, token=token_service.token(unique("giver")), visibility="public"
    )
    other = token_service.token(unique("other"))
    page = token_service.get("/api/files", token=other, params={"prefix": name}).json()
    assert page["files"] == [] and page["total"] == 0
    assert token_service.get(file["links"]["download"], token=other).status_code == 200


@pytest.mark.parametrize(
    "query", ["offset=1&cursor=abc", "limit=1&limit=2", "offset=0&offset=0", "sort=name&sort=name",
              "prefix=a&prefix=a", "cursor=a&cursor=a"]
)
def test_parameters_given_twice_or_against_each_other(service, query):
    problem = check_problem(service.get(f"/api/files?{query}"), 400)
    assert problem["code"] in ("bad_parameter", "bad_cursor")


def test_head_of_a_list(service):
    response = service.head("/api/files")
    assert response.status_code == 200 and response.content == b""
    assert int(response.headers["Content-Length"]) > 0
