"""Child processes: each in a group of its own with its log, and what it costs (from /proc, so on Linux only)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.environment import ROOT

STOP_S = 10.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class CellFailed(Exception):
    """A cell has no figure: a process ended, something took too long, a job did not run exactly once."""


@dataclass(slots=True)
class Child:
    """A process and all that it starts: one process group."""

    name: str
    popen: subprocess.Popen[str]
    log: Path

    @classmethod
    def start(cls, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, piped: bool = False) -> Child:
        """Start ``argv`` in the repository's root.

        Args:
            name: for messages.
            argv: the command.
            env: all of its environment.
            log: where its output goes; only stderr's if piped.
            piped: whether its standard input and output are ours.
        """
        guard = shutil.which("setpriv") if sys.platform == "linux" else None
        # A benchmark that is killed cannot clean up; the kernel then ends its children.
        command = [*([guard, "--pdeathsig", "KILL", "--"] if guard else []), *argv]
        pipe = subprocess.PIPE if piped else None
        with log.open("ab") as file:
            popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or file,
                stderr=file,
                start_new_session=True,
                text=True,
                bufsize=1,
            )
        return cls(name, popen, log)

    def check(self) -> None:
        """Raise CellFailed if the process has ended."""
        if self.popen.poll() is not None:
            raise CellFailed(f"{self.name} ended with status {self.popen.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:].strip() or "(it wrote nothing)"

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left of the group after ``STOP_S``."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def cpu_s(self) -> float:
        """CPU seconds of the group until now, user and system, children that have ended included."""
        return sum(sum(map(int, fields[11:15])) for fields in self._stats()) * _TICK_S

    def rss_bytes(self) -> int:
        """Resident memory of the group; pages shared between its processes count for each."""
        return sum(int(fields[21]) for fields in self._stats()) * _PAGE_BYTES

    def _stats(self) -> list[list[str]]:
        """/proc/<pid>/stat of each process of the group, from the field after the name (the third) on."""
        if not Path("/proc/self/stat").exists():
            raise CellFailed("CPU and memory of processes are read from /proc, which this system does not have.")
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) == self.popen.pid:
                        found.append(fields)
        return found


def wait_until(
    holds: Callable[[], bool], what: str, *, within_s: float, children: Sequence[Child] = (), every_s: float = 0.005
) -> None:
    """Wait for something that other processes do.

    Raises:
        CellFailed: it did not happen in time, or one of ``children`` ended.
    """
    deadline = time.monotonic() + within_s
    while not holds():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            logs = "\n".join(f"{child.name}: {child.tail()}" for child in children)
            raise CellFailed(f"{what} did not happen within {within_s:g} s.\n{logs}")
        time.sleep(every_s)


def lines_of(child: Child) -> tuple[IO[str], IO[str]]:
    """Standard input and output of a child that was started with ``piped``."""
    assert child.popen.stdin is not None
    assert child.popen.stdout is not None
    return child.popen.stdin, child.popen.stdout
