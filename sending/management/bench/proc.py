"""What the kernel says of processes: CPU time spent and memory held (Linux, /proc)."""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the third on (state)."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def parent_of(pid: int) -> int:
    """Return the process id of the parent."""
    return int(_stat(pid)[1])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has spent, in user and kernel."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICK


def tree(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its children, living and ended."""
    fields = _stat(pid)
    spent = sum(int(field) for field in fields[11:15]) / _TICK
    for child in tree(pid)[1:]:
        try:
            spent += cpu_seconds(child)
        except OSError:  # it ended meanwhile, and counts with its parent from now on
            continue
    return spent


def _megabytes(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def peak_rss_mb(pid: int) -> float:
    """Return the most memory that a process has held so far."""
    return _megabytes(pid, "VmHWM")


class TreePeak:
    """Samples the memory of a process with its children: private parts, and the shared one once."""

    def __init__(self, pid: int, *, every_seconds: float = 0.5) -> None:
        self._pid = pid
        self._every = every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.megabytes = 0.0

    def __enter__(self) -> TreePeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            private, shared = 0.0, 0.0
            for pid in tree(self._pid):
                try:
                    private += _megabytes(pid, "RssAnon")
                    shared = max(shared, _megabytes(pid, "RssShmem"))
                except OSError:
                    continue
            self.megabytes = max(self.megabytes, private + shared)


def describe_machine() -> dict[str, object]:
    """Return what a reader must know of the machine to compare figures."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model,
        "memory_gb": round(memory, 1),
        "kernel": os.uname().release,
        "python": platform.python_version(),
        "python_rounds_per_second": _python_rounds_per_second(),
    }


class _Pair:
    __slots__ = ("first", "second")

    def __init__(self, first: int, second: str) -> None:
        self.first, self.second = first, second


def _python_rounds_per_second() -> int:
    """Return how fast this build of Python is: rounds of making, formatting and keeping objects.

    One that was built without its profile-guided optimisations is slower by a third.
    """
    best = math.inf
    kept: dict[int, bytes] = {}
    for _ in range(7):
        start = time.process_time()
        for number in range(20_000):
            pair = _Pair(number, "pair")
            kept[number & 1023] = f"{pair.first}: {pair.second}".encode()
        best = min(best, time.process_time() - start)
    return int(20_000 / best)
