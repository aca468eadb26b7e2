"""Letting time pass for a queue (tests/support/time_travel.py): everything moves, nothing else changes."""

from __future__ import annotations

import re
from typing import cast

from arq_web.job import JobState
from arq_web.store.store import Store, WorkerKind
from tests.support.store_helpers import (
    LARGE,
    LEASE_MS,
    OTHER_WORKER,
    WORKER,
    claim,
    command,
    counted,
    enqueue_and_claim,
    enqueue_one,
    info_of,
    keys,
    members,
    new_job,
    reclaim,
    record_of,
    score_of,
    settle,
    snapshot,
    state_of,
    ttl_ms,
)
from tests.support.time_travel import let_time_pass

HOUR_MS = 3_600_000
TIME = re.compile(rb"(?:(?<![0-9A-Za-z])|(?<= e))1[78][0-9]{11}(?![0-9])")


async def make_one_of_each(store: Store) -> None:
    """A queue with all keys that there are; payload and note look like times and are none."""
    await settle(store, await enqueue_and_claim(store, "dead", payload=b"1700000000001"), "bury", note=b"{}")
    await settle(store, await enqueue_and_claim(store, "retrying", payload=LARGE), "retry", note=b'{"type":"e1"}')
    await settle(store, await enqueue_and_claim(store, "done"), "complete", ms=2 * HOUR_MS, note=b'{"r":1}')
    await enqueue_and_claim(store, "running", unique="key", expires="d60000", extra=b'{"timeout_ms":1, "e":" e1"}')
    for name, due in (("scheduled", "d60000"), ("queued", "0"), ("next", "0")):
        await enqueue_one(store, name, due=due, priority=-3)
    await store.watch("queued", "channel")
    tick_ms = await store.server_now_ms()
    await store.declare("daily", "print", tick_ms)
    await store.fire("daily", "print", tick_ms, tick_ms + HOUR_MS, None)
    await store.reclaim()


async def times_of(store: Store) -> dict[bytes, list[int]]:
    """Every time in every key: scores, and what looks like ms of this decade outside of payloads."""
    times: dict[bytes, list[int]] = {}
    for key in await keys(store):
        kind = await command(store, "TYPE", key)
        if kind == b"zset":
            flat = cast("list[bytes]", await command(store, "ZRANGE", key, 0, -1, "WITHSCORES"))
            times[key] = [int(score) for score in flat[1::2]]
        elif kind == b"string":
            value = cast("bytes", await command(store, "GET", key))
            times[key] = [int(found) for found in TIME.findall(value.removesuffix(b"1700000000001"))]
    return times


async def test_every_time_that_is_stored_moves_by_as_much(store: Store) -> None:
    """A time that stayed behind would let a test see what cannot happen."""
    await make_one_of_each(store)
    before = await times_of(store)

    await let_time_pass(store, 30_000)

    after = await times_of(store)
    by_ms = {key: 30_000_000 if key.endswith(b"ready") else 30_000 for key in before}
    gone = {store.base + b"workers"}  # nobody was heard of for ten seconds
    assert set(before) - set(after) == gone
    assert after == {key: [time - by_ms[key] for time in before[key]] for key in before if key not in gone}
    assert sum(map(len, before.values())) > 25


async def test_nothing_but_times_changes(store: Store) -> None:
    await make_one_of_each(store)
    jobs = [name.removeprefix(store.base + b"j:").decode() for name in await keys(store, "j:*")]
    before = {job: TIME.sub(b"", await record_of(store, job)) for job in jobs}
    order, numbers = await members(store, "ready"), await counted(store)

    await let_time_pass(store, 30_000)

    assert {job: TIME.sub(b"", await record_of(store, job)) for job in jobs} == before
    assert (await members(store, "ready"), await counted(store)) == (order, numbers)
    info = await info_of(store, "running")
    assert (info.extra, info.unique) == ({"timeout_ms": 1, "e": " e1"}, "key")
    assert info.expires_at_ms == info.enqueued_at_ms + 60_000


async def test_what_had_little_time_left_goes_and_what_has_no_end_stays(store: Store) -> None:
    await make_one_of_each(store)
    endless = {key for key in await keys(store) if await command(store, "PTTL", key) == -1}
    left_ms = await ttl_ms(store, "j:done")

    await let_time_pass(store, 7_000_000)

    assert await keys(store, "j:done")
    assert left_ms - 7_001_000 < await ttl_ms(store, "j:done") <= left_ms - 7_000_000
    await let_time_pass(store, 14 * 86_400_000)
    counters = set(await keys(store, "m:*"))
    assert set(await keys(store)) == endless | counters


async def test_a_lease_passes(store: Store) -> None:
    await enqueue_and_claim(store, "a")

    await let_time_pass(store, LEASE_MS - 5_000)
    assert (await reclaim(store)).jobs == []
    await let_time_pass(store, 5_000)

    assert [job.id for job in (await reclaim(store)).jobs] == ["a"]


async def test_a_job_falls_due_and_another_expires(store: Store) -> None:
    await store.enqueue([new_job("due", due="d60000"), new_job("late", expires="d60000")])

    await let_time_pass(store, 60_000)

    assert [job.id for job in (await claim(store)).jobs] == ["due"]
    assert await state_of(store, "late") is JobState.EXPIRED


async def test_other_queues_stay_where_they_are(store: Store) -> None:
    """Also one whose name would match as a pattern."""
    other = Store(store.connections, store.namespace, "other")
    asked = Store(store.connections, store.namespace, "oth*r")
    await make_one_of_each(other)
    before = await snapshot(other), await times_of(other)

    await let_time_pass(asked, HOUR_MS)
    await let_time_pass(store, HOUR_MS)

    assert (await snapshot(other), await times_of(other)) == before


async def test_workers_are_forgotten_one_by_one(store: Store) -> None:
    await claim(store, worker=OTHER_WORKER)
    await let_time_pass(store, 6_000)
    await claim(store)

    await let_time_pass(store, 6_000)

    assert [worker.id for worker in await store.workers()] == [WORKER]
    assert await score_of(store, "workers", f"x1 {WORKER}") > await store.server_now_ms()


async def test_a_worker_that_is_gone_is_not_seen_because_another_was_there_later(store: Store) -> None:
    """The enqueue once asked whether anybody was on the list, not until when."""
    await claim(store, worker=OTHER_WORKER)
    await let_time_pass(store, 6_000)
    await claim(store)
    await store.leave(WORKER, WorkerKind.EXTERNAL)
    await let_time_pass(store, 6_000)

    assert not (await store.enqueue([new_job()])).attended


async def test_time_can_be_taken_back(store: Store) -> None:
    """What really passes while a test thinks is not to count."""
    await make_one_of_each(store)
    before, left_ms = await times_of(store), await ttl_ms(store, "j:done")

    await let_time_pass(store, 5_000)
    await let_time_pass(store, -5_000)

    assert await times_of(store) == before
    assert left_ms - 1_000 < await ttl_ms(store, "j:done") <= left_ms
