"""A schedule: which call of a task, when, and what to do about missed or overlapping runs. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from arq_web.cron import Schedule as Times
from arq_web.errors import InvalidSchedule
from arq_web.task import Call, Enqueueable

Misfire = Literal["once", "all", "skip"]
Overlap = Literal["allow", "skip"]
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,90}")  # with "cron:" and the tick it is a job id


@dataclass(frozen=True, slots=True)
class Ticks:
    """When a recurring job is due, and what becomes of missed runs."""

    times: Times
    misfire: Misfire

    @property
    def fingerprint(self) -> str:
        """Changes with everything that a process must agree on to fire it."""
        return _fingerprint(f"{self.times.fingerprint} {self.misfire}")

    def tick_after(self, tick_ms: int, now_ms: int) -> int:
        """The tick to store once ``tick_ms`` is dealt with: the next one, or the next one to come (server time)."""
        following = self.times.next_after_ms(tick_ms)
        if self.misfire == "all" or following > now_ms:
            return following
        # The ticks that were missed meanwhile are one missed run: the job of ``tick_ms`` stands for all of them.
        return self.times.next_after_ms(now_ms)


@dataclass(frozen=True, slots=True)
class Schedule(Ticks):
    """One recurring job. Made by ``schedule(...)``."""

    name: str
    call: Call[Any]
    overlap: Overlap

    @property
    def fingerprint(self) -> str:
        """Changes with everything that a process must agree on to fire it."""
        return _fingerprint(f"{self.times.fingerprint} {self.call.task.name} {self.misfire} {self.overlap}")

    def job_call(self, tick_ms: int) -> Call[Any]:
        """The call to enqueue for one tick: its id is the tick's, so that it exists once."""
        options = replace(self.call.options, id=f"cron:{self.name}:{tick_ms}")
        if self.overlap == "skip":
            options = replace(options, unique=f"cron:{self.name}")
        return replace(self.call, options=options)


def schedule(
    what: Enqueueable[[], Any] | Call[Any],
    when: Times,
    *,
    name: str | None = None,
    misfire: Misfire = "once",
    overlap: Overlap = "allow",
) -> Schedule:
    """Run ``what`` at the times of ``when``: exactly one job per tick, however many processes declare it.

    Args:
        what: a task without arguments, or ``task.call(...)``.
        when: ``cron("0 8 * * *", tz="Europe/Berlin")`` or ``every(timedelta(minutes=5))``.
        name: of the schedule, unique in its queue; default the task's name.
        misfire: when no process was there at a tick: run ``once`` for all that were missed, ``all`` of them, or
            ``skip`` them (a tick more than a minute late is skipped).
        overlap: ``skip`` a tick while the job of an earlier one still lives.

    Raises:
        InvalidSchedule: the name or a policy cannot be.
        InvalidArguments, NotSerializable: the arguments do not fit, or do not travel.
    """
    call = what if isinstance(what, Call) else what.call()
    call.task.codec.encode_call(call.args, call.kwargs)
    chosen = name or call.task.name
    if not _NAME.fullmatch(chosen):
        raise InvalidSchedule(chosen, "its name needs 1 to 90 of the characters A-Z a-z 0-9 . _ : @ - (give name=...)")
    if misfire not in ("once", "all", "skip") or overlap not in ("allow", "skip"):
        raise InvalidSchedule(chosen, "misfire is 'once', 'all' or 'skip', overlap is 'allow' or 'skip'")
    return Schedule(times=when, misfire=misfire, name=chosen, call=call, overlap=overlap)


def _fingerprint(words: str) -> str:
    return hashlib.blake2s(words.encode(), digest_size=8).hexdigest()
