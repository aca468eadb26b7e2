"""hasten: time passes for what is still to come, and for nothing else."""

from __future__ import annotations

import pytest

from arq_web.job import JobState
from arq_web.store.sandbox import Sandbox
from arq_web.store.store import NewJob, Settlement, Store, WorkerKind

HOUR_MS = 3_600_000


def job(name: str, **options: object) -> NewJob:
    return NewJob(id=name, task="t", payload=b"[]", **options)  # type: ignore[arg-type]


async def claimed(store: Store, limit: int = 10, worker: str = "w") -> list[str]:
    reply = await store.claim(worker, WorkerKind.EXTERNAL, f"1.{worker}", limit, 8000)
    return [each.id for each in reply.jobs]


async def test_a_job_becomes_due(store: Store) -> None:
    await store.enqueue([job("soon", due="d60000"), job("later", due="d120000")])

    assert await Sandbox(store).hasten(60_000) == 2

    assert await claimed(store) == ["soon"]
    left = await Sandbox(store).next_due_in_ms()
    assert left is not None
    assert 50_000 < left <= 60_000


async def test_a_job_that_could_not_start_in_time_expires(store: Store) -> None:
    """Whether it is due later, or waits for a worker."""
    await store.enqueue([job("waits", expires="d60000"), job("later", due="d50000", expires="d60000")])

    await Sandbox(store).hasten(60_001)

    assert await claimed(store) == []
    assert [info.state for info in await Sandbox(store).jobs()] == [JobState.EXPIRED, JobState.EXPIRED]


async def test_the_record_tells_that_the_time_has_passed(store: Store) -> None:
    """What was enqueued an hour ago says so, and is otherwise what it was."""
    await store.enqueue([job("a", due="d7200000", priority=3, unique="u", extra=b'{"timeout_ms":5}')])
    before = await store.read("a", with_payload=True)

    await Sandbox(store).hasten(HOUR_MS)

    after = await store.read("a", with_payload=True)
    assert before is not None
    assert after is not None
    assert after.enqueued_at_ms == before.enqueued_at_ms - HOUR_MS
    assert after.due_at_ms is not None
    assert after.due_at_ms == (before.due_at_ms or 0) - HOUR_MS
    assert (after.priority, after.unique, after.extra, after.payload) == (3, "u", {"timeout_ms": 5}, b"[]")
    await store.cancel("a")


async def test_it_passes_for_the_named_jobs_only(store: Store) -> None:
    """An inline retry must not bring other people's jobs nearer."""
    await store.enqueue([job("a", due="d60000"), job("b", due="d60000")])

    assert await Sandbox(store).hasten(60_000, ["a", "unknown"]) == 1

    assert await claimed(store) == ["a"]
    await store.cancel("b")


async def test_what_has_ended_or_runs_stays_as_it_is(store: Store) -> None:
    """Results are not to vanish because a test looked a day ahead."""
    await store.enqueue([job("ended"), job("runs")])
    reply = await store.claim("w", WorkerKind.EXTERNAL, "1.t", 2, 8000)
    ended, runs = reply.jobs
    await store.settle("w", [Settlement(ended.id, ended.attempt, ended.token, "complete", HOUR_MS, b"1")])
    before = await store.read("ended")

    assert await Sandbox(store).hasten(10 * HOUR_MS) == 0

    assert await store.read("ended") == before
    await store.settle("w", [Settlement(runs.id, runs.attempt, runs.token, "complete", HOUR_MS, b"1")])


async def test_the_ready_keep_their_order(store: Store) -> None:
    """Priority first, then first come."""
    await store.enqueue([job("b"), job("a"), job("urgent", priority=5)])

    await Sandbox(store).hasten(HOUR_MS)

    assert await claimed(store) == ["urgent", "b", "a"]


@pytest.mark.leaves_keys("wipe must find keys of every kind")
async def test_wiping_leaves_nothing_of_this_queue_and_everything_of_others(store: Store) -> None:
    """A sibling's name may begin alike, or look like a pattern."""
    other = Store(store.connections, store.namespace, "default2")
    starred = Store(store.connections, store.namespace, "de.ault")
    for each in (store, other, starred):
        await each.enqueue([job("a", unique="u"), job("b", due="d1000"), job("c")])
    await claimed(store, 1)

    await Sandbox(store).wipe()

    assert await Sandbox(store).jobs() == []
    assert len(await Sandbox(other).jobs()) == len(await Sandbox(starred).jobs()) == 3
    assert await store.connections.get().execute("KEYS", store.base.replace(b"{", b"[{]") + b"*") == []
