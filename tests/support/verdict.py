"""What became of the jobs of one fault: counted from what really ran, from the logs and by Redis, never by hope."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis.asyncio as redis_async

from arq_web import Job, JobState
from arq_web.errors import JobNotFound
from arq_web.job import TERMINAL_STATES
from tests.support.fleet import Fleet
from tests.support.journal import counts, read_journal


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table that ``make chaos`` prints."""

    scenario: str
    jobs: int
    lost: int
    """Jobs that did not end, or are gone."""
    started_twice: int
    """Jobs that more than one attempt of theirs began."""
    accepted_twice: int
    """Results that Redis recorded beyond one per job."""
    worst_recovery_s: float | None = None
    """The longest time until work went on, seconds, where the scenario measures one."""

    def as_row(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


async def judge(
    scenario: str,
    jobs: Sequence[Job[Any]],
    fleet: Fleet,
    *,
    worst_recovery_s: float | None = None,
    redis_url: str | None = None,
) -> Verdict:
    """Count what became of ``jobs``, which must be all jobs of their namespace, and have had the time to end.

    Every task among them notes its start in the journal. ``redis_url`` is where to look if the fleet's is not a single
    server's.
    """
    states = await asyncio.gather(*(_state_of(job) for job in jobs))
    starts = counts(read_journal(fleet.folder / "journal"), "start")
    succeeded_count = sum(state is JobState.SUCCEEDED for state in states)
    by_log = Counter(str(line["job"]) for line in fleet.events("job.succeeded"))
    said_twice = sum(n > 1 for n in by_log.values())
    excess = await _completes(redis_url or fleet.env["REDIS_URL"], fleet.env["ARQ_WEB_NAMESPACE"]) - succeeded_count
    return Verdict(
        scenario=scenario,
        jobs=len(jobs),
        lost=sum(state not in TERMINAL_STATES for state in states),
        started_twice=sum(starts[job.id] > 1 for job in jobs),
        accepted_twice=max(said_twice, excess, 0),
        worst_recovery_s=worst_recovery_s,
    )


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table for ``rows`` (``Verdict.as_row``), by the names of their scenarios."""
    width = max((len(row["scenario"]) for row in rows), default=8)
    heads = f"{'jobs':>5} {'lost':>5} {'started 2x':>10} {'accepted 2x':>11} {'worst recovery':>14}"
    lines = [f"{'scenario':<{width}}  {heads}"]
    for row in sorted(rows, key=lambda each: str(each["scenario"])):
        recovery = "-" if row["worst_recovery_s"] is None else f"{row['worst_recovery_s']:.2f} s"
        lines.append(
            f"{row['scenario']:<{width}}  {row['jobs']:>5} {row['lost']:>5} {row['started_twice']:>10} "
            f"{row['accepted_twice']:>11} {recovery:>14}"
        )
    return lines


async def _state_of(job: Job[Any]) -> JobState | None:
    try:
        return (await job.info()).state
    except JobNotFound:
        return None


async def _completes(url: str, namespace: str) -> int:
    """How many results Redis recorded in this namespace, by its own count."""
    async with redis_async.Redis.from_url(url) as client:
        minutes = [key async for key in client.scan_iter(match=f"{namespace}:1:*:m:*", count=1000)]
        return sum([int(await client.hget(key, "complete") or 0) for key in minutes])
