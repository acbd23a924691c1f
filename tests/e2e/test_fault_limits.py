"""F21: a program that runs out of descriptors under load stays alive, answers 503 while it must,
and works again as soon as it may open files."""

import os
import resource
import time

import pytest

from history import Load
from rawhttp import RawConnection, raw_request
from service import wait_for

pytestmark = pytest.mark.local("about the programs, whatever the stores")


def open_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def limit_descriptors(pid, soft):
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.smoke
@pytest.mark.parametrize("spare", [0, 3])
@pytest.mark.parametrize("program", ["files_upload", "files_get", "files_list", "files_delete"])
def test_f21_no_descriptors_left(start_service, program, spare):
    """`spare`: with none connections wait; with a few they are taken and cannot be served."""
    service = start_service()
    service.expect_5xx = True
    load = Load(service, clients=16, seed=21, sizes=(0, 700, 20_000))
    with load:
        load.wait_for(10)
        pids = service.pids(program)
        assert len(pids) == 1
        before = resource.prlimit(pids[0], resource.RLIMIT_NOFILE)[0]
        # As soon as the load lets go of one, nobody gets it back.
        limit_descriptors(pids[0], min(open_descriptors(pids[0]), 24) + spare)
        time.sleep(2)
        limit_descriptors(pids[0], before)
        load.recover()
        assert service.pids(program) == pids, "the program died of it"
        load.wait_for(10)
    failed = {status for status in load.statuses if status and status >= 500}
    assert failed <= {503}, load.statuses
    assert None not in load.statuses, [str(failure) for failure in load.failures
                                       if failure.status is None]
    load.check()


def test_f21_a_body_that_comes_later(start_service):
    """The first upload whose body isn't there with its head finds no descriptor for anything."""
    service = start_service()
    service.expect_5xx = True
    pid = service.pids("files_upload")[0]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    content = os.urandom(300_000)
    limit_descriptors(pid, open_descriptors(pid) + 1)  # its connection
    request = raw_request("PUT", "/api/files/upload/later", [("Content-Length", len(content))])
    with RawConnection(service) as connection:
        connection.send(request)
        time.sleep(0.3)  # until the program has seen the head alone
        connection.send_as_taken(content)
        refused = connection.read("PUT")
    assert refused.status == 503, refused
    assert int(refused.header("retry-after")) >= 1
    limit_descriptors(pid, before)
    assert service.create(content)["size"] == len(content)


def test_f21_workers_are_back_after_the_shortage(start_service):
    """No worker is lost to it: as many slow uploads as there are workers still run at once."""
    service = start_service(UPLOAD_WORKERS=12)
    service.expect_5xx = True
    pid = service.pids("files_upload")[0]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    load = Load(service, clients=16, seed=23, sizes=(700,))
    with load:
        limit_descriptors(pid, open_descriptors(pid))
        time.sleep(1)
        limit_descriptors(pid, before)
        load.recover()
    load.check()
    slow = [RawConnection(service) for _ in range(12)]
    for connection in slow:
        connection.send(raw_request("PUT", "/api/files/upload/slow", [("Content-Length", 10)]),
                        b"12345")
    wait_for(lambda: service.metric("http_requests_in_flight") >= 13, "every worker has one")
    for connection in slow:
        connection.send(b"67890")
    assert [connection.read("PUT").status for connection in slow] == [201] * 12
    for connection in slow:
        connection.close()
