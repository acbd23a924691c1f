"""libs3 needs a body whole before it sends it: it waits in the spool, which is bounded."""

import pytest

from faulty import failed
from exchanges import call, upload_request
from samples import MIB, random_bytes, unique

pytestmark = [pytest.mark.backends("libs3+sqlite"), pytest.mark.core]


def test_an_upload_that_does_not_fit_the_spool_is_507(start_service):
    """A body of known length is told before it is sent, one of unknown length when it no longer fits;
    either way nothing is left, and what fits is taken."""
    service = start_service(SPOOL_MAX_BYTES="8M")
    service.expect_5xx = True
    for way in ("put", "form"):
        answer = call(service.port, *upload_request(way, unique(), random_bytes(12 * MIB, seed=1)))
        failed(answer, {507}, "disk_full")
        content = random_bytes(3 * MIB, seed=2)
        made = call(service.port, *upload_request(way, unique(), content))
        assert made.status == 201, str(made)
        assert service.get(f"/api/files/{made.json()['id']}").content == content
    assert service.get("/api/files").json()["total"] == 2
