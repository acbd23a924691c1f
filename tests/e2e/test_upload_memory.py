"""Memory of uploads to a store: UPLOAD_MEMORY bounds it, however many come at once. The precise
figure is the benchmark's; here the margin is generous."""

import threading
import time

import pytest

from exchanges import call, upload_request
from memory import pss
from samples import MAX_FILE_SIZE, MIB, random_bytes, sha256

pytestmark = pytest.mark.backends("s3+mongodb", "s3+sqlite", "libs3+sqlite")

MARGIN = 16 + 24  # MiB: what the design allows beside the parts, and noise


@pytest.mark.parametrize("limit, clients", [
    pytest.param(128, 16, marks=pytest.mark.thorough("16 largest files at once take minutes")),
    (32, 8),
])
def test_parallel_uploads_of_the_largest_file(start_service, limit, clients):
    service = start_service(UPLOAD_MEMORY=f"{limit}M", S3_STALL_SECONDS=60, S3_DEADLINE_SECONDS=120)
    content = random_bytes(MAX_FILE_SIZE, seed=16)
    warm = call(service.port, *upload_request("put", "warm", content))
    assert warm.status == 201, str(warm)
    before = pss(service, "files_upload")
    answers, highest = [], 0

    def upload(number):
        answers.append(call(service.port, *upload_request("put", f"u{number}", content),
                            timeout=170))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, pss(service, "files_upload"))
        time.sleep(0.05)
    assert [answer.status for answer in answers] == [201] * clients, [str(a) for a in answers]
    assert {answer.json()["sha256"] for answer in answers} == {sha256(content)}
    grown = (highest - before) / MIB
    assert grown <= limit + MARGIN, f"files_upload grew by {grown:.0f} MiB"
