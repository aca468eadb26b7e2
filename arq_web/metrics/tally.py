"""What is counted, as plain numbers: a job costs two dictionary look-ups and three additions, whoever reads them later.

Written on the event loop (of several, in tests; so under a lock), read by whichever thread answers a scrape.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from arq_web.middleware import EndedAttempt, Ending, Observer

UNKNOWN = "(unknown)"
"""Stands for all tasks that the app does not know."""
FINAL: tuple[Ending, ...] = ("succeeded", "dead", "cancelled", "expired")
"""Endings after which the job has ended too."""
WAS_LOST: Ending = "lost"
_QUEUE_AND_TASK = attrgetter("queue", "task")


class Spread:
    """How many values fell into each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RedisTally:
    """What this process sees of Redis: by the look at the queues, on the loop, and by the renewals, in their thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.round_trips = Spread(bounds)
        self.is_up: bool | None = None
        """Whether it answered the last look, be it by an error; None before the first."""
        self.renewals = {"ok": 0, "failed": 0}
        self._failed_looks = 0

    @property
    def errors(self) -> int:
        """Looks and renewals that failed."""
        return self._failed_looks + self.renewals["failed"]

    def answered(self, took_s: float) -> None:
        """A look was answered."""
        self.is_up = True
        self.round_trips.add(took_s)

    def failed(self, *, is_up: bool) -> None:
        """A look failed; ``is_up``: by the word of Redis itself, which has refused it."""
        self.is_up = is_up
        self._failed_looks += 1


class TaskTally:
    """Of one task in one queue."""

    __slots__ = ("enqueued", "attempts", "wait", "run", "total", "recovered", "never_ended")  # noqa: RUF023 - a life's order

    def __init__(self, bounds: Sequence[float]) -> None:
        self.enqueued = 0
        self.attempts: defaultdict[tuple[Ending, str], int] = defaultdict(int)
        """By ending and reason."""
        self.wait, self.run, self.total = Spread(bounds), Spread(bounds), Spread(bounds)
        self.recovered = 0
        self.never_ended = 0
        """Of those that were recovered, the dead: no attempt of theirs has ended."""

    def add(self, ended: Iterable[EndedAttempt]) -> None:
        """So many attempts more. As ``Spread.add``, but without its calls, which cost more than the rest."""
        bounds, attempts = self.wait.bounds, self.attempts
        wait, run, total = self.wait.counts, self.run.counts, self.total.counts
        waited_s = ran_s = total_s = 0.0
        for each in ended:
            ending, waited, ran = each.ending, each.waited_s, each.ran_s
            attempts[ending, each.reason] += 1
            wait[bisect_left(bounds, waited)] += 1
            run[bisect_left(bounds, ran)] += 1
            waited_s += waited
            ran_s += ran
            if ending in FINAL:
                total[bisect_left(bounds, each.total_s)] += 1
                total_s += each.total_s
        self.wait.total += waited_s
        self.run.total += ran_s
        self.total.total += total_s

    @property
    def poisoned(self) -> int:
        """Dead because their attempts took the process along, the worker's or (from the last try on) a child."""
        return self.never_ended + self.attempts.get(("dead", "crashed"), 0)


class Tally(Observer):
    """Of one app in one process. The observer of its workers."""

    def __init__(self, bounds_s: Sequence[float], command_bounds_s: Sequence[float]) -> None:
        """Nothing has happened yet.

        Args:
            bounds_s: of the buckets for jobs, ascending.
            command_bounds_s: of those for commands to Redis.
        """
        self.name_of: Callable[[str], str | None] = lambda task: task
        """The name under which a task is counted, whatever a job calls it; None for one that the app does not know."""
        self.tasks: dict[tuple[str, str], TaskTally] = {}
        """By queue, and a task's name."""
        self.enqueues: dict[tuple[str, str], Spread] = {}
        """By queue and outcome."""
        self.http_answers: Counter[int] = Counter()
        """By status."""
        self.replays = 0
        self.redis = RedisTally(command_bounds_s)
        self._bounds_s, self._command_bounds_s = bounds_s, command_bounds_s
        self._by_call: dict[tuple[str, str], TaskTally] = {}
        self._lock = threading.Lock()

    def attempts_ended(self, ended: Sequence[EndedAttempt]) -> None:
        """So many attempts more. What runs now is asked of the workers."""
        with self._lock:
            for (queue, task), several in groupby(ended, _QUEUE_AND_TASK):
                (self._by_call.get((queue, task)) or self._tally_of(queue, task)).add(several)

    def job_reclaimed(self, task: str, queue: str, *, is_dead: bool) -> None:
        """One job less of a worker that is gone."""
        with self._lock:
            tally = self._tally_of(queue, task)
            tally.recovered += 1
            tally.never_ended += is_dead

    def leases_renewed(self, *, is_answered: bool) -> None:
        """One renewal more; by one thread only."""
        self.redis.renewals["ok" if is_answered else "failed"] += 1

    def expect(self, keys: Iterable[tuple[str, str]]) -> None:
        """Count these from zero: what is not there before it happens for the first time is no increase.

        Args:
            keys: queue and task, by the name under which it is counted.
        """
        with self._lock:
            for key in keys:
                if key not in self.tasks:
                    self.tasks[key] = TaskTally(self._bounds_s)

    def enqueued(self, task: str, queue: str, outcome: str, took_s: float) -> None:
        """One enqueue more."""
        with self._lock:
            spread = self.enqueues.get((queue, outcome))
            if spread is None:
                spread = self.enqueues[queue, outcome] = Spread(self._command_bounds_s)
            spread.add(took_s)
            if outcome in ("created", "tied"):
                tally = self._by_call.get((queue, task)) or self._tally_of(queue, task)
                tally.enqueued += 1

    def request_answered(self, status: int, *, is_replayed: bool) -> None:
        """One answer more of a route that is a job."""
        with self._lock:
            self.http_answers[status] += 1
            self.replays += is_replayed

    def _tally_of(self, queue: str, task: str) -> TaskTally:
        name = self.name_of(task)
        key = queue, name or UNKNOWN
        tally = self.tasks.get(key)
        if tally is None:
            tally = self.tasks[key] = TaskTally(self._bounds_s)
        if name is not None:  # else the names are not ours, and there may be any number of them
            self._by_call[queue, task] = tally
        return tally
