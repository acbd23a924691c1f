"""What programs hold of the machine's memory."""

from service import read_proc


def pss_of(pid):
    """Bytes, what is shared counted by its share; 0 when the process is gone."""
    for line in read_proc(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def pss(service, program):
    """Of all processes that run a program."""
    return sum(pss_of(pid) for pid in service.pids(program))
