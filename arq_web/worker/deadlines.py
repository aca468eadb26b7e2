"""Timeouts of attempts: one timer for all that fall due within the same hundredth of a second.

A timer for each costs more than everything else that is done around a short task (docs/explanation/performance.md).
"""

from __future__ import annotations

import asyncio
import time

STEP_S = 0.01
"""No attempt is cancelled before its time, and none more than this after it, while the loop keeps its own times."""


def current_task() -> asyncio.Task[None]:
    """The task that runs this."""
    task = asyncio.current_task()
    assert task is not None
    return task


class Deadline:
    """Until when one attempt may take; hand it back to ``Deadlines.end``."""

    __slots__ = ("has_passed", "step", "task")

    def __init__(self, task: asyncio.Task[None], step: int) -> None:
        self.task, self.step, self.has_passed = task, step, False


class Deadlines:
    """Those of one worker, on its loop."""

    def __init__(self) -> None:
        """Made on the loop that uses it."""
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, set[Deadline]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._latest = 0

    def begin(self, task: asyncio.Task[None], timeout_s: float) -> Deadline:
        """Cancel ``task`` when ``timeout_s`` have passed, unless its deadline ends before."""
        # Not by the loop's own time: uvloop cuts it to whole milliseconds, which would be early.
        step = int((time.monotonic() + timeout_s) / STEP_S) + 1
        if step != self._latest:
            earlier, self._latest = self._latest, step
            self._drop_empty(earlier)
        deadline = Deadline(task, step)
        waiting = self._waiting.get(step)
        if waiting is None:
            waiting = self._waiting[step] = set()
            self._set_timer(step)
        waiting.add(deadline)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """The attempt is over."""
        waiting = self._waiting.get(deadline.step)
        if waiting is not None:
            waiting.discard(deadline)
            # The latest is kept although empty: of many short attempts each begins when the one before has ended.
            if not waiting and deadline.step != self._latest:
                self._drop_empty(deadline.step)

    def _drop_empty(self, step: int) -> None:
        if step in self._waiting and not self._waiting[step]:
            del self._waiting[step]
            self._timers.pop(step).cancel()

    def _set_timer(self, step: int) -> None:
        self._timers[step] = self._loop.call_later(step * STEP_S - time.monotonic(), self._pass, step)

    def _pass(self, step: int) -> None:
        if time.monotonic() < step * STEP_S:  # uvloop rounds to a millisecond
            self._set_timer(step)
            return
        del self._timers[step]
        for deadline in self._waiting.pop(step):
            deadline.has_passed = True
            deadline.task.cancel()
