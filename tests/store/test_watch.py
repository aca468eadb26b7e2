"""Watching: the record of an ended job, or a promise to publish it when it ends."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from arq_web.job import TERMINAL_STATES, JobState
from arq_web.store.record import read_info
from arq_web.store.store import SettleOutcome, Store
from tests.support.store_helpers import (
    claim_one,
    command,
    end_as,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    info_of,
    keys,
    make_due,
    reclaim,
    record_of,
    settle,
    snapshot,
    ttl_ms,
)
from tests.support.waiting import wait_until


class Listener:
    """What came on one channel."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.heard: list[bytes] = []


@pytest.fixture
async def listener(store: Store, namespace: str) -> Listener:
    listener = Listener(f"{namespace}:reply")
    await store.connections.subscriber().subscribe(listener.channel.encode(), listener.heard.append)
    return listener


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
async def test_the_end_of_a_watched_job_is_published_with_its_record(
    store: Store, listener: Listener, state: JobState
) -> None:
    await enqueue_one(store, "a")
    word, info = await store.watch("a", listener.channel)
    assert (word, info and info.state) == ("watching", JobState.QUEUED)

    await end_as(store, "a", state)

    await wait_until(lambda: listener.heard, description="the end is published")
    [message] = listener.heard
    base, job_id, raw = message.split(b"\n", 2)
    assert (base, job_id, raw) == (store.base, b"a", await record_of(store, "a"))
    assert read_info("a", store.queue, raw).state is state
    assert await keys(store, "w:*") == []


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
async def test_a_job_that_has_ended_is_told_at_once(store: Store, state: JobState) -> None:
    await enqueue_one(store, "a")
    await end_as(store, "a", state)
    before = await snapshot(store)

    word, info = await store.watch("a", "channel")

    assert (word, info) == ("ended", await info_of(store, "a"))
    assert await snapshot(store) == before


async def test_all_who_watch_are_told_and_nobody_else(store: Store, listener: Listener) -> None:
    other = Listener(listener.channel + "-2")
    await store.connections.subscriber().subscribe(other.channel.encode(), other.heard.append)
    await enqueue_one(store, "a")
    await enqueue_one(store, "unwatched")
    await asyncio.gather(store.watch("a", listener.channel), store.watch("a", other.channel))

    await store.cancel("unwatched")
    await store.cancel("a")

    await wait_until(lambda: listener.heard and other.heard, description="both are told")
    assert [message.split(b"\n")[1] for message in listener.heard + other.heard] == [b"a", b"a"]


async def test_a_promise_holds_from_attempt_to_attempt(store: Store, listener: Listener) -> None:
    """The caller waits for the end of the job, not for that of an attempt."""
    job = await enqueue_and_claim(store, "a")
    await store.watch("a", listener.channel)
    await settle(store, job, "retry", 1_000)
    await make_due(store, "a")
    outcomes: tuple[SettleOutcome, ...] = ("snooze", "release", "crash")
    for outcome in outcomes:
        job = await claim_one(store)
        await settle(store, job, outcome, 1_000)
        if outcome == "snooze":
            await make_due(store, "a")
    await claim_one(store)
    await expire_lease(store, "a")
    await reclaim(store)
    assert listener.heard == []

    await settle(store, await claim_one(store), "complete", note=b"1")

    await wait_until(lambda: listener.heard, description="the end is published")


async def test_each_change_of_a_followed_job_is_told_by_a_word(store: Store, listener: Listener) -> None:
    """Its record is read again then; only the end brings the record itself."""
    await enqueue_one(store, "a")
    await enqueue_one(store, "unfollowed", due="d60000")
    await store.watch("unfollowed", listener.channel)
    assert (await store.watch("a", listener.channel, follow=True))[0] == "watching"

    job = await claim_one(store)
    await store.progress("a", job.attempt, job.token, b"{}")
    await store.cancel("a")
    await settle(store, job, "release")

    await wait_until(lambda: len(listener.heard) == 4, description="each change is told")
    assert listener.heard[:3] == [store.base + b"\na"] * 3
    assert listener.heard[3] == store.base + b"\na\n" + await record_of(store, "a")


@pytest.mark.parametrize("outcome", ["retry", "snooze", "release", "crash", "reclaim"])
async def test_a_job_is_followed_from_attempt_to_attempt(store: Store, listener: Listener, outcome: str) -> None:
    job = await enqueue_and_claim(store, "a")
    await store.watch("a", listener.channel, follow=True)
    if outcome == "reclaim":
        await expire_lease(store, "a")
        await reclaim(store)
    else:
        await settle(store, job, cast("SettleOutcome", outcome), 1_000)
    if outcome in ("retry", "snooze"):
        await make_due(store, "a")
    job = await claim_one(store)
    heard_count = {"retry": 3, "snooze": 3}.get(outcome, 2)  # they are promoted before the claim
    await wait_until(lambda: len(listener.heard) == heard_count, description="so far everything is told")

    await store.progress("a", job.attempt, job.token, b"{}")

    await wait_until(lambda: len(listener.heard) == heard_count + 1, description="the progress is told")


async def test_whoever_only_waits_for_the_end_makes_nothing_louder(store: Store, listener: Listener) -> None:
    """Jobs that are waited for are the rule in some apps: their claims and progress cost no message each."""
    job = await enqueue_and_claim(store, "a")
    await store.watch("a", listener.channel)
    await store.progress("a", job.attempt, job.token, b"{}")

    await settle(store, job, "complete", note=b"1")

    await wait_until(lambda: listener.heard, description="the end is told")
    assert len(listener.heard) == 1


async def test_to_follow_tells_nobody(store: Store, listener: Listener) -> None:
    """Nothing that is shown has changed."""
    job = await enqueue_and_claim(store, "a")
    await store.watch("a", listener.channel, follow=True)
    for channel in ("another", "a third"):
        await store.watch("a", channel, follow=True)
    await store.watch("a", channel)

    await settle(store, job, "complete", note=b"1")

    await wait_until(lambda: listener.heard, description="the end is told")
    assert len(listener.heard) == 1


async def test_a_promise_lasts_a_minute_and_is_renewed_by_watching_again(store: Store) -> None:
    """Who waits no longer leaves nothing behind."""
    await enqueue_one(store, "a")
    first = await store.watch("a", "channel")
    await command(store, "PEXPIRE", store.base + b"w:a", 1_000)
    record = await record_of(store, "a")

    second = await store.watch("a", "channel")

    assert (first[0], second[0]) == ("watching", "watching")
    assert 59_000 < await ttl_ms(store, "w:a") <= 60_000
    assert await command(store, "SCARD", store.base + b"w:a") == 1
    assert (await record_of(store, "a"), await ttl_ms(store, "j:a")) == (record, -1)


async def test_watching_changes_nothing_that_others_see(store: Store) -> None:
    for job_id, due in (("queued", "0"), ("scheduled", "d60000")):
        await enqueue_one(store, job_id, due=due)
        before = await info_of(store, job_id)

        await store.watch(job_id, "channel")

        assert await info_of(store, job_id) == before


async def test_a_cancellation_that_was_asked_for_survives_a_watch(store: Store) -> None:
    await enqueue_and_claim(store, "a")
    await store.cancel("a")
    await store.watch("a", "channel")

    assert (await info_of(store, "a")).cancel_requested


async def test_a_watched_job_whose_watchers_are_forgotten_still_ends(store: Store) -> None:
    await enqueue_one(store, "a")
    await store.watch("a", "channel")
    await command(store, "DEL", store.base + b"w:a")
    await command(store, "SET", store.base + b"w:a", "not a set", "PX", 60_000)

    assert await store.cancel("a") == "cancelled"
    assert await keys(store, "w:*") == []


@pytest.mark.leaves_keys("a foreign key in the place of a record")
@pytest.mark.parametrize("garbage", ["nothing", "text", "list"])
async def test_what_is_no_job_is_absent(store: Store, garbage: str) -> None:
    if garbage == "text":
        await command(store, "SET", store.base + b"j:a", "something else")
    if garbage == "list":
        await command(store, "RPUSH", store.base + b"j:a", "something else")
    before = await keys(store)

    assert await store.watch("a", "channel") == ("absent", None)
    assert await keys(store) == before
