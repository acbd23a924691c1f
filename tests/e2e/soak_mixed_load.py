"""`make soak`: SOAK_SECONDS (300) of a mixed load. In the first half programs are killed now and then;
in the second nothing is, and neither memory nor descriptors may grow. Then all that the history checker
knows must hold."""

import os
import random
import time

from history import Load, kill_now
from memory import pss

PROGRAMS = ("files_upload", "files_get", "files_list", "files_delete", "files_update")
SECONDS = int(os.environ.get("SOAK_SECONDS", "300"))
GROWTH_MIB = 16   # of one program
DESCRIPTORS = 16  # connections come and go


def descriptors(service, program):
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in service.pids(program))


def kill_for(service, load, seconds):
    rng = random.Random(5)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(rng.uniform(1, 5))
        kill_now(service, rng.choice(PROGRAMS))
        load.recover()


def test_soak(start_service):
    service = start_service()
    service.expect_5xx = True  # of programs that are killed
    load = Load(service, clients=8, seed=5, bare=True, pause=0.05)
    with load:
        kill_for(service, load, SECONDS / 2)
        time.sleep(SECONDS / 10)  # caches and pools fill
        before = {each: (pss(service, each), descriptors(service, each)) for each in PROGRAMS}
        time.sleep(SECONDS * 4 / 10)
        after = {each: (pss(service, each), descriptors(service, each)) for each in PROGRAMS}
    for each in PROGRAMS:
        grown = (after[each][0] - before[each][0]) / (1 << 20)
        assert grown <= GROWTH_MIB, f"{each} grew by {grown:.1f} MiB: {before} {after}"
        assert after[each][1] <= before[each][1] + DESCRIPTORS, f"{each}: {before} {after}"
    assert load.acknowledged() > SECONDS, "hardly any load"
    load.check()
