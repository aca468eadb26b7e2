"""What a test is told when its jobs went wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from arq_web.testing.seen import EnqueuedJob
from arq_web.testing.text import indented

_FRAME: Final = re.compile(r'  File "([^"]*)"')
_PACKAGE: Final = str(Path(__file__).resolve().parents[1])
_ENGINE: Final = re.compile(rf"{re.escape(_PACKAGE)}/(?!testing/)|.*/arq_web_(?:fastapi|litestar)/\w+\.py$")


class JobsFailed(AssertionError):
    """Jobs of a test ended dead, or can be run by no worker. ``jobs`` are they; the message has their tracebacks."""

    def __init__(self, jobs: Sequence[EnqueuedJob]) -> None:
        self.jobs = tuple(jobs)
        super().__init__(failures_text(jobs))


class TooManyAttempts(AssertionError):
    """Jobs go on for ever: each attempt leads to another."""

    def __init__(self, most: int, attempts: Counter[str], *, is_deep: bool = False) -> None:
        self.most, self.attempts = most, attempts
        often = ", ".join(f"{task} {_times(count)}" for task, count in attempts.most_common(5))
        advice = (
            f'Inline, {most} jobs wait for each other there, and that is as many as may: use mode="drain".'
            if is_deep
            else "Say how far to go (run_all(until=timedelta(...))), or allow more (most_attempts=...)."
        )
        super().__init__(
            f"After {_plural(most, 'attempt')} there are still jobs to run: {often}. Does one enqueue itself, or "
            f"snooze, for ever? {advice}"
        )


def failures_text(jobs: Sequence[EnqueuedJob]) -> str:
    """Each job with its call, its end and its traceback."""
    count = "A job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    hint = "(A test that wants this says raise_failures=False.)"
    return "\n\n".join([f"{count} of this test failed.", *(failure_text(job) for job in jobs), hint])


def failure_text(job: EnqueuedJob) -> str:
    """One of them."""
    attempts = _plural(job.attempts, "attempt")
    error = job.error
    if error is None:
        return f"{job} is {job.state.value} after {attempts} (id {job.id}); no error was stored"
    ended = "can be run by no worker here" if job.is_parked else f"is {job.state.value} after {attempts}"
    crashes = f", {job.crashes} of them {'a crash' if job.crashes == 1 else 'crashes'}," if job.crashes else ""
    head = f"{job} {ended}{crashes} (reason {error.reason}, id {job.id}):\n{indented(f'{error.type}: {error.message}')}"
    return f"{head}\n\n{indented(own_frames(error.traceback))}" if error.traceback else head


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def own_frames(traceback: str) -> str:
    """A traceback without the engine's frames: what is left is the user's."""
    kept: list[str] = []
    is_engine = False
    for line in traceback.splitlines():
        if frame := _FRAME.match(line):
            is_engine = _ENGINE.match(frame[1]) is not None
        elif not line.startswith("    "):
            is_engine = False
        if not is_engine:
            kept.append(line)
    return "\n".join(kept)
