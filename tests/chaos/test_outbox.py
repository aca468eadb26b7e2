"""The row and the job, both or none: a process that ties a job to a commit, killed at every point of it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from arq_web import Hub
from tests.chaos.outbox_lives import KILLED
from tests.outbox import shop
from tests.outbox.test_relay import let_claims_pass
from tests.support.databases import DATABASES, new_database
from tests.support.forked import Forker, running_forker
from tests.support.store_helpers import counted
from tests.support.time_travel import let_time_pass
from tests.support.verdict import Verdict
from tests.support.waiting import wait_until
from tests.support.working import make_hub as make_plain_hub

Report = Callable[[Verdict], None]
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Life:
    """What was there when the process had been killed before its ``nth`` message, and what came of it."""

    nth: int
    was_killed: bool
    orders: int
    rows_at_kill: int
    jobs_at_kill: int
    runs: int
    """How often the job has run in the end."""


@pytest.fixture
async def forker() -> AsyncGenerator[Forker]:
    async with running_forker("tests.chaos.outbox_lives") as forker:
        yield forker


@pytest.fixture
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[str]:
    async with new_database(request.param, tmp_path, request) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Stage:
    forker: Forker
    database: str
    url: str
    namespace: str
    folder: Path

    async def live(self, engine: AsyncEngine, by: str, nth: int) -> Life:
        """One life, up to its ``nth`` message; then a day passes, in which others go on; then a relay comes back."""
        namespace = f"{self.namespace}.{nth}"
        request = {"database": self.database, "url": self.url, "namespace": namespace, "by": by, "nth": str(nth)}
        forked = await self.forker.fork("tests.chaos.outbox_lives:live", log=str(self.folder / "log"), **request)
        status = await forked.ended
        assert status in (0, KILLED), (self.folder / "log").read_text()
        hub = shop.make_hub(self.url, namespace, engine)
        orders, rows, jobs = len(await shop.orders(engine)), len(await shop.rows(engine)), len(await shop.waiting(hub))
        await self._run_what_is_queued(namespace)
        await let_time_pass(hub.queue().store, DAY_MS)
        await wait_until(lambda: _relayed(hub, engine), description="the outbox is empty")
        await self._run_what_is_queued(namespace)
        runs = (await counted(hub.queue().store)).get("complete", 0)
        await shop.change(engine, "DELETE FROM orders")
        await hub.aclose()
        return Life(nth, status == KILLED, orders, rows, jobs, runs)

    async def _run_what_is_queued(self, namespace: str) -> None:
        """A worker that has no outbox: only what is in Redis."""
        hub = make_plain_hub(self.url, namespace, shop.send_receipt)
        await hub.worker(burst=True).run()
        await hub.aclose()


async def _relayed(hub: Hub, engine: AsyncEngine) -> bool:
    await let_claims_pass(engine)
    await shop.relay_of(hub).relay_batch()
    return not await shop.rows(engine)


@pytest.fixture
async def lives(
    forker: Forker, database: str, redis_url: str, namespace: str, tmp_path: Path
) -> AsyncGenerator[Callable[[str], AsyncGenerator[Life]]]:
    """All lives that end by a kill, and the first that does not."""
    engine = create_async_engine(database, poolclass=NullPool)
    await shop.create_tables(engine)
    stage = Stage(forker, database, redis_url, namespace, tmp_path)

    async def all_lives(by: str) -> AsyncGenerator[Life]:
        for nth in itertools.count(1):
            life = await stage.live(engine, by, nth)
            yield life
            if not life.was_killed:
                return

    yield all_lives
    await engine.dispose()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", DATABASES, indirect=True)
async def test_p1_with_the_outbox_there_is_no_row_without_its_job_and_no_job_without_its_row(
    lives: Callable[[str], AsyncGenerator[Life]], report: Report, database: str
) -> None:
    """Not at any point, and not a day later; and the job of each order runs once."""
    seen = [life async for life in lives("outbox")]

    report(
        Verdict(
            scenario=f"outbox, killed at each message: {database.partition('+')[0]}",
            jobs=len(seen),
            lost=sum(life.orders > life.runs for life in seen),
            started_twice=sum(life.runs > 1 for life in seen),
            accepted_twice=sum(life.runs > life.orders for life in seen),
        )
    )
    assert [life for life in seen if life.runs != life.orders] == []
    assert [life for life in seen if bool(life.rows_at_kill or life.jobs_at_kill) != bool(life.orders)] == []
    # They were points of each kind: before the commit; after it; with the job enqueued and the row there still; done.
    kinds = {(life.orders, life.rows_at_kill, life.jobs_at_kill) for life in seen}
    assert kinds == {(0, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)}
    assert [life.was_killed for life in seen] == [True] * (len(seen) - 1) + [False]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
async def test_after_commit_has_the_window_that_its_page_names(
    lives: Callable[[str], AsyncGenerator[Life]],
) -> None:
    """Never a job without its row. Between the commit and the enqueue: a row without its job."""
    seen = [life async for life in lives("after_commit")]

    lost = [life.nth for life in seen if life.orders > life.runs]
    assert [life for life in seen if life.runs > life.orders] == []
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert {life.runs for life in seen if life.nth > lost[-1]} == {1}
    assert {life.orders for life in seen if life.nth < lost[0]} == {0}
