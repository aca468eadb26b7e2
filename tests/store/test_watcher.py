"""Waiting for results: by push while Redis is there, by looking again when something was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from arq_web.errors import StoreCorrupt
from arq_web.job import JobInfo, JobState
from arq_web.store import watcher as watcher_module
from arq_web.store.connection import Connections
from arq_web.store.reply_channel import ReplyChannel
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget
from arq_web.store.watcher import Watcher
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import (
    claim_one,
    command,
    enqueue_and_claim,
    enqueue_one,
    info_of,
    settle,
)
from tests.support.waiting import wait_until

DEADLINE_S = 0.3


@pytest.fixture
def watcher(store: Store) -> Watcher:
    return Watcher(ReplyChannel(store.connections, store.namespace))


async def waiting(watcher: Watcher, store: Store, job_id: str) -> asyncio.Task[JobInfo | None]:
    """Wait in the background; returns when Redis has promised to publish."""
    task = asyncio.create_task(watcher.wait(store, job_id))
    key = store.base + b"w:" + job_id.encode()

    async def is_promised() -> bool:
        return bool(await command(store, "SISMEMBER", key, watcher._replies.name))

    await wait_until(is_promised, description="the job is watched")
    return task


async def test_the_end_of_a_job_is_pushed_to_who_waits(watcher: Watcher, store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    task = await waiting(watcher, store, "a")

    await settle(store, job, "complete", note=b"[1]")

    info = await asyncio.wait_for(task, 10)
    assert info == await info_of(store, "a")
    assert info is not None
    assert info.result == b"[1]"


async def test_a_job_that_has_ended_is_returned_at_once_and_one_that_is_gone_as_none(
    watcher: Watcher, store: Store
) -> None:
    await enqueue_one(store, "a")
    await store.cancel("a")

    ended, gone = await asyncio.wait_for(asyncio.gather(watcher.wait(store, "a"), watcher.wait(store, "gone")), 10)

    assert ended is not None
    assert (ended.state, gone) == (JobState.CANCELLED, None)


async def test_many_wait_and_each_gets_its_own(watcher: Watcher, store: Store) -> None:
    """Two for the same job, and one for a job of the same id in another queue."""
    other = Store(store.connections, store.namespace, "other")
    for each, job_id in ((store, "a"), (store, "b"), (other, "a")):
        await enqueue_one(each, job_id)
    tasks = [
        await waiting(watcher, each, job_id)
        for each, job_id in ((store, "a"), (store, "a"), (store, "b"), (other, "a"))
    ]

    await store.cancel("a")
    first = await asyncio.wait_for(asyncio.gather(*tasks[:2]), 10)
    assert not tasks[2].done()
    assert not tasks[3].done()
    await store.cancel("b")
    await settle(other, await claim_one(other), "complete")

    rest = await asyncio.wait_for(asyncio.gather(*tasks[2:]), 10)
    found = [(info.queue, info.id, info.state) for info in [*first, *rest] if info]
    assert found == [
        ("default", "a", JobState.CANCELLED),
        ("default", "a", JobState.CANCELLED),
        ("default", "b", JobState.CANCELLED),
        ("other", "a", JobState.SUCCEEDED),
    ]


async def test_who_gives_up_leaves_nothing_and_takes_nothing_from_others(watcher: Watcher, store: Store) -> None:
    await enqueue_one(store, "a")
    impatient, patient = await waiting(watcher, store, "a"), await waiting(watcher, store, "a")

    impatient.cancel()
    await asyncio.wait({impatient})
    await store.cancel("a")

    assert await asyncio.wait_for(patient, 10)
    assert watcher._waiting == {}


async def test_a_promise_is_renewed_while_somebody_waits(
    watcher: Watcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lasts a minute; a job may take an hour."""
    monkeypatch.setattr(watcher_module, "REWATCH_S", 0.02)
    await enqueue_one(store, "a")
    task = await waiting(watcher, store, "a")
    await command(store, "DEL", store.base + b"w:a")

    async def is_promised_again() -> bool:
        return bool(await command(store, "EXISTS", store.base + b"w:a"))

    await wait_until(is_promised_again, description="the job is watched again")
    task.cancel()


async def test_an_end_whose_message_was_lost_is_found_by_looking_again(
    watcher: Watcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "REWATCH_S", 0.02)
    await enqueue_one(store, "a")
    task = await waiting(watcher, store, "a")

    await command(store, "DEL", store.base + b"w:a")
    await store.cancel("a")

    assert await asyncio.wait_for(task, 10)


@pytest.mark.leaves_keys("a record that somebody broke")
async def test_what_cannot_be_read_is_an_error_and_no_endless_wait(watcher: Watcher, store: Store) -> None:
    """Also when it is pushed: it is looked at once more, then named."""
    await command(store, "SET", store.base + b"j:a", b"q\n1 \xff\n{}")

    with pytest.raises(StoreCorrupt, match="'a'"):
        await asyncio.wait_for(watcher.wait(store, "a"), 10)
    await enqueue_one(store, "b")
    task = await waiting(watcher, store, "b")
    await command(store, "SET", store.base + b"j:b", b"d\n1 \xff\n{}")
    await command(store, "PUBLISH", watcher._replies.name, store.base + b"\nb\nd\n1 \xff\n{}")

    with pytest.raises(StoreCorrupt, match="'b'"):
        await asyncio.wait_for(task, 10)


class TestWhenTheConnectionIsBad:
    """The watcher's own connections go through a proxy; the test's do not."""

    @pytest.fixture
    async def proxy(self, redis_server: RedisServer) -> AsyncIterator[Proxy]:
        async with running_proxy(redis_server.port) as proxy:
            yield proxy

    @pytest.fixture
    async def far(self, proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
        monkeypatch.setattr(watcher_module, "RETRY_S", 0.02)
        connections = Connections(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S)
        yield Store(connections, namespace, "default")
        await connections.aclose()

    async def test_an_end_during_an_outage_is_learned_after_it(self, far: Store, store: Store, proxy: Proxy) -> None:
        """What was published meanwhile is not said twice."""
        watcher = Watcher(ReplyChannel(far.connections, far.namespace))
        await enqueue_one(store, "a")
        task = asyncio.create_task(watcher.wait(far, "a"))
        await _until_promised(store, watcher)

        proxy.refuse()
        await store.cancel("a")
        await proxy.accept()

        info = await asyncio.wait_for(task, 20)
        assert info is not None
        assert info.state is JobState.CANCELLED

    async def test_waiting_may_begin_while_redis_is_gone(self, far: Store, store: Store, proxy: Proxy) -> None:
        """The caller sets the limit, not the outage."""
        watcher = Watcher(ReplyChannel(far.connections, far.namespace))
        await enqueue_one(store, "a")
        proxy.refuse()
        task = asyncio.create_task(watcher.wait(far, "a"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.wait(far, "a"), 2 * DEADLINE_S)

        await proxy.accept()
        await _until_promised(store, watcher)
        await store.cancel("a")

        assert await asyncio.wait_for(task, 20)

    async def test_connections_that_were_closed_are_replaced(self, far: Store, store: Store) -> None:
        """An app that is started twice in one loop, as tests do, keeps its watcher."""
        watcher = Watcher(ReplyChannel(far.connections, far.namespace))
        await enqueue_one(store, "a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.wait(far, "a"), 0.05)
        await far.connections.aclose()

        task = asyncio.create_task(watcher.wait(far, "a"))
        await _until_promised(store, watcher, subscribed=True)
        await store.cancel("a")

        assert await asyncio.wait_for(task, 10)


async def _until_promised(store: Store, watcher: Watcher, *, subscribed: bool = False) -> None:
    async def is_promised() -> bool:
        if subscribed:
            count = await command(store, "PUBSUB", "NUMSUB", watcher._replies.name)
            assert isinstance(count, list)
            return count[1] == 1
        return bool(await command(store, "SISMEMBER", store.base + b"w:a", watcher._replies.name))

    await wait_until(is_promised, description="the job is watched")


async def test_who_waits_when_the_connections_are_closed_waits_on_over_others(watcher: Watcher, store: Store) -> None:
    """Not only at the next look, half a minute later: until then nothing would be heard."""
    job = await enqueue_and_claim(store, "a")
    task = await waiting(watcher, store, "a")

    await store.connections.aclose()
    await settle(store, job, "complete")

    info = await asyncio.wait_for(task, 10)
    assert info is not None
    assert info.state is JobState.SUCCEEDED
