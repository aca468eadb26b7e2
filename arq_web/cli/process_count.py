"""How many worker processes: ``--processes``, ``ARQ_WEB_PROCESSES``, and what ``auto`` comes to on this host."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click

from arq_web.errors import InvalidConfig

AUTO = "auto"
ENV = "ARQ_WEB_PROCESSES"
MOST = 256
ALLOWED = f"a number from 1 to {MOST}, or {AUTO}"


def process_count(flag: str | None, environ: Mapping[str, str], *, reload: bool) -> int:
    """How many processes to run: the flag's number, else the environment's, else one.

    Args:
        flag: of the command line; None where it was not given.
        environ: the environment's variables.
        reload: ``--reload`` was given: that is for one process.

    Raises:
        InvalidConfig: the environment's is no such number.
        UsageError: the flag's is none; or several were asked for together with ``--reload``, or on Windows.
    """
    given, wanted = (ENV, environ.get(ENV, "").strip() or "1") if flag is None else ("--processes", flag.strip())
    if not _is_count(wanted):
        if flag is None:
            raise InvalidConfig("processes", wanted, ALLOWED, ENV)
        raise click.UsageError(f"--processes {wanted} is not valid: it must be {ALLOWED}.")
    if wanted == "1":
        return 1
    if reload:
        raise click.UsageError(
            f"--reload is for one process, and {given} asks for {wanted}: leave out one of them"
            + ("." if flag else ", or add --processes 1.")
        )
    if os.name != "posix":
        raise click.UsageError(
            f"{given} asks for {wanted} processes, which needs the signals and sockets of Unix: start several "
            "app-worker instead."
        )
    return usable_cores() if wanted == AUTO else int(wanted)


def usable_cores() -> int:
    """Cores that this process may use: those it may run on, or what its control group grants, where that is less."""
    return min(_cores_to_run_on(), granted_cores() or MOST)


def granted_cores(root: Path = Path("/")) -> int | None:
    """The least CPU quota of this process's control groups, in cores, rounded up; None where there is none.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    least = min(_quotas(root), default=None)
    return None if least is None else max(1, math.ceil(least))


def _is_count(text: str) -> bool:
    return text == AUTO or (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST)


def _cores_to_run_on() -> int:
    count = getattr(os, "process_cpu_count", None)  # Python 3.13: heeds PYTHON_CPU_COUNT as well
    if count is not None:
        return count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Of this process's control group and of those around it, in cores."""
    mounted = root / "sys/fs/cgroup"
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = mounted / "cpu" if controllers else mounted  # version 1 has a tree for each controller
            own = top / path.lstrip("/")
            # A container may be told the host's path, which it does not see: then its own group is the top.
            for folder in (own, *(parent for parent in own.parents if parent.is_relative_to(top))):
                yield from _quota_of(folder)


def _quota_of(folder: Path) -> Iterator[float]:
    with suppress(OSError, ValueError):  # "max": no quota
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())  # -1: no quota
        if quota_us > 0:
            yield quota_us / int((folder / "cpu.cfs_period_us").read_text())
