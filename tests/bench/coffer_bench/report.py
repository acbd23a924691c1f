"""The table, what stands above it, and the raw numbers."""

import json
import os
import platform
import re
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from .tools import ROOT

HEAD = ("| work | Coffer | compared with | ratio (lowest–highest) | target | reached |\n"
        "|---|---|---|---|---|---|\n")


def first_line(*command, pattern=r"\d+(\.\d+)+"):
    """The version in a command's first words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "not installed"
    match = re.search(pattern, done.stdout + done.stderr)
    return match.group(0) if match else "unknown"


def field_of(path, name):
    """The value of "name : value" in a file of /proc."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def file_system(folder):
    """Type of the file system that holds a folder."""
    return first_line("stat", "-f", "-c", "%T", str(folder), pattern=r"\S+")


def disk_speed(folder):
    """Seconds of one write and fsync of 4 KiB, the median of 50, in milliseconds."""
    path = Path(folder) / "fsync-probe"
    times = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(50):
        began = time.monotonic()
        os.pwrite(fd, b"x" * 4096, 0)
        os.fsync(fd)
        times.append(time.monotonic() - began)
    os.close(fd)
    path.unlink()
    return sorted(times)[25] * 1000


def machine(folder):
    """Facts without which the numbers mean nothing."""
    flags = field_of("/proc/cpuinfo", "flags").split()
    memory = int(field_of("/proc/meminfo", "MemTotal").split()[0]) / 1024 / 1024
    lock = json.loads((ROOT / "tests/bench/express/package-lock.json").read_text())["packages"]
    modules = ", ".join(f"{name} {lock['node_modules/' + name]['version']}"
                        for name in ("express", "multer", "better-sqlite3", "minio", "mongodb"))
    return {
        "Coffer": (ROOT / "VERSION").read_text().strip(),
        "processor": f"{os.cpu_count()} × {field_of('/proc/cpuinfo', 'model name')}, "
                     f"SHA instructions: {'yes' if 'sha_ni' in flags else 'no'}",
        "memory": f"{memory:.0f} GiB",
        "disk": f"{file_system(folder)}, fsync of 4 KiB {disk_speed(folder):.2f} ms",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, "
                  f"Linux {platform.release().split('-')[0]}",
        "versions": f"lighttpd {first_line('lighttpd', '-v')}, "
                    f"SQLite {first_line('sqlite3', '--version')}, "
                    f"OpenSSL {first_line('openssl', 'version')}, "
                    f"gcc {first_line('gcc', '-dumpfullversion')}, "
                    f"Node {first_line('node', '--version')}, {modules}, "
                    f"wrk {first_line('wrk', '--version')}",
    }


def markdown(results, facts, how):
    """The table with its header."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    rows = []
    for result in results:
        reached = {True: "yes", False: "**no**", None: "–"}[result.reached]
        rows.append(f"| {result.work} | {result.measured} | {result.compared} | {result.ratio} "
                    f"| {result.target} | {reached} |")
    notes = [f"- {result.work}: {result.note}" for result in results if result.note]
    parts = [how, "\n".join(lines), HEAD + "\n".join(rows)]
    return "\n\n".join(parts + (["\n".join(notes)] if notes else [])) + "\n"


def write(folder, results, facts, how):
    """Writes table.md and results.json; returns the table."""
    table = markdown(results, facts, how)
    (folder / "table.md").write_text(table)
    (folder / "results.json").write_text(json.dumps(
        {"machine": facts, "how": how, "results": [asdict(result) for result in results]},
        indent=1))
    return table


def publish(table):
    """Replaces the section "Results" of docs/BENCHMARKS.md."""
    path = ROOT / "docs" / "BENCHMARKS.md"
    head, rest = path.read_text().split("## Results\n", 1)
    tail = rest.split("\n## ", 1)[1]
    path.write_text(f"{head}## Results\n\n{table}\n## {tail}")
