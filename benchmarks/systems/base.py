"""What every adapter in this folder provides, and what it may import of the project: this module and ``ledger``.

An adapter is imported in its system's own environment (``.venv-<python>-bench-<module>``, from ``<module>.txt``), never
by the driver: standard library, its system, this module. The module ``benchmarks/systems/<module>.py`` has exactly

* ``PACKAGES``: the distributions whose versions the report shows, e.g. ``("taskiq", "taskiq-redis")``.
* ``DELIVERY``: ``"at least once"`` or ``"at most once"``, with the settings below, when a worker process is killed.
* ``RESULTS_OPTIONAL``: False if results cannot be turned off (or on): the cells without results then skip it.
* ``SETTINGS``: for each variant what is set, in one line for the report. The key ``""`` is the system as its own docs
  recommend it; another key (``"tuned"``) is run as ``<module>-<key>``: only where a default caps the system.
* ``ROUGH_RATE``: for each variant about how many no-op jobs per second one worker drains. Only to choose how many jobs
  a cell needs to last for some seconds.
* ``POLL_S``: for each variant whose worker polls for jobs, how often. May be left out.
* ``SPAWNS_PROCESSES``: True if the command runs ``spec.processes`` worker processes by itself; False if the driver is
  to start the command that often.
* ``worker_command(spec)``: see ``WorkerCommand``.
* ``Producer``: a class, see ``Producer``.

and whatever its worker needs: tasks ``noop``, ``sleep50`` and ``cpu200``, which all take an index and a payload and
return the index. They are made of the three functions ``ran``, ``sleep50`` and ``cpu200`` below. uvloop is installed in
every environment; use it where the system can (``install_uvloop``).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

from benchmarks.ledger import Ledger

ENV = "BENCH_SPEC"
PAYLOAD = "p" * 100
"""Rides along with every job, as its second argument."""
SLEEP_S = 0.05
CPU_S = 200e-6

TaskName = Literal["noop", "sleep50", "cpu200"]


class Unsupported(Exception):
    """The system cannot do that; the text says why. The report shows it in the place of a figure."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker or a producer of any system is told; travels as JSON in the environment variable BENCH_SPEC."""

    redis_url: str
    ledger_folder: str
    n: int
    """Jobs of this run: their indices are 0 to n - 1."""
    concurrency: int = 100
    """Jobs at a time in one worker process."""
    processes: int = 1
    """Worker processes; for the command, if it ``SPAWNS_PROCESSES``."""
    results: bool = True
    variant: str = ""
    """A key of SETTINGS."""

    @classmethod
    def from_environment(cls) -> WorkerSpec:
        """What BENCH_SPEC says.

        Raises:
            RuntimeError: it is not set: adapters are started by the driver.
        """
        text = os.environ.get(ENV)
        if text is None:
            raise RuntimeError(f"{ENV} is not set. Adapters are started by `python -m benchmarks`.")
        return cls(**json.loads(text))

    def environment(self) -> dict[str, str]:
        """The environment variable, for a child process."""
        return {ENV: json.dumps(dataclasses.asdict(self))}


class WorkerCommand(Protocol):
    """``worker_command(spec)``."""

    def __call__(self, spec: WorkerSpec) -> list[str]:
        """The arguments that follow the environment's python, e.g. ``["-m", "arq", "benchmarks.systems.arq.Worker"]``.

        Called in the environment; the process is replaced (exec) by the command, in the repository's root, with
        BENCH_SPEC set. No line of log per job, please: ask the command for warnings only.
        """
        ...


class Producer(Protocol):
    """The enqueueing side; one per producer process. A system without asyncio blocks in ``enqueue`` and says so."""

    async def open(self, spec: WorkerSpec) -> None:
        """Connect. Called on the loop on which everything else is called."""

    async def close(self) -> None:
        """Disconnect."""

    async def enqueue(self, task: TaskName, index: int, delay_until: float | None = None) -> Any:
        """Enqueue ``task(index, PAYLOAD)`` and return the system's own handle.

        Args:
            delay_until: not before this moment, in seconds of ``time.time()``.

        Raises:
            Unsupported: the system cannot delay.
        """

    async def enqueue_many(self, task: TaskName, indices: Sequence[int]) -> None:
        """Enqueue by the system's own bulk call, or the best that its docs know: ``gathered`` below."""

    async def result(self, handle: Any) -> Any:
        """Wait for the job's result as the system's own API does.

        Raises:
            Unsupported: the system keeps no results.
        """


async def gathered(producer: Producer, task: TaskName, indices: Sequence[int], *, at_once: int = 100) -> None:
    """The bulk call of a system that has none: ``asyncio.gather`` of so many single ones."""
    for first in range(0, len(indices), at_once):
        await asyncio.gather(*(producer.enqueue(task, index) for index in indices[first : first + at_once]))


@cache
def spec() -> WorkerSpec:
    """This process's ``WorkerSpec``."""
    return WorkerSpec.from_environment()


@cache
def ledger() -> Ledger:
    """This process's ledger; opened by the first job (or by the adapter, before it)."""
    return Ledger(spec().ledger_folder, spec().n)


def ran(index: int) -> int:
    """The no-op job: note that it ran, return its index."""
    ledger().ran(index)
    return index


async def sleep50(index: int) -> int:
    """A job that waits for something: 50 ms."""
    ledger().ran(index)
    await asyncio.sleep(SLEEP_S)
    ledger().ended(index)
    return index


def sleep50_blocking(index: int) -> int:
    """The same for a system without asyncio."""
    ledger().ran(index)
    time.sleep(SLEEP_S)
    ledger().ended(index)
    return index


def cpu200(index: int) -> int:
    """A job that computes: 200 us of this thread's CPU."""
    ledger().ran(index)
    until = time.thread_time_ns() + int(CPU_S * 1e9)
    while time.thread_time_ns() < until:
        pass
    ledger().ended(index)
    return index


def install_uvloop() -> None:
    """Make uvloop the loop of this process, for systems that do not take it by themselves."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - a system may do without

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
