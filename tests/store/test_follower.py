"""Following jobs: each change is learned, by push while Redis is there, by looking when something was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from arq_web.errors import StoreCorrupt
from arq_web.job import JobInfo, JobState
from arq_web.store import follower as follower_module
from arq_web.store.connection import Connections
from arq_web.store.follower import Follow, Follower
from arq_web.store.record import Note, encode_note
from arq_web.store.reply_channel import ReplyChannel
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import claim, claim_one, command, enqueue_and_claim, enqueue_one, info_of, settle
from tests.support.waiting import wait_until

LIMIT_S = 10.0


@pytest.fixture
def follower(store: Store, monkeypatch: pytest.MonkeyPatch) -> Follower:
    """One that learns by push alone: it looks for itself each hour."""
    monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 3600.0)
    return Follower(ReplyChannel(store.connections, store.namespace))


async def after(follow: Follow) -> JobInfo | None:
    return await asyncio.wait_for(follow.next(), LIMIT_S)


async def state_after(follow: Follow) -> JobState | None:
    info = await after(follow)
    return info.state if info else None


async def is_heard(follower: Follower) -> None:
    """Return when pushes arrive, and what was missed before has been looked for."""
    await wait_until(lambda: follower._replies.is_open and not follower._due, description="pushes arrive")


async def test_a_job_is_told_as_it_is_and_then_after_each_change(follower: Follower, store: Store) -> None:
    await enqueue_one(store, "a")
    with follower.follow(store, "a") as follow:
        assert await state_after(follow) is JobState.QUEUED
        await is_heard(follower)

        job = await claim_one(store)
        assert await state_after(follow) is JobState.RUNNING
        await store.progress("a", job.attempt, job.token, b'{"progress":[0.5,"half"]}')
        info = await after(follow)
        assert info is not None
        assert info.progress is not None
        assert info.progress.fraction == 0.5
        await settle(store, job, "complete", note=b"[1]")

        assert await after(follow) == await info_of(store, "a")


async def test_nothing_new_is_not_told(follower: Follower, store: Store) -> None:
    """Somebody else begins to follow, a lease is renewed, the same progress is said again: all of it is no news."""
    job = await enqueue_and_claim(store, "a")
    with follower.follow(store, "a") as follow, follower.follow(store, "a") as other:
        await store.progress("a", job.attempt, job.token, b"{}")
        assert await after(follow) == await after(other)
        await is_heard(follower)

        await store.watch("a", "channel", follow=True)
        await store.progress("a", job.attempt, job.token, b"{}")
        await wait_until(lambda: not follower._due, description="the hint was followed")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(follow.next(), 0.1)

        await store.cancel("a")
        info = await after(follow)
        assert info is not None
        assert info.cancel_requested


async def test_of_many_each_gets_its_own(follower: Follower, store: Store) -> None:
    """Two follow the same job, and one a job of the same id in another queue."""
    other = Store(store.connections, store.namespace, "other")
    for each, job_id in ((store, "a"), (store, "b"), (other, "a")):
        await enqueue_one(each, job_id)
    with ExitStack() as stack:
        follows = [
            stack.enter_context(follower.follow(each, job_id))
            for each, job_id in ((store, "a"), (store, "a"), (store, "b"), (other, "a"))
        ]
        assert [await state_after(follow) for follow in follows] == [JobState.QUEUED] * 4
        await is_heard(follower)

        await store.cancel("a")
        assert [await state_after(follow) for follow in follows[:2]] == [JobState.CANCELLED] * 2
        await claim_one(other)

        assert await state_after(follows[3]) is JobState.RUNNING
        assert follows[2]._job.version == 1


async def test_a_job_that_is_not_there_or_goes_is_none(follower: Follower, store: Store) -> None:
    await enqueue_one(store, "a")
    await store.cancel("a")
    with follower.follow(store, "gone") as gone, follower.follow(store, "a") as follow:
        assert await after(gone) is None
        assert await state_after(follow) is JobState.CANCELLED

        await command(store, "DEL", store.base + b"j:a")
        follower._missed_some()

        assert await after(follow) is None


async def test_who_comes_later_never_gets_what_is_known_but_what_is_there(follower: Follower, store: Store) -> None:
    """A client that saw the job running elsewhere must not be told that it is queued, because a push was lost here."""
    await enqueue_one(store, "a")
    with follower.follow(store, "a") as first:
        assert await state_after(first) is JobState.QUEUED
        await is_heard(follower)
        await command(store, "DEL", store.base + b"w:a")
        await claim_one(store)

        with follower.follow(store, "a") as second:
            assert await state_after(second) is JobState.RUNNING


async def test_what_a_lost_push_hid_is_found_by_looking(
    follower: Follower, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 0.05)
    await enqueue_one(store, "a")
    with follower.follow(store, "a") as follow:
        await after(follow)
        await command(store, "DEL", store.base + b"w:a")

        await claim_one(store)

        assert await state_after(follow) is JobState.RUNNING


async def test_a_promise_is_renewed_while_somebody_follows(
    follower: Follower, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lasts a minute; a job may take an hour."""
    monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(follower_module, "PROMISE_S", 0.1)
    await enqueue_one(store, "a")
    with follower.follow(store, "a") as follow:
        await after(follow)
        await command(store, "DEL", store.base + b"w:a")

        async def is_promised_again() -> bool:
            return bool(await command(store, "SISMEMBER", store.base + b"w:a", follower._replies.name))

        await wait_until(is_promised_again, description="the job is followed again")


async def test_who_leaves_leaves_nothing_and_takes_nothing_from_others(follower: Follower, store: Store) -> None:
    await enqueue_one(store, "a")
    with follower.follow(store, "a") as patient:
        with follower.follow(store, "a") as impatient:
            assert await after(impatient) == await after(patient)
        await is_heard(follower)
        await store.cancel("a")
        assert await state_after(patient) is JobState.CANCELLED

    assert follower._jobs == {}
    await wait_until(lambda: follower._runner is None, description="nobody looks any more")


async def test_who_is_stopped_waits_no_more_and_may_know_nothing(follower: Follower, store: Store) -> None:
    await enqueue_one(store, "a")
    with follower.follow(store, "a") as follow, follower.follow(store, "a") as new:
        before = await after(follow)
        waiting = asyncio.create_task(follow.next())
        await asyncio.sleep(0)

        follow.stop()
        new.stop()

        assert await asyncio.wait_for(waiting, LIMIT_S) == before
        assert follow.is_stopped
        assert await after(new) == before


@pytest.mark.leaves_keys("a record that somebody broke")
@pytest.mark.parametrize("is_there_before", [True, False])
async def test_what_cannot_be_read_is_an_error_to_who_follows_it(
    follower: Follower, store: Store, *, is_there_before: bool
) -> None:
    await enqueue_one(store, "a")
    await enqueue_one(store, "b")
    with follower.follow(store, "a") as follow, follower.follow(store, "b") as other:
        if is_there_before:
            await after(follow)
            await is_heard(follower)
        await command(store, "SET", store.base + b"j:a", b"q\n1 \xff\n{}")
        follower._look_soon([follow._job])

        with pytest.raises(StoreCorrupt, match="'a'"):
            await after(follow)
        assert await state_after(other) is JobState.QUEUED


async def test_without_the_right_to_subscribe_changes_are_found_by_looking(
    store: Store, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 0.05)
    await command(store, "ACL", "SETUSER", "deaf", "on", ">pw", "~*", "resetchannels", "+@all")
    connections = Connections(RedisTarget.from_url(f"redis://deaf:pw@127.0.0.1:{redis_server.port}/0"))
    deaf = Store(connections, store.namespace, "default")
    follower = Follower(ReplyChannel(connections, store.namespace))
    await enqueue_one(store, "a")
    try:
        with follower.follow(deaf, "a") as follow:
            await after(follow)
            await claim_one(store)
            assert await state_after(follow) is JobState.RUNNING
    finally:
        await connections.aclose()
        await command(store, "ACL", "DELUSER", "deaf")


class TestOverALine:
    """The follower's own connections go through a proxy; the test's do not."""

    @pytest.fixture
    async def proxy(self, redis_server: RedisServer) -> AsyncIterator[Proxy]:
        async with running_proxy(redis_server.port) as proxy:
            yield proxy

    @pytest.fixture
    async def far(self, proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
        monkeypatch.setattr(follower_module, "RETRY_S", 0.02)
        connections = Connections(RedisTarget.from_url(proxy.url), deadline_s=0.3)
        yield Store(connections, namespace, "default")
        await connections.aclose()

    @pytest.fixture
    def far_follower(self, far: Store, monkeypatch: pytest.MonkeyPatch) -> Follower:
        monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 3600.0)
        return Follower(ReplyChannel(far.connections, far.namespace))

    async def test_many_changes_are_read_in_few_round_trips(
        self, far: Store, store: Store, proxy: Proxy, far_follower: Follower
    ) -> None:
        """A progress of each of 300 jobs at once: not 300 commands, and one connection that listens."""
        ids = [f"job-{n}" for n in range(300)]
        for job_id in ids:
            await enqueue_one(store, job_id)
        jobs = (await claim(store, len(ids))).jobs
        with _following(far_follower, far, ids) as follows:
            await asyncio.gather(*map(after, follows))
            await is_heard(far_follower)
            before_count = proxy.request_count

            note = encode_note(Note(reason="halfway"))
            await asyncio.gather(*(store.progress(job.id, job.attempt, job.token, note) for job in jobs))
            found = await asyncio.gather(*map(after, follows))

            assert [info.error.reason for info in found if info and info.error] == ["halfway"] * len(ids)
            assert proxy.request_count - before_count <= 30
            assert proxy.connection_count == 2

    async def test_what_happens_before_the_first_push_can_arrive_is_learned_too(
        self, proxy: Proxy, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first look does not wait for the subscription: it takes another connection, which takes its time."""
        monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 3600.0)
        connections = Connections(RedisTarget.from_url(proxy.url), deadline_s=5)
        slow = Store(connections, store.namespace, "default")
        follower = Follower(ReplyChannel(connections, store.namespace))
        await slow.server_now_ms()
        proxy.delay_s = 0.1
        await enqueue_one(store, "a")
        with follower.follow(slow, "a") as follow:
            await after(follow)
            assert not follower._replies.is_open
            await claim_one(store)

            assert await state_after(follow) is JobState.RUNNING
        await connections.aclose()

    async def test_a_change_during_an_outage_is_learned_after_it(
        self, far: Store, store: Store, proxy: Proxy, far_follower: Follower
    ) -> None:
        await enqueue_one(store, "a")
        with far_follower.follow(far, "a") as follow:
            await after(follow)
            await is_heard(far_follower)

            proxy.refuse()
            await claim_one(store)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(follow.next(), 0.1)
            await proxy.accept()

            assert await state_after(follow) is JobState.RUNNING

    async def test_to_follow_may_begin_while_redis_is_gone(
        self, far: Store, store: Store, proxy: Proxy, far_follower: Follower
    ) -> None:
        await enqueue_one(store, "a")
        proxy.refuse()
        with far_follower.follow(far, "a") as follow:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(follow.next(), 1)
            await proxy.accept()

            assert await state_after(follow) is JobState.QUEUED
            await is_heard(far_follower)
            await claim_one(store)
            assert await state_after(follow) is JobState.RUNNING

    async def test_a_connection_that_is_dead_in_silence_hides_nothing_for_long(
        self, far: Store, store: Store, proxy: Proxy, far_follower: Follower, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing arrives on it, and nobody says that it is gone: the look each two seconds needs no push."""
        monkeypatch.setattr(follower_module, "LOOK_AGAIN_S", 0.05)
        await enqueue_one(store, "a")
        with far_follower.follow(far, "a") as follow:
            await after(follow)
            await is_heard(far_follower)

            proxy.forget()
            await claim_one(store)

            assert await state_after(follow) is JobState.RUNNING

    async def test_connections_that_were_closed_are_replaced(
        self, far: Store, store: Store, far_follower: Follower
    ) -> None:
        """An app that is started twice in one loop, as tests do."""
        await enqueue_one(store, "a")
        with far_follower.follow(far, "a") as follow:
            await after(follow)
            await is_heard(far_follower)

            await far.connections.aclose()
            await is_heard(far_follower)
            await claim_one(store)

            assert await state_after(follow) is JobState.RUNNING


@contextmanager
def _following(follower: Follower, store: Store, ids: list[str]) -> Iterator[list[Follow]]:
    with ExitStack() as stack:
        yield [stack.enter_context(follower.follow(store, job_id)) for job_id in ids]
