"""JobTester around an app: where jobs run, and that the app is given back as it was."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient as FastAPIClient
from litestar import Litestar
from litestar.testing import AsyncTestClient
from litestar.testing import TestClient as LitestarClient
from sqlalchemy import MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from arq_web import Config, Hub, JobState, task
from arq_web.errors import ImportFailed, InvalidConfig
from arq_web.fastapi import ArqWeb, Queue
from arq_web.outbox import Outbox, outbox_table
from arq_web.testing import JobsFailed, JobTester
from tests.testing.conftest import MakeTester
from tests.testing.shop import broken, fastapi_app, litestar_app, send_welcome

Journal = list[tuple[Any, ...]]
loops: list[asyncio.AbstractEventLoop] = []


@task
async def on_which_loop() -> None:
    loops.append(asyncio.get_running_loop())


def living_app() -> FastAPI:
    """An app that notes the loop of its lifespan, where a pool of connections would be."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.loop = asyncio.get_running_loop()
        yield

    app = FastAPI(lifespan=lifespan)
    ArqWeb(app, tasks=[on_which_loop], config=Config(embedded="always"))

    @app.post("/")
    async def enqueue(queue: Queue) -> None:
        await queue.enqueue(on_which_loop)

    return app


@pytest.fixture(autouse=True)
def no_loops() -> None:
    loops.clear()


def test_the_app_is_given_back_as_it_was(hub: Hub, make_tester: MakeTester) -> None:
    before = (hub.config, list(hub.companions), list(hub.middleware), list(hub.enqueue_middleware))

    jobs = make_tester()
    jobs.open()
    assert hub.config.namespace == jobs.namespace
    assert hub.config.embedded == "never"
    jobs.crash_at(1)
    jobs.close()

    assert (hub.config, hub.companions, hub.middleware, hub.enqueue_middleware) == before
    assert hub.queues.connections.target.address == "127.0.0.1:1/0"
    assert hub.queues.on_sent is None


def test_it_is_given_back_by_a_test_that_fails_too(hub: Hub, make_tester: MakeTester) -> None:
    before = hub.config
    with pytest.raises(ZeroDivisionError), make_tester():
        _ = 1 / 0

    assert hub.config is before


def test_an_app_that_lives_already_cannot_be_moved(make_tester: MakeTester, redis_url: str, namespace: str) -> None:
    """Its worker would go on elsewhere, and the test see nothing."""
    app = FastAPI()
    ArqWeb(app, url=redis_url, tasks=[send_welcome], config=Config(namespace=namespace, embedded="always"))
    with FastAPIClient(app), pytest.raises(InvalidConfig, match="comes before its client"), make_tester(app):
        pass


async def test_two_apps_do_not_meet(make_tester: MakeTester) -> None:
    one, two = (Hub(url="redis://127.0.0.1:1", tasks=[send_welcome]) for _ in range(2))
    async with make_tester(one) as jobs_of_one, make_tester(two) as jobs_of_two:
        await one.queue().enqueue(send_welcome, 1)
        await two.queue().enqueue(send_welcome, 2)

        assert [job.args for job in jobs_of_one.enqueued] == [(1,)]
        assert [job.args for job in await jobs_of_two.run_all()] == [(2,)]
        jobs_of_one.assert_enqueued(send_welcome, 1)


async def test_one_app_in_one_test_after_the_other(hub: Hub, make_tester: MakeTester) -> None:
    """What a session's app goes through; ids are free again."""
    for user_id in range(3):
        async with make_tester() as jobs:
            assert (await hub.queue().enqueue(send_welcome.options(id="same"), user_id)).created
            assert [job.args for job in await jobs.run_all()] == [(user_id,)]


def test_jobs_run_on_the_loop_on_which_the_app_lives(make_tester: MakeTester) -> None:
    """There its pool of connections is. A test client lets it live in a thread."""
    app = living_app()
    with make_tester(app) as jobs, FastAPIClient(app) as client:
        client.post("/")
        jobs.run_all_sync()

        assert loops == [app.state.loop]


async def test_from_an_async_test_too(make_tester: MakeTester) -> None:
    app = living_app()
    async with make_tester(app) as jobs:
        with FastAPIClient(app) as client:
            await asyncio.to_thread(client.post, "/")
            await jobs.run_all()

            assert loops == [app.state.loop]
            assert app.state.loop is not asyncio.get_running_loop()
        await jobs.hub.queue().enqueue(on_which_loop)
        await jobs.run_all()
    assert loops[1:] == [asyncio.get_running_loop()]


async def test_litestars_async_client_works(make_tester: MakeTester, journal: Journal) -> None:
    """Its app lives in a thread, whatever its name says."""
    app = litestar_app()
    async with make_tester(app) as jobs, AsyncTestClient(app) as client:
        await client.post("/signup/5")
        jobs.assert_enqueued(send_welcome, 5)

        await jobs.run_all()
    assert journal == [("welcome", 5)]


@pytest.mark.parametrize(
    ("make_app", "make_client"),
    [(fastapi_app, FastAPIClient), (litestar_app, LitestarClient)],
    ids=["fastapi", "litestar"],
)
def test_a_job_route_is_collected_by_its_function(make_app: Any, make_client: Any, make_tester: MakeTester) -> None:
    app: FastAPI | Litestar = make_app()
    with make_tester(app) as jobs, make_client(app) as client:
        assert client.post("/report/3").status_code == 202

        [job] = jobs.assert_enqueued(next(each for each in jobs.hub.registry if each.name.endswith("report")), 3)
        assert job.arguments == {"number": 3}
        assert [each.result for each in jobs.run_all_sync()] == ["report 3"]


def test_a_litestar_route_is_named_by_its_handler(make_tester: MakeTester, journal: Journal) -> None:
    app = litestar_app()
    [handler] = [each for each in app.routes if each.path.startswith("/report")]
    report, _ = handler.route_handler_map["POST"]  # type: ignore[union-attr]
    with make_tester(app) as jobs, LitestarClient(app) as client:
        client.post("/report/3")
        jobs.assert_enqueued(report, 3)
        jobs.refute_enqueued(report, 4)
        jobs.crash_at("end", report)

        [job] = jobs.run_all_sync()
    assert (job.crashes, job.result) == (1, "report 3")


async def test_no_thread_of_ours_is_left(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome, 1)
        await jobs.run_all()

    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("arq_web")]


@pytest.fixture
def engine(tmp_path: Path) -> AsyncEngine:
    path = tmp_path / "shop.sqlite"
    at_once = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    metadata.create_all(at_once)
    at_once.dispose()
    return create_async_engine(f"sqlite+aiosqlite:///{path}", poolclass=NullPool)


metadata = MetaData()
rows = outbox_table(metadata)


def shop_with_outbox(engine: AsyncEngine) -> FastAPI:
    app = FastAPI()
    ArqWeb(app, tasks=[send_welcome, broken], outbox=Outbox(engine, rows), config=Config(embedded="always"))

    @app.post("/order")
    async def order(queue: Queue, fails: bool = False) -> None:
        async with AsyncSession(engine) as session:
            if fails:
                queue.outbox(session).enqueue(broken, 9)
            else:
                queue.outbox(session).enqueue(send_welcome, 1)
            await session.commit()

    return app


@pytest.mark.parametrize("lives", [True, False], ids=["lifespan", "no lifespan"])
def test_what_lies_in_the_outbox_counts_as_enqueued(engine: AsyncEngine, lives: bool, make_tester: MakeTester) -> None:
    """A look relays it first: nobody need wait for the relay."""
    app = shop_with_outbox(engine)
    with make_tester(app) as jobs:
        client = FastAPIClient(app)
        if lives:
            with client:
                client.post("/order")
                jobs.assert_enqueued(send_welcome, 1)
                assert len(jobs.run_all_sync()) == 1
        else:
            client.post("/order")
            jobs.assert_enqueued(send_welcome, 1)


@pytest.mark.parametrize("looks", [True, False], ids=["who looks", "who does not"])
def test_inline_it_has_run_for_who_looks_and_at_the_end(
    engine: AsyncEngine, make_tester: MakeTester, journal: Journal, looks: bool
) -> None:
    app = shop_with_outbox(engine)
    with make_tester(app, mode="inline") as jobs, FastAPIClient(app) as client:
        client.post("/order")
        if looks:
            assert [job.state for job in jobs.enqueued] == [JobState.SUCCEEDED]
    assert journal == [("welcome", 1)]


def test_inline_a_dead_one_fails_the_test(engine: AsyncEngine, make_tester: MakeTester) -> None:
    app = shop_with_outbox(engine)
    with (
        pytest.raises(JobsFailed, match=r"broken\(order_id=9\) is dead"),
        make_tester(app, mode="inline"),
        FastAPIClient(app) as client,
    ):
        client.post("/order?fails=true")


async def test_inline_an_async_test_has_run_it_at_its_end(
    engine: AsyncEngine, make_tester: MakeTester, journal: Journal
) -> None:
    app = shop_with_outbox(engine)
    async with (
        make_tester(app, mode="inline"),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        await client.post("/order")
    assert journal == [("welcome", 1)]


async def test_an_async_test_relays_it_by_hand_and_is_told_so(engine: AsyncEngine, make_tester: MakeTester) -> None:
    app = shop_with_outbox(engine)
    async with (
        make_tester(app) as jobs,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        await client.post("/order")
        with pytest.raises(AssertionError, match=r"`await jobs\.relay_outbox\(\)` first"):
            jobs.assert_enqueued(send_welcome, 1)
        await jobs.relay_outbox()
        jobs.assert_enqueued(send_welcome, 1)


async def test_running_relays_it_by_itself(engine: AsyncEngine, make_tester: MakeTester, journal: Journal) -> None:
    app = shop_with_outbox(engine)
    async with (
        make_tester(app) as jobs,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        await client.post("/order")

        await jobs.run_all()
    assert journal == [("welcome", 1)]


def test_an_app_without_arq_web_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="an app with ArqWeb"):
        JobTester(FastAPI())
    with pytest.raises(ImportFailed, match="there is no module 'nowhere'"):
        JobTester("nowhere:app")
    with pytest.raises(InvalidConfig, match="one of collect, inline, drain"):
        JobTester(fastapi_app(), mode="inlin")  # type: ignore[arg-type]


def test_an_app_may_be_named() -> None:
    assert JobTester("example_app.fastapi_app:app").hub.queue_names == ("default",)


def test_without_fakeredis_it_says_what_to_install(hub: Hub) -> None:
    code = (
        "import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if name == 'fakeredis' else find(name, *rest); "
        "from arq_web import Hub; from arq_web.testing import JobTester; JobTester(Hub()).open()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "MissingExtra: fakeredis (for tests without a Redis; ARQ_WEB_TEST_REDIS_URL names one)" in answer.stderr
    assert "pip install 'arq-web[dev]'" in answer.stderr
