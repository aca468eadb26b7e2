"""The enqueueing side as a process in a system's own environment: ``python -m benchmarks.producer <module>``.

Commands come as JSON lines on standard input, ``{"do": "enqueue", ...}``; each is answered by one JSON line on standard
output, ``{"ok": {...}}``, or ``{"unsupported": "why"}``. The commands are the methods of ``Commands``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, Literal

from benchmarks.ledger import LedgerReader, Moments
from benchmarks.systems import base
from benchmarks.systems.base import Producer, TaskName, Unsupported, WorkerSpec

How = Literal["one", "callers", "bulk"]
CALLERS = 100
BULK = 1000
POLL_S = 0.001
Facts = dict[str, Any]
Gap = tuple[float, float]
"""From so many seconds to so many."""


class Commands:
    """What a cell can ask for. Jobs are named by their first index and their count."""

    def __init__(self, producer: Producer, spec: WorkerSpec) -> None:
        self._producer = producer
        self._sent = Moments(Path(spec.ledger_folder, "sent"), spec.n)
        self._ran = LedgerReader(spec.ledger_folder, spec.n)

    async def enqueue(self, *, how: How, task: TaskName, first: int, count: int, at: float | None = None) -> Facts:
        """Enqueue as fast as it goes: one after the other, by 100 callers at once, or in bulks of 1,000.

        ``at`` delays all of them until that moment (``time.time()``).
        """
        indices = range(first, first + count)
        began, cpu = time.perf_counter(), time.process_time()
        if how == "bulk":
            for start in range(0, count, BULK):
                await self._producer.enqueue_many(task, indices[start : start + BULK])
        else:
            waiting = iter(indices)
            callers = 1 if how == "one" else CALLERS
            await asyncio.gather(*(self._call(task, waiting, at) for _ in range(callers)))
        return {"took_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}

    async def pace(self, *, task: TaskName, first: int, count: int, per_s: float) -> Facts:
        """Enqueue at a steady rate, whether or not the earlier calls have returned. Notes when each call was made."""
        began, behind_s = time.perf_counter(), 0.0
        calls: set[asyncio.Task[None]] = set()
        for number in range(count):
            await _until(began + number / per_s)
            behind_s = max(behind_s, time.perf_counter() - began - number / per_s)
            call = asyncio.create_task(self._noted(task, first + number))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.gather(*calls)
        return {"took_s": time.perf_counter() - began, "behind_s": behind_s}

    async def single(self, *, task: TaskName, first: int, count: int, gap_s: Gap, within_s: float) -> Facts:
        """Enqueue one job at a time to an idle system, with a pause of random length (seeded) after each has run.

        After ``within_s`` no more of them. Returns how many there were.
        """
        until, index = time.monotonic() + within_s, first
        while index < first + count and time.monotonic() < until:
            await self._noted(task, index)
            await self._begun(index)
            await asyncio.sleep(_pause_s(index, gap_s))
            index += 1
        return {"count": index - first}

    async def round_trips(self, *, task: TaskName, first: int, count: int, gap_s: Gap, within_s: float) -> Facts:
        """Enqueue a job and wait for its result, one at a time, none after ``within_s``. Returns how long each took."""
        took_ns: list[int] = []
        until = time.monotonic() + within_s
        for index in range(first, first + count):
            if time.monotonic() > until:
                break
            began = time.monotonic_ns()
            value = await self._producer.result(await self._producer.enqueue(task, index))
            took_ns.append(time.monotonic_ns() - began)
            if value != index:
                raise AssertionError(f"The result of job {index} is {value!r}.")
            await asyncio.sleep(_pause_s(index, gap_s))
        return {"took_ns": took_ns}

    async def _begun(self, index: int) -> None:
        """Wait until a worker has begun that job: it says so in its ledger only, so we look again and again."""
        while not self._ran.has_run(index):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_S)

    async def _call(self, task: TaskName, waiting: Iterable[int], at: float | None) -> None:
        for index in waiting:
            await self._producer.enqueue(task, index, at)

    async def _noted(self, task: TaskName, index: int) -> None:
        self._sent.now(index)
        await self._producer.enqueue(task, index)


async def serve(module: str) -> None:
    """Do what standard input says until it ends."""
    spec = WorkerSpec.from_environment()
    producer: Producer = importlib.import_module(f"benchmarks.systems.{module}").Producer()
    await producer.open(spec)
    commands = Commands(producer, spec)
    _answer({"ok": {}})
    try:
        # Reading blocks the loop on purpose: between commands there is nothing to do, and nobody should do it.
        while line := sys.stdin.readline():
            command = json.loads(line)
            work: Awaitable[Facts] = getattr(commands, command.pop("do"))(**command)
            try:
                _answer({"ok": await work})
            except Unsupported as why:
                _answer({"unsupported": str(why)})
    finally:
        await producer.close()


async def _until(moment_s: float) -> None:
    """Sleep until that reading of ``time.perf_counter``; timers may ring early."""
    while (left_s := moment_s - time.perf_counter()) > 0:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(left_s)


def _answer(facts: Facts) -> None:
    print(json.dumps(facts), flush=True)


def _pause_s(index: int, gap_s: Gap) -> float:
    return random.Random(index).uniform(*gap_s)


if __name__ == "__main__":
    base.install_uvloop()
    asyncio.run(serve(sys.argv[1]))
