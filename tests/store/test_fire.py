"""Firing a tick: exactly one job, whoever asks, however often, and the schedule moves on."""

from __future__ import annotations

import asyncio

import pytest

from arq_web.job import JobState
from arq_web.store.store import FireReply, Store
from tests.support.store_helpers import (
    HOUR_MS,
    claim_one,
    command,
    counted,
    end_as,
    enqueue_one,
    info_of,
    is_woken,
    keys,
    members,
    new_job,
    settle,
    snapshot,
    ttl_ms,
)

WEEK_MS = 7 * 86_400_000
TICK_MS = 1_763_640_000_000
"""In the past."""
NEXT_MS = TICK_MS + HOUR_MS


@pytest.fixture
async def declared(store: Store) -> Store:
    await store.declare("nightly", "spec", TICK_MS)
    return store


async def test_a_tick_whose_time_has_come_makes_its_job(declared: Store) -> None:
    reply = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick", payload=b"[1]", priority=1))

    info = await info_of(declared, "tick")
    assert (reply.outcome, reply.tick_ms, reply.job_id) == ("fired", NEXT_MS, "tick")
    assert (info.state, info.payload, info.priority) == (JobState.QUEUED, b"[1]", 1)
    assert await _stored_tick(declared) == NEXT_MS
    assert WEEK_MS - 5_000 < await ttl_ms(declared, "s:nightly") <= WEEK_MS
    assert await is_woken(declared)
    assert await counted(declared) == {"enqueued": 1}


async def test_a_tick_fires_only_when_its_time_has_come(store: Store) -> None:
    """By the clock of Redis: a host whose clock is ahead must not fire early."""
    tick_ms = await store.server_now_ms() + HOUR_MS
    await store.declare("nightly", "spec", tick_ms)
    before = await snapshot(store)

    reply = await store.fire("nightly", "spec", tick_ms, tick_ms + HOUR_MS, new_job("tick"))

    assert (reply.outcome, reply.tick_ms) == ("early", tick_ms)
    assert await snapshot(store) == before


async def test_of_many_processes_one_fires(declared: Store) -> None:
    replies = await asyncio.gather(
        *(declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick")) for _ in range(5))
    )

    assert sorted(reply.outcome for reply in replies) == ["fired", "moved", "moved", "moved", "moved"]
    assert {reply.tick_ms for reply in replies} == {NEXT_MS}
    assert await members(declared, "ready") == ["tick"]
    assert await counted(declared) == {"enqueued": 1}


async def test_a_process_that_comes_late_learns_the_next_tick(declared: Store) -> None:
    await _fire(declared, TICK_MS, NEXT_MS)
    await _fire(declared, NEXT_MS, NEXT_MS + HOUR_MS)
    before = await snapshot(declared)

    reply = await _fire(declared, TICK_MS, NEXT_MS)

    assert (reply.outcome, reply.tick_ms) == ("moved", NEXT_MS + HOUR_MS)
    assert await snapshot(declared) == before


@pytest.mark.parametrize("ended", [False, True])
async def test_the_same_request_sent_again_gives_the_same_answer(declared: Store, ended: bool) -> None:
    new = new_job("tick")
    first = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new)
    if ended:
        await end_as(declared, "tick", JobState.SUCCEEDED)
    before = await snapshot(declared)

    second = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new)

    assert _without_time(first) == _without_time(second) == ("fired", NEXT_MS, "tick")
    assert await snapshot(declared) == before


async def test_a_skipped_tick_moves_on_without_a_job(declared: Store) -> None:
    reply = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, None)
    again = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, None)
    other = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, None, asker="another process")

    assert _without_time(reply) == _without_time(again) == ("fired", NEXT_MS, "")
    assert _without_time(other) == ("moved", NEXT_MS, "")
    assert await members(declared, "ready") == []


async def test_a_job_comes_too_late_for_a_tick_that_was_skipped(declared: Store) -> None:
    """Whoever skipped it: it is not told that its job was made."""
    await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, None, asker="one")

    late = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick"), asker="another")
    again = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick"), asker="one")

    assert _without_time(late) == _without_time(again) == ("moved", NEXT_MS, "")
    assert await members(declared, "ready") == []


async def test_a_tick_is_skipped_while_the_job_of_an_earlier_one_lives(declared: Store) -> None:
    """``overlap="skip"``: all ticks share a unique key, and the answer names the job that holds it."""
    await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick-1", unique="cron:nightly"))
    second = new_job("tick-2", unique="cron:nightly")

    skipped = await declared.fire("nightly", "spec", NEXT_MS, NEXT_MS + 1, second)
    again = await declared.fire("nightly", "spec", NEXT_MS, NEXT_MS + 1, second)
    await settle(declared, await claim_one(declared), "complete")
    third = await declared.fire("nightly", "spec", NEXT_MS + 1, NEXT_MS + 2, new_job("tick-3", unique="cron:nightly"))

    assert _without_time(skipped) == _without_time(again) == ("fired", NEXT_MS + 1, "tick-1")
    assert third.job_id == "tick-3"
    assert await declared.read("tick-2") is None


async def test_only_a_process_that_knows_the_declared_spec_fires(declared: Store) -> None:
    """While two versions of an app run side by side, one of them is right."""
    before = await snapshot(declared)

    reply = await declared.fire("nightly", "other-spec", TICK_MS, NEXT_MS, new_job("tick"))

    assert _without_time(reply) == ("foreign", TICK_MS, "")
    assert await snapshot(declared) == before


async def test_what_is_not_declared_does_not_fire(store: Store) -> None:
    reply = await store.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick"))

    assert _without_time(reply) == ("absent", 0, "")
    assert await keys(store) == []


async def test_a_tick_whose_job_id_belongs_to_another_task_stays_and_says_so(declared: Store) -> None:
    """Nothing is written: the tick is not lost when the other job has gone."""
    await enqueue_one(declared, "tick", task="other.task")
    before = await snapshot(declared)

    reply = await declared.fire("nightly", "spec", TICK_MS, NEXT_MS, new_job("tick"))

    assert _without_time(reply) == ("conflict", TICK_MS, "other.task")
    assert await snapshot(declared) == before


async def test_a_tick_far_in_the_future_can_be_stored(declared: Store) -> None:
    far_ms = TICK_MS + 50 * 366 * 86_400_000

    await _fire(declared, TICK_MS, far_ms)

    assert await _stored_tick(declared) == far_ms


async def _fire(store: Store, tick_ms: int, next_tick_ms: int) -> FireReply:
    return await store.fire("nightly", "spec", tick_ms, next_tick_ms, new_job(f"tick-{tick_ms}"))


async def _stored_tick(store: Store) -> int:
    raw = await command(store, "GET", store.base + b"s:nightly")
    assert isinstance(raw, bytes)
    return int(raw.split(b" ")[0])


def _without_time(reply: FireReply) -> tuple[str, int, str]:
    return reply.outcome, reply.tick_ms, reply.job_id
