"""What really ran, written down by the tasks themselves: adds no Redis traffic, survives kill -9."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: ``what`` is "start" or "end"; ``at_s`` is the host's monotonic clock, the same for all processes."""

    what: str
    job_id: str
    attempt: int
    pid: int
    at_s: float


def note(what: str, job_id: str, attempt: int) -> None:
    """Append a line to the journal named by the environment: one write, so lines of many processes do not mix."""
    line = f"{what} {job_id} {attempt} {os.getpid()} {time.monotonic():.6f}\n"  # a job may start within a millisecond
    handle = os.open(os.environ["TEST_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def read_journal(path: Path) -> list[Entry]:
    """All lines so far."""
    if not path.exists():
        return []
    entries = []
    lines, _, _ = path.read_text().rpartition("\n")  # the last line may be on its way
    for line in lines.splitlines():
        what, job_id, attempt, pid, at_s = line.split(" ")
        entries.append(Entry(what, job_id, int(attempt), int(pid), float(at_s)))
    return entries


def counts(entries: list[Entry], what: str) -> Counter[str]:
    """How often each job did ``what``."""
    return Counter(entry.job_id for entry in entries if entry.what == what)
