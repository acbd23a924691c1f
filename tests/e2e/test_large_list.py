"""Lists past the limits of counting and of offsets: 10,000 files and a few; fewer where the database
sorts in memory (FerretDB), which leaves those two limits to the default backend."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

import backends
from problems import check_problem
from service import running

ROUND = 10_000 if backends.current().metadata == "sqlite" else backends.rounds(300, 1_000)
COUNT = ROUND + 20
COUNTED = 10_000  # totals of filtered lists, as far as they are counted


@pytest.fixture(scope="module")
def crowded():
    """A service with COUNT files "n-1" …, put there by curl in parallel."""
    for service in running(DURABILITY="relaxed"):
        (service.folder / "small").write_bytes(b"small")
        done = subprocess.run(
            ["curl", "-sS", "--fail", "-Z", "--parallel-max", "32", "-o", "/dev/null",
             "-T", str(service.folder / "small"),
             f"{service.url}/api/files/upload/n-[1-{COUNT}]"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=150, check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        yield service


def page(service, **query):
    answer = service.get("/api/files", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_totals_are_kept_or_counted_up_to_ten_thousand(crowded):
    assert page(crowded, limit=1)["total"] == COUNT
    assert page(crowded, limit=1, prefix="n-")["total"] == (None if COUNT > COUNTED else COUNT)
    assert page(crowded, limit=1, prefix="n-1")["total"] == sum(
        str(number).startswith("1") for number in range(1, COUNT + 1)
    )
    assert page(crowded, limit=1, prefix="m")["total"] == 0


@pytest.mark.local("10,000 rows are more than FerretDB sorts in useful time")
def test_a_filtered_total_of_exactly_ten_thousand(crowded):
    surplus = [file["id"] for file in page(crowded, prefix="n-", limit=1000)["files"]]
    surplus = surplus[:COUNT - COUNTED]
    body = {"metadata": {"moved": "away"}, "originalName": "moved"}
    for each in surplus:
        assert crowded.patch(f"/api/files/{each}", json=body).status_code == 200
    assert page(crowded, limit=1, prefix="n-")["total"] == COUNTED
    assert page(crowded, limit=1)["total"] == COUNT


def test_offsets_end_and_cursors_go_on(crowded):
    last = page(crowded, offset=ROUND, limit=1000, sort="name")
    assert len(last["files"]) == COUNT - ROUND and last["nextCursor"] is None
    check_problem(crowded.get("/api/files?offset=10001"), 400, "bad_parameter")
    at = page(crowded, offset=ROUND - 10, limit=5, sort="name")
    rest = page(crowded, cursor=at["nextCursor"], limit=1000, sort="name")
    assert len(rest["files"]) == COUNT - ROUND + 5 and rest["nextCursor"] is None
    assert rest["files"][5:] == last["files"]


@pytest.mark.local("the answer is put together above the driver; 1,000 uploads take minutes there")
def test_the_largest_page(start_service):
    """A thousand files with the longest names and metadata in one answer."""
    service = start_service(DURABILITY="relaxed")
    metadata = '{"k":"' + "\\\"" * 2044 + '"}'
    assert len(metadata) == 4096
    name = '"' * 250

    def put(number):
        return service.create(b"x", f"{number:04d}{name}", metadata=metadata)["id"]

    with ThreadPoolExecutor(4) as pool:
        ids = set(pool.map(put, range(1000)))
    found = page(service, limit=1000, sort="name")
    assert {file["id"] for file in found["files"]} == ids
    assert found["nextCursor"] is None and found["total"] == 1000
    assert found["files"][7]["metadata"] == {"k": '"' * 2044}
    assert found["files"][7]["originalName"] == "0007" + name


@pytest.mark.parametrize("sort", ["createdAt", "-createdAt", "name", "size"])
def test_every_file_once_by_cursor(crowded, sort):
    """Sizes are all the same and names repeat, so ties are ordered too."""
    seen, query = [], {"limit": 1000, "sort": sort}
    while True:
        found = page(crowded, **query)
        seen += [file["id"] for file in found["files"]]
        if found["nextCursor"] is None:
            break
        query["cursor"] = found["nextCursor"]
    assert len(seen) == len(set(seen)) == COUNT
