"""Small files that were read from a store once: their bytes come from memory, whether they are there
and for whom is asked each time."""

import pytest

from problems import check_problem
from samples import random_bytes, unique

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite")
KEPT = 64 * 1024


def reads(service):
    """How often the store was asked for an object."""
    return sum(value for (name, labels), value in service.metrics().items()
               if name == "storage_operations_total" and ("operation", "get") in labels)


def read(service, made, **options):
    return service.get(f"/api/files/{made['id']}/download", **options)


@pytest.mark.parametrize("size, asked", [(0, 1), (1, 1), (KEPT, 1), (KEPT + 1, 3)])
def test_the_store_is_asked_once_for_what_is_small(service, size, asked):
    content = random_bytes(size, seed=size)
    made = service.create(content)
    before = reads(service)
    for _ in range(3):
        answer = read(service, made)
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["etag"] == f'"{made["sha256"]}"'
    assert reads(service) - before == asked


def test_what_is_deleted_is_gone_at_once(service):
    made = service.create(b"soon gone")
    assert read(service, made).content == b"soon gone"
    assert service.delete(f"/api/files/{made['id']}").status_code == 200
    check_problem(read(service, made), 404, "not_found")


def test_a_new_name_is_told_with_bytes_that_are_kept(service):
    made = service.create(b"renamed")
    assert read(service, made).status_code == 200
    name = unique() + ".txt"
    changed = service.patch(f"/api/files/{made['id']}", json={"originalName": name},
                            headers={"Content-Type": "application/merge-patch+json"})
    assert changed.status_code == 200, changed.text
    answer = read(service, made)
    assert answer.content == b"renamed" and name in answer.headers["content-disposition"]


def test_an_object_changed_behind_our_back_is_not_what_is_sent(service):
    made = service.create(b"as it was uploaded")
    assert read(service, made).content == b"as it was uploaded"
    service.stores.objects.write(made["key"], b"as others want it!")
    assert read(service, made).content == b"as it was uploaded"
    assert service.delete(f"/api/files/{made['id']}").status_code == 200


def test_ranges_and_conditions(service):
    made = service.create(b"0123456789")
    assert read(service, made).status_code == 200
    part = read(service, made, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    known = read(service, made, headers={"If-None-Match": f'"{made["sha256"]}"'})
    assert known.status_code == 304


def test_none_is_kept_where_none_is_wanted(start_service):
    service = start_service(OBJECT_CACHE=0)
    made = service.create(b"asked for each time")
    before = reads(service)
    for _ in range(3):
        assert read(service, made).content == b"asked for each time"
    assert reads(service) - before == 3
