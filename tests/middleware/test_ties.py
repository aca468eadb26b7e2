"""Enqueues that are tied to something: the layers are passed at the call, where nothing can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from arq_web import Hub, OutgoingJob, PendingJob, Queue, SyncQueue
from arq_web.errors import InvalidMiddleware
from arq_web.outbox import Outbox, outbox_table
from arq_web.tied.response import awaiting_response
from arq_web.tied.tie import Tie
from tests.middleware import tasks
from tests.middleware.conftest import MakeHub
from tests.middleware.layers import Noting, Switch, acting_for, with_tenant
from tests.support.store_helpers import members
from tests.support.waiting import wait_until
from tests.support.working import working

Next = Callable[[OutgoingJob], Awaitable[Any]]
metadata = MetaData()
table = outbox_table(metadata)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}", poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield engine
    await engine.dispose()


async def run(hub: Hub, pending: PendingJob[Any]) -> tuple[str, dict[str, str]]:
    """What it came to, and its headers."""
    async with working(hub):
        job = hub.queue().job(pending.id, tasks.greet)
        return await job.result(10), dict((await job.info()).headers)


async def test_after_response(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[with_tenant])
    with awaiting_response() as awaited:
        with acting_for("acme"):
            pending = hub.queue().after_response.enqueue(tasks.greet, "ada")
        await awaited.send()

    assert await run(hub, pending) == ("nobody: ada", {"tenant": "acme"})


async def test_after_commit(make: MakeHub, engine: AsyncEngine) -> None:
    hub = make(enqueue_middleware=[with_tenant])
    async with AsyncSession(engine) as session:
        with acting_for("acme"):
            pending = hub.queue().after_commit(session).enqueue(tasks.greet, "ada")
        await session.commit()

    assert await run(hub, pending) == ("nobody: ada", {"tenant": "acme"})


async def test_an_outbox(make: MakeHub, engine: AsyncEngine) -> None:
    """The row holds what the layers made of the job; who relays it adds nothing."""
    hub = make(enqueue_middleware=[with_tenant], outbox=Outbox(engine, table, poll=0.1))
    async with AsyncSession(engine) as session:
        with acting_for("acme"):
            pending = hub.queue().outbox(session).enqueue(tasks.greet, "ada")
        await session.commit()

    async with working(hub):
        job = hub.queue().job(pending.id, tasks.greet)
        await wait_until(lambda: hub.queue().store.read(pending.id), description="its relay has brought it")

        assert await job.result(10) == "nobody: ada"
        assert (await job.info()).headers == {"tenant": "acme"}


async def test_a_threads_tie_is_passed_in_that_thread(make: MakeHub) -> None:
    hub = make(enqueue_middleware=[with_tenant])
    queue = SyncQueue(hub.queue(), asyncio.get_running_loop())

    def enqueue() -> PendingJob[Any]:
        with acting_for("acme"):
            return queue.after_response.enqueue(tasks.greet, "ada")

    with awaiting_response() as awaited:
        pending = await asyncio.to_thread(enqueue)
        await awaited.send()

    assert await run(hub, pending) == ("nobody: ada", {"tenant": "acme"})


async def test_call_next_gives_the_pending_job_at_once(make: MakeHub) -> None:
    given: list[Any] = []

    async def looking(job: OutgoingJob, call_next: Next) -> Any:
        given.append((job.batch_count, await call_next(job)))
        return given[-1][1]

    hub = make(enqueue_middleware=[looking])
    with awaiting_response() as awaited:
        pending = hub.queue().after_response.enqueue_many([tasks.number.call(), tasks.number.call()])
        awaited.drop("enough")

    assert given == [(2, each) for each in pending]


async def through_asyncio(job: OutgoingJob, call_next: Next) -> Any:
    await asyncio.sleep(0)
    return await call_next(job)


async def looks_up() -> None:
    await asyncio.Event().wait()


async def through_another(job: OutgoingJob, call_next: Next) -> Any:
    async with asyncio.timeout(5):
        await looks_up()
    return await call_next(job)


async def and_cleans_up(job: OutgoingJob, call_next: Next) -> Any:
    try:
        await looks_up()
    finally:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("waiting", "where"),
    [
        (through_asyncio, "through_asyncio waits for something (in sleep())"),
        (through_another, "through_another waits for something (in Event.wait())"),
        (and_cleans_up, "and_cleans_up waits for something (in Event.wait())"),
    ],
)
async def test_one_that_waits_is_refused_with_its_name_and_what_to_do(make: MakeHub, waiting: Any, where: str) -> None:
    """The same layer is fine where an enqueue is awaited."""
    hub = make(enqueue_middleware=[with_tenant, waiting])
    with awaiting_response() as awaited:
        with pytest.raises(InvalidMiddleware) as caught:
            hub.queue().after_response.enqueue(tasks.number)
        await awaited.send()

    message = str(caught.value)
    assert where in message
    assert "by queue.after_response" in message
    assert "await queue.enqueue(...)" in message
    assert await members(hub.queue().store, "ready") == []


async def test_one_refused_and_none_of_several_is_tied(make: MakeHub) -> None:
    notes: list[str] = []
    hub = make(enqueue_middleware=[Noting(notes, "a"), Switch({"mw.fail"}).refusing])
    with awaiting_response() as awaited:
        with pytest.raises(PermissionError):
            hub.queue().after_response.enqueue_many([tasks.number.call(), tasks.fail.call()])
        await awaited.send()

    assert notes == ["a in", "a out", "a in", "a PermissionError"]
    assert await members(hub.queue().store, "ready") == []


@pytest.mark.parametrize("way", ["after_commit", "outbox"])
async def test_each_tie_names_itself(make: MakeHub, engine: AsyncEngine, way: str) -> None:
    hub = make(enqueue_middleware=[through_asyncio], outbox=Outbox(engine, table))

    def tie(queue: Queue, session: AsyncSession) -> Tie:
        return queue.after_commit(session) if way == "after_commit" else queue.outbox(session)

    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidMiddleware, match=f"by queue.{way}"):
            tie(hub.queue(), session).enqueue(tasks.number)
