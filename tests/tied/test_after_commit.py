"""``queue.after_commit(session)``: enqueued after the commit, dropped by a rollback; savepoints count."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_async
from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from arq_web import Config, Hub, JobState, Queue, task
from arq_web.errors import JobIdConflict, NothingToTieTo, NotSerializable
from arq_web.sync_queue import SyncQueue
from tests.support.event_log import listening
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.tied.conftest import Base, Row


@task(name="tied.count")
async def count(number: int) -> int:
    return number


@task(name="tied.other")
async def other(number: int) -> int:
    return number


@task(name="tied.anything")
async def anything(value: Any) -> None: ...


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    hub = Hub(
        url=redis_url, tasks=[count, other, anything], queues=["default", "emails"], config=Config(namespace=namespace)
    )
    yield hub
    for name in hub.queue_names:
        for job_id in await ids(hub, name):
            await hub.queue(name).job(job_id).cancel()
    await hub.aclose()


@pytest.fixture
def queue(hub: Hub) -> Queue:
    return hub.queue()


async def ids(hub: Hub, name: str = "default") -> list[str]:
    """The queued jobs, in their order."""
    store = hub.queue(name).store
    found = await store.connections.get().execute("ZRANGE", store.base + b"ready", 0, -1)
    assert isinstance(found, list)
    return [each.decode() for each in found if isinstance(each, bytes)]


async def test_a_job_is_enqueued_when_the_commit_has_returned(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """Its id is known before, and whoever commits can count on it."""
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        pending = queue.after_commit(session).enqueue(count, 1)
        before = (pending.fate, pending.created, await ids(hub))

        await session.commit()

        assert before == ("waiting", None, [])
        assert (pending.fate, pending.created, await ids(hub)) == ("enqueued", True, [pending.id])
        assert await queue.job(pending.id, count).status() is JobState.QUEUED


async def test_a_rollback_drops_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        pending = queue.after_commit(session).enqueue(count, 1)

        await session.rollback()
        await session.commit()

    assert (pending.fate, await ids(hub)) == ("dropped", [])


async def test_a_session_that_is_closed_without_a_commit_drops_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """Nothing was committed, and nobody rolled back: the connection did."""
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        await session.flush()
        pending = queue.after_commit(session).enqueue(count, 1)

    assert (pending.fate, await ids(hub)) == ("dropped", [])


async def test_a_commit_that_fails_drops_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """The database refused: there is no row for the job."""
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        await session.commit()
        session.add(Row(text="a"))
        pending = queue.after_commit(session).enqueue(count, 1)

        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()

    assert (pending.fate, await ids(hub)) == ("dropped", [])


async def test_the_next_transaction_of_a_session_begins_anew(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """What one dropped or sent is not the next one's."""
    async with AsyncSession(engine) as session:
        fates = []
        for end in (session.commit, session.rollback, session.commit):
            pending = queue.after_commit(session).enqueue(count, 1)
            await end()
            fates.append(pending.fate)

    assert fates == ["enqueued", "dropped", "enqueued"]
    assert len(await ids(hub)) == 2


@pytest.mark.parametrize("begin", ["by hand", "block", "autobegin"])
async def test_however_the_transaction_began(engine: AsyncEngine, hub: Hub, queue: Queue, begin: str) -> None:
    async with AsyncSession(engine) as session:
        if begin == "block":
            async with session.begin():
                pending = queue.after_commit(session).enqueue(count, 1)
        else:
            if begin == "by hand":
                _ = await session.begin()
            pending = queue.after_commit(session).enqueue(count, 1)  # as the first of all: it begins one, as add() does
            await session.commit()

    assert await ids(hub) == [pending.id]


async def test_a_block_that_raises_drops_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    async def fail() -> None:
        async with AsyncSession(engine) as session, session.begin():
            queue.after_commit(session).enqueue(count, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await ids(hub) == []


async def test_a_savepoint_that_is_rolled_back_drops_its_own(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """Those before it, those after it, and those of one that was released stay, in their order."""
    async with AsyncSession(engine) as session, session.begin():
        tie = queue.after_commit(session)
        kept = [tie.enqueue(count, 1)]
        bad = await session.begin_nested()
        dropped = tie.enqueue(count, 2)
        await bad.rollback()
        async with session.begin_nested():
            kept.append(tie.enqueue(count, 3))
            async with session.begin_nested():
                kept.append(tie.enqueue(count, 4))
        kept.append(tie.enqueue(count, 5))

    assert dropped.fate == "dropped"
    assert await ids(hub) == [pending.id for pending in kept]


async def test_a_savepoint_is_part_of_what_is_around_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """Released, and then rolled back with the savepoint around it; and released, and then with all of it."""
    async with AsyncSession(engine) as session:
        around = await session.begin_nested()
        async with session.begin_nested():
            inner = queue.after_commit(session).enqueue(count, 1)
        await around.rollback()
        async with session.begin_nested():
            outer = queue.after_commit(session).enqueue(count, 2)
        await session.rollback()

    assert (inner.fate, outer.fate, await ids(hub)) == ("dropped", "dropped", [])


async def test_a_flush_that_fails_in_a_savepoint_drops_its_own(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """The usual "try to insert it": the other rows are committed, and so are the other jobs sent."""
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        first = queue.after_commit(session).enqueue(count, 1)
        savepoint = await session.begin_nested()
        session.add(Row(text="a"))
        second = queue.after_commit(session).enqueue(count, 2)
        with pytest.raises(IntegrityError):
            await session.flush()
        await savepoint.rollback()
        await session.commit()

    assert (second.fate, await ids(hub)) == ("dropped", [first.id])


async def test_a_commit_with_a_savepoint_open_releases_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        _ = await session.begin_nested()
        pending = queue.after_commit(session).enqueue(count, 1)
        await session.commit()

    assert await ids(hub) == [pending.id]


async def test_all_of_a_transaction_leaves_in_one_round_trip(
    engine: AsyncEngine, hub: Hub, queue: Queue, redis: redis_async.Redis
) -> None:
    """A hundred jobs cost what one does; each further queue costs one script more, at the same time."""
    await hub.queue().store.server_now_ms()
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        before = await scripts_run(redis)
        pending = [queue.after_commit(session).enqueue(count, n) for n in range(99)]
        pending += queue.after_commit(session).enqueue_many([count.call(99)])
        mail = queue.after_commit(session).enqueue(count.options(queue="emails"), 1)
        await session.commit()

    assert await scripts_run(redis) - before == 2
    assert await ids(hub) == [each.id for each in pending]
    assert await ids(hub, "emails") == [mail.id]


async def test_options_are_those_of_any_enqueue(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """A delay counts from the commit on; an id that exists answers for itself."""
    existing = await queue.enqueue(count.options(id="known"), 1)
    async with AsyncSession(engine) as session:
        tie = queue.after_commit(session)
        later = tie.enqueue(count.options(delay=600, priority=3), 1)
        known = tie.enqueue(count.options(id="known"), 1)
        first = tie.enqueue(count.options(unique="key"), 1)
        second = tie.enqueue(count.options(unique="key"), 2)
        await session.commit()

    info = await queue.job(later.id).info()
    assert (info.state, info.priority) == (JobState.SCHEDULED, 3)
    assert info.due_at_ms == info.enqueued_at_ms + 600_000
    assert (known.id, known.created) == (existing.id, False)
    assert (second.id, second.created, first.created) == (first.id, False, True)
    await queue.job(later.id).cancel()


async def test_arguments_are_checked_at_the_call(engine: AsyncEngine, queue: Queue) -> None:
    """After the commit nobody could be told."""
    async with AsyncSession(engine) as session:
        tie: Any = queue.after_commit(session)
        with pytest.raises(NotSerializable):
            tie.enqueue(anything, object())


async def test_values_are_those_of_the_call(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """What is changed before the commit is not what was enqueued."""
    numbers = [1]
    async with AsyncSession(engine) as session:
        pending = queue.after_commit(session).enqueue(anything, numbers)
        numbers.append(2)
        await session.commit()

    assert (await queue.job(pending.id).info(with_payload=True)).payload == b'{"value$":[1]}'


async def test_one_that_conflicts_does_not_take_the_others_along(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """All or none is for those who can still be told."""
    await queue.enqueue(other.options(id="taken"), 1)
    async with AsyncSession(engine) as session:
        tie = queue.after_commit(session)
        with listening("queue") as log:
            first = tie.enqueue(count, 1)
            bad = tie.enqueue(count.options(id="taken"), 2)
            last = tie.enqueue(count, 3)
            await session.commit()

    assert (bad.fate, type(bad.error)) == ("failed", JobIdConflict)
    assert [fields["job"] for fields in log.of("enqueue.failed")] == ["taken"]
    assert await ids(hub) == ["taken", first.id, last.id]


async def test_a_full_queue_refuses_nothing_that_is_committed(
    engine: AsyncEngine, redis_url: str, namespace: str
) -> None:
    """``max_queued`` is for callers who can come again."""
    hub = Hub(url=redis_url, tasks=[count], config=Config(namespace=namespace), max_queued=1)
    async with AsyncSession(engine) as session:
        pending = [hub.queue().after_commit(session).enqueue(count, n) for n in range(3)]
        await session.commit()

    assert [each.fate for each in pending] == ["enqueued"] * 3
    for job_id in await ids(hub):
        await hub.queue().job(job_id).cancel()
    await hub.aclose()


async def test_the_commit_stands_when_redis_is_away(engine: AsyncEngine, namespace: str) -> None:
    """An error from ``commit()`` would say that there is no row. It is logged, and the handle says it."""
    config = Config(namespace=namespace, command_deadline_s=0.05)
    hub = Hub(url=f"redis://127.0.0.1:{free_port()}/0", tasks=[count], config=config)
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        pending = hub.queue().after_commit(session).enqueue(count, 1)
        with listening("queue") as log:
            await session.commit()
        rows = (await session.scalars(select(Row.text))).all()
    await hub.aclose()

    [fields] = log.of("enqueue.failed")
    assert (rows, pending.fate) == (["a"], "failed")
    assert "StoreUnavailable" in str(type(pending.error))
    assert (fields["job"], fields["task"], fields["after"]) == (pending.id, "tied.count", "commit")


@pytest.mark.parametrize("moment", ["closing", "sending"])
async def test_a_commit_that_is_cancelled_sends_all_the_same(
    engine: AsyncEngine, redis_url: str, namespace: str, redis: redis_async.Redis, moment: str
) -> None:
    """A client that hangs up while its request waits for Redis: the row is there, so must the job be."""
    hub = Hub(url=redis_url, tasks=[count], config=Config(namespace=namespace))
    await hub.queue().store.server_now_ms()
    async with AsyncSession(engine) as session:
        session.add(Row(text="a"))
        await session.flush()
        ends: list[object] = []
        event.listen(session.sync_session, "after_commit", ends.append)
        if moment == "sending":
            event.listen(session.sync_session, "after_transaction_end", lambda _, ended: ends.append(ended))
        pending = hub.queue().after_commit(session).enqueue(count, 1)
        await redis.client_pause(300)
        committing = asyncio.create_task(session.commit())
        await wait_until(lambda: len(ends) == (2 if moment == "sending" else 1), description="the commit is done")
        committing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await committing
        await wait_until(lambda: pending.fate == "enqueued", description="the job is sent")

    assert committing.cancelled() or moment == "closing"
    assert await ids(hub) == [pending.id]
    await hub.queue().job(pending.id).cancel()
    await hub.aclose()


async def test_many_sessions_at_once_do_not_mix(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """Half of them roll back; no job of those is there, and all of the others are, however they interleave."""

    async def one(number: int) -> str | None:
        async with AsyncSession(engine) as session:
            await session.execute(select(Row))
            pending = queue.after_commit(session).enqueue(count, number)
            await asyncio.sleep(0)
            await (session.commit() if number % 2 else session.rollback())
            assert pending.fate == ("enqueued" if number % 2 else "dropped")
            return pending.id if number % 2 else None

    made = await asyncio.gather(*(one(number) for number in range(40)))

    assert set(await ids(hub)) == {job_id for job_id in made if job_id}


async def test_scoped_sessions_are_sessions(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
    pending = queue.after_commit(scoped).enqueue(count, 1)
    await scoped.commit()
    await scoped.remove()

    assert await ids(hub) == [pending.id]


async def test_what_is_no_session_is_refused(queue: Queue) -> None:
    nothing: Any = {}
    with pytest.raises(NothingToTieTo, match="dict is no session"):
        queue.after_commit(nothing)


async def test_a_session_that_begins_nothing_by_itself_must_have_begun(engine: AsyncEngine, queue: Queue) -> None:
    """As it would refuse an ``execute``."""
    async with AsyncSession(engine, autobegin=False) as session:
        with pytest.raises(NothingToTieTo, match=r"session\.begin\(\)"):
            queue.after_commit(session).enqueue(count, 1)


async def test_a_session_is_not_kept_by_what_waited_in_it(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """One for each request: a leak would be the end of a web process."""
    sessions = []
    for _ in range(3):
        async with AsyncSession(engine) as session:
            queue.after_commit(session).enqueue(count, 1)
            await session.commit()
        sessions.append(weakref.ref(session.sync_session))
        del session
    gc.collect()

    assert [each() for each in sessions] == [None] * 3


# -- sync sessions ------------------------------------------------------------------------


@pytest.fixture
def make_session(tmp_path: Path) -> Iterator[Callable[[], Session]]:
    engine = create_engine(f"sqlite:///{tmp_path / 'sync.sqlite'}")
    Base.metadata.create_all(engine)
    yield sessionmaker(engine)
    engine.dispose()


async def test_in_a_thread_the_commit_returns_when_the_job_is_enqueued(
    make_session: Callable[[], Session], hub: Hub, queue: Queue
) -> None:
    """A ``def`` route, with the queue of threads."""
    sync_queue = SyncQueue(queue, asyncio.get_running_loop())

    def route() -> list[str]:
        with make_session() as session:
            session.add(Row(text="a"))
            pending = sync_queue.after_commit(session).enqueue(count, 1)
            session.commit()
            first = pending.fate
            dropped = sync_queue.after_commit(session).enqueue(count, 2)
            session.rollback()
            return [first, dropped.fate, pending.id]

    first, second, job_id = await asyncio.to_thread(route)

    assert (first, second, await ids(hub)) == ("enqueued", "dropped", [job_id])


async def test_a_dependency_may_commit_in_another_thread_than_the_route(
    make_session: Callable[[], Session], hub: Hub, queue: Queue
) -> None:
    """FastAPI closes a ``def`` dependency in a thread, though its route is async."""
    session = make_session()
    pending = queue.after_commit(session).enqueue(count, 1)

    await asyncio.to_thread(session.commit)

    assert (pending.fate, await ids(hub)) == ("enqueued", [pending.id])
    await asyncio.to_thread(session.close)


async def test_a_sync_session_on_the_loops_own_thread_sends_right_after(
    make_session: Callable[[], Session], hub: Hub, queue: Queue
) -> None:
    """Its commit cannot wait for a loop that it stands in the way of."""
    with make_session() as session:
        session.add(Row(text="a"))
        pending = queue.after_commit(session).enqueue(count, 1)
        session.commit()

    fate = pending.fate
    await wait_until(lambda: pending.fate == "enqueued", description="the job is sent")
    assert (fate, await ids(hub)) == ("waiting", [pending.id])


async def test_what_is_on_its_way_is_sent_before_the_app_ends(
    make_session: Callable[[], Session], redis_url: str, namespace: str
) -> None:
    """Nobody awaits it but the end of the hub."""
    hub = Hub(url=redis_url, tasks=[count], config=Config(namespace=namespace))
    with make_session() as session:
        pending = hub.queue().after_commit(session).enqueue(count, 1)
        session.commit()
    await hub.aclose()

    assert pending.fate == "enqueued"
    await hub.queue().job(pending.id).cancel()
    await hub.aclose()


async def test_a_queue_in_a_thread_says_which_one_to_ask_for(make_session: Callable[[], Session], queue: Queue) -> None:
    with pytest.raises(NothingToTieTo, match="SyncQueue"):
        await asyncio.to_thread(queue.after_commit, make_session())


def test_a_loop_that_has_ended_loses_the_job_and_says_so(
    make_session: Callable[[], Session], redis_url: str, namespace: str
) -> None:
    """The app has ended, a thread of it has not."""

    async def ended_app() -> SyncQueue:
        hub = Hub(url=redis_url, tasks=[count], config=Config(namespace=namespace))
        return SyncQueue(hub.queue(), asyncio.get_running_loop())

    sync_queue = asyncio.run(ended_app())
    with make_session() as session, listening("queue") as log:
        pending = sync_queue.after_commit(session).enqueue(count, 1)
        session.commit()

    assert pending.fate == "failed"
    assert "does not run any more" in log.of("enqueue.failed")[0]["error"]


async def test_a_sync_function_inside_an_async_session(engine: AsyncEngine, hub: Hub, queue: Queue) -> None:
    """``run_sync`` gives the session underneath: its commit waits, as the async one does."""

    def inside(session: Session) -> str:
        pending = queue.after_commit(session).enqueue(count, 1)
        session.commit()
        return pending.fate

    async with AsyncSession(engine) as session:
        assert await session.run_sync(inside) == "enqueued"


async def test_a_scoped_session_of_threads(make_session: Any, hub: Hub, queue: Queue) -> None:
    scoped = scoped_session(make_session)
    pending = queue.after_commit(scoped).enqueue(count, 1)
    await asyncio.to_thread(scoped().commit)
    scoped.remove()

    assert await ids(hub) == [pending.id]


async def scripts_run(redis: redis_async.Redis) -> int:
    """How often Redis has run a script, on behalf of anybody."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
