"""What the kernel knows of a process: the processor time it has used and the memory it holds."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def processor_s(pid: int) -> float:
    """Seconds of processor time, of all threads, in user and kernel mode.

    From the scheduler's own count in nanoseconds where there is one; else in the clock's ticks.
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end while we look.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_bytes(pid: int) -> int:
    """What is in memory now, shared pages included."""
    return _status(pid, "VmRSS")


def peak_memory_bytes(pid: int) -> int:
    """The most that was in memory since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def children(pid: int) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == pid and state != "Z":
                    yield int(folder.name)


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)
