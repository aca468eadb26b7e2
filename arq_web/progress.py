"""How far a running job is: said by its task as often as it likes, written as often as anybody can see. Pure."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, ClassVar, Final

from arq_web.job import ProgressInfo

MAX_MESSAGE_CHARS = 200
YIELD_S: Final = 0.02
_EXACT: Final = 2**53

on_checkpoint: ContextVar[Callable[[str], None] | None] = ContextVar("arq_web.on_checkpoint", default=None)
"""In a test: who is told of each checkpoint of an attempt, and may end it there (``arq_web.testing``)."""


def checkpoint(name: str = "checkpoint") -> None:
    """Say that the attempt has come so far. Nothing happens, but in a test whose worker is to die here.

    In ``async def`` and ``def`` tasks alike. Every progress report is a checkpoint by itself.
    """
    told = on_checkpoint.get()
    if told is not None:
        told(name)


class Progress:
    """Tell how far a job is. Ask for it by annotation: ``progress: Progress = INJECTED``.

    ::

        await progress(0.4, "resizing")                     # a fraction, 0 to 1
        await progress(row_number, "rows", total=row_count)  # or so many of so many: then also when it will be done
        progress.report(0.4, "resizing")                    # in a ``def`` task, which runs in a thread

    Shown in the job's info, its status and its events. A report costs next to nothing, so make one per step: the first
    is written at once, after that the newest one each quarter of a second, and the last one in any case. A superseded
    attempt changes nothing, and a Redis that is away costs a report, never the attempt.
    """

    __arq_web_inject__: ClassVar[str] = "progress"
    MIN_INTERVAL_S: ClassVar[float] = 0.25

    def __init__(self, send: Callable[[ProgressInfo], Awaitable[None]]) -> None:
        """Made by the worker, on its loop."""
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._yielded_at = time.monotonic()
        self._pace = Pace()
        self._lock = threading.Lock()
        self._newest: ProgressInfo | None = None
        """What is to be written; None when everything is."""
        self._is_started = False
        self._timer: asyncio.TimerHandle | None = None
        self._write: asyncio.Task[None] | None = None

    def __call__(self, value: float, message: str = "", *, total: float | None = None) -> Coroutine[Any, Any, None]:
        """Report ``value``, a fraction from 0 to 1 or so many of ``total``; to be awaited. It does not wait for Redis.

        Args:
            value: how far it is; without ``total`` at most 1.
            message: what it is doing; cut at 200 characters.
            total: how many there are in all; 0 is all done.

        Raises:
            ValueError: a number is negative or no number, or the fraction is above 1.
            RuntimeError: called in a thread, where nothing can await it.
        """
        if _running_loop() is None:
            raise RuntimeError(
                "progress(...) was called in a def task, which runs in a thread, where nothing can await it. "
                "Call progress.report(...) there."
            )
        return self._report_and_yield(value, message, total)

    def report(self, value: float, message: str = "", *, total: float | None = None) -> None:
        """The same for a ``def`` task, from its thread. Returns at once: the worker's loop writes it.

        Raises:
            ValueError: a number is negative or no number, or the fraction is above 1.
        """
        if self._note(value, message, total):
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever would write this
                self._loop.call_soon_threadsafe(self._write_newest)
        checkpoint("progress")

    def close(self) -> None:
        """The attempt has ended: write now what is still to be written. Called by the worker, on its loop."""
        if self._timer is not None:
            self._timer.cancel()
        newest = self._take()
        if newest is not None:
            self._write = self._loop.create_task(self._write_it(newest))

    async def _report_and_yield(self, value: float, message: str, total: float | None) -> None:
        is_first = self._note(value, message, total)
        if is_first:
            self._write_newest()
        now = time.monotonic()
        if is_first or now - self._yielded_at >= YIELD_S:
            # A task that computes for long and awaits nothing else would not let its own report out: one turn of the
            # loop for the timer, one for the write, one for the connection that sends it.
            for _ in range(3):
                await asyncio.sleep(0)
            self._yielded_at = time.monotonic()
        checkpoint("progress")

    def _note(self, value: float, message: str, total: float | None) -> bool:
        """Keep it as the newest; True when it is for the caller to start the writing."""
        _check(value, total)
        with self._lock:
            self._newest = self._measured(value, message[:MAX_MESSAGE_CHARS], total)
            is_first, self._is_started = not self._is_started, True
        return is_first

    def _measured(self, value: float, message: str, total: float | None) -> ProgressInfo:
        if total is None:
            return ProgressInfo(float(value), message)
        self._pace.note(float(value), time.monotonic())
        fraction = min(value / total, 1.0) if total else 1.0
        return ProgressInfo(float(fraction), message, _plain(value), _plain(total), self._pace.eta_s(float(total)))

    def _write_newest(self) -> None:
        """Now, and again after the interval, until there is nothing new."""
        if self._write is None or self._write.done():  # a Redis that is slow gets one at a time
            newest = self._take()
            if newest is None:
                return
            self._write = self._loop.create_task(self._write_it(newest), name="arq_web.progress")
        self._timer = self._loop.call_later(self.MIN_INTERVAL_S, self._write_newest)

    def _take(self) -> ProgressInfo | None:
        with self._lock:
            newest, self._newest = self._newest, None
            self._is_started = newest is not None
            return newest

    async def _write_it(self, newest: ProgressInfo) -> None:
        await self._send(newest)


class Pace:
    """How fast a number grows, by what was lately seen of it: what was a minute ago hardly counts."""

    REMEMBERED_S = 20.0

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._value, self._at_s = math.inf, 0.0
        self._grown = self._passed_s = 0.0

    def note(self, value: float, at_s: float) -> None:
        """It is ``value`` now; a smaller one than before begins anew."""
        if value < self._value:
            self._grown = self._passed_s = 0.0
        else:
            passed_s = at_s - self._at_s
            fading = math.exp(-passed_s / self.REMEMBERED_S)
            self._grown = self._grown * fading + value - self._value
            self._passed_s = self._passed_s * fading + passed_s
        self._value, self._at_s = value, at_s

    def eta_s(self, total: float) -> float | None:
        """In how many seconds it will be ``total``; None while it has not grown."""
        left = max(total - self._value, 0.0)
        if left and not self._grown:
            return None
        return round(left * self._passed_s / self._grown, 1) if left else 0.0


def _check(value: float, total: float | None) -> None:
    if total is None:
        if not 0 <= value <= 1:
            raise ValueError(f"progress must be between 0 and 1, not {value!r}; or say of how many: total=...")
        return
    for name, number in (("value", value), ("total", total)):
        if not 0 <= number < math.inf:
            raise ValueError(f"progress: {name} must be 0 or more, not {number!r}")


def _plain(number: float) -> float:
    """As JSON has it: a Decimal, or a number of numpy's, has a value but is of no type that it knows."""
    return number if type(number) is int and number < _EXACT else float(number)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None
