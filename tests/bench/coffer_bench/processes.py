"""Process trees and their memory, read from /proc."""

import os
import threading
import time
from pathlib import Path

from .tools import BenchError


def tree(pid):
    """A process and everything below it, by id."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(parents.get(each, []))
    return found


def name(pid):
    """The short name of a process, or "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def pss(pid):
    """Proportional set size in bytes; 0 when the process is gone. The programs are not dumpable,
    so only root may look."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except PermissionError as problem:
        raise BenchError("the memory of the programs can only be read by root") from problem
    except OSError:
        pass
    return 0


def tree_pss(pid):
    """PSS of a whole tree in bytes."""
    return sum(pss(each) for each in tree(pid))


class PeakSampler(threading.Thread):
    """Watches the PSS of a tree as fast as it can be read, until told to stop; and the bytes that
    `also` tells, if it is given."""

    def __init__(self, pid, also=None):
        super().__init__(daemon=True)
        self.pids = tree(pid)
        self.peak = 0
        self.also = also
        self.also_peak = 0
        self.samples = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            self.peak = max(self.peak, sum(pss(pid) for pid in self.pids))
            if self.also:
                self.also_peak = max(self.also_peak, self.also())
            self.samples += 1

    def stop(self):
        """Ends the watch; returns the highest sum seen."""
        self.done.set()
        self.join()
        return self.peak


def wait_gone(pid, seconds):
    """True as soon as no process has this id (or only its remains)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (OSError, ValueError):
            return True
        time.sleep(0.02)
    return False
