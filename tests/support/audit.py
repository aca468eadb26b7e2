"""Does a queue agree with itself (P5)? Records, indexes, unique keys, what each worker holds, and the counters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from arq_web.job import JobInfo, JobState
from arq_web.store.store import Store
from tests.support.store_helpers import command, counted, info_of, keys, members, score_of

PLACES = {
    JobState.QUEUED: "ready",
    JobState.SCHEDULED: "due",
    JobState.RETRYING: "due",
    JobState.RUNNING: "leases",
    JobState.DEAD: "dead",
}
"""In which index a job of a state stands; of the others, in none."""


async def jobs_of(store: Store) -> list[JobInfo]:
    """Every job that the queue has a record of."""
    prefix = len(store.base) + len(b"j:")
    return [await info_of(store, key[prefix:].decode()) for key in await keys(store, "j:*")]


async def disagreements(store: Store, past: Sequence[JobInfo] = ()) -> list[str]:
    """What does not fit together, in words.

    Args:
        store: of a queue in which no record's time has passed yet.
        past: jobs that ended, and whose records others have replaced: only the counters still know of them.
    """
    jobs = await jobs_of(store)
    return [
        *await _misplaced(store, jobs),
        *await _unique_faults(store, jobs),
        *await _held_faults(store, jobs),
        *_count_faults([*jobs, *past], await counted(store)),
    ]


async def _misplaced(store: Store, jobs: list[JobInfo]) -> list[str]:
    places = {index: await members(store, index) for index in dict.fromkeys(PLACES.values())}
    faults = []
    for job in jobs:
        own = PLACES.get(job.state)
        faults += [
            f"{job.id} is {job.state}, and {'' if own == index else 'yet '}{'not ' if own == index else ''}in {index!r}"
            for index, listed in places.items()
            if (job.id in listed) != (own == index)
        ]
        if own == "due" and job.id in places["due"] and await score_of(store, "due", job.id) != job.due_at_ms:
            faults.append(f"{job.id} is due at another time than its place says")
    known = {job.id for job in jobs}
    faults += [f"{id_!r} in {index!r} has no record" for index in places for id_ in places[index] if id_ not in known]
    return faults


async def _unique_faults(store: Store, jobs: list[JobInfo]) -> list[str]:
    prefix = len(store.base) + len(b"u:")
    holders: dict[str | None, str] = {}
    for key in await keys(store, "u:*"):
        holders[key[prefix:].decode()] = cast("bytes", await command(store, "GET", key)).decode()
    wanted = {job.unique: job.id for job in jobs if job.unique and not job.is_finished}
    return [] if holders == wanted else [f"unique keys are held as {holders}, and should be as {wanted}"]


async def _held_faults(store: Store, jobs: list[JobInfo]) -> list[str]:
    prefix = len(store.base) + len(b"h:")
    held = set()
    for key in await keys(store, "h:*"):
        ids = cast("list[bytes]", await command(store, "SMEMBERS", key))
        held |= {(key[prefix:].decode(), id_.decode()) for id_ in ids}
    running = {(job.worker, job.id) for job in jobs if job.state is JobState.RUNNING}
    return [] if held == running else [f"workers hold {sorted(held)}, and running are {running}"]


def _count_faults(jobs: list[JobInfo], totals: dict[str, int]) -> Iterator[str]:
    def n(*words: str) -> int:
        return sum(totals.get(word, 0) for word in words)

    states = [job.state for job in jobs]
    # What the counters must say, by what the records say.
    sums = {
        "enqueued": (n("enqueued"), len(jobs)),
        "complete": (n("complete"), states.count(JobState.SUCCEEDED)),
        "cancel": (n("cancel"), states.count(JobState.CANCELLED)),
        "expired": (n("expired"), states.count(JobState.EXPIRED)),
    }
    if not n("redriven"):  # it forgets failures and crashes, and lets a dead job end again
        sums |= {
            "bury, lost": (n("bury", "lost"), states.count(JobState.DEAD)),
            "retry, bury": (n("retry", "bury"), sum(job.failures for job in jobs)),
            "crash": (n("crash"), sum(job.crashes for job in jobs)),
        }
    for words, (counted_, real) in sums.items():
        if counted_ != real:
            yield f"counted {counted_} x {words}, and the records say {real}"
    # Each attempt ends once. The end of one whose cancellation was asked for is counted as 'cancel' alone, or not here.
    ended = sum(job.attempt for job in jobs) - states.count(JobState.RUNNING)
    of_attempts = n("complete", "retry", "bury", "snooze", "park", "crash", "release")
    if not 0 <= ended - of_attempts <= n("cancel"):
        yield f"{ended} attempts have ended, and {of_attempts} ends are counted"
