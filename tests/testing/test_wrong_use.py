"""What a test can get wrong in its use of the kit: it is told so at once, and the app stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from arq_web import Config, Hub
from arq_web.errors import InvalidConfig, StoreUnavailable
from arq_web.testing import JobTester
from tests.support.ports import free_port
from tests.testing.conftest import MakeTester
from tests.testing.shop import fastapi_app, send_welcome


@pytest.fixture
def before(hub: Hub) -> Iterator[None]:
    """The app is the same afterwards."""
    kept = hub.config, hub._queues, list(hub.companions), list(hub.middleware), hub.vitals
    yield
    assert (hub.config, hub._queues, hub.companions, hub.middleware, hub.vitals) == kept


@pytest.mark.usefixtures("before")
def test_what_is_not_open_refuses_everything(hub: Hub, make_tester: MakeTester) -> None:
    """The app's own Redis would be asked; and a crash would stay in the app."""
    jobs = make_tester()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not open"):
            jobs.crash_at(1)
        with pytest.raises(RuntimeError, match="not open"):
            _ = jobs.enqueued
        with pytest.raises(RuntimeError, match="not open"):
            jobs.run_all_sync()
        with jobs:  # and once more, after it was
            pass


@pytest.mark.usefixtures("before")
def test_opening_it_twice_is_refused(make_tester: MakeTester) -> None:
    with make_tester() as jobs, pytest.raises(RuntimeError, match="open already"):
        jobs.open()


@pytest.mark.usefixtures("before")
def test_the_last_to_be_opened_is_the_first_to_be_closed(hub: Hub, make_tester: MakeTester) -> None:
    first, second = make_tester(), make_tester()
    first.open()
    second.open()
    with pytest.raises(RuntimeError, match="close that one first"):
        first.close()

    second.close()
    assert hub.config.namespace == first.namespace
    first.close()


@pytest.mark.usefixtures("before")
def test_its_workers_are_none_of_the_apps(hub: Hub, make_tester: MakeTester) -> None:
    """Probes ask ``hub.vitals``."""
    with make_tester() as jobs:
        asyncio.run(_enqueue(hub))
        jobs.run_all_sync()


async def _enqueue(hub: Hub) -> None:
    await hub.queue().enqueue(send_welcome, 1)


def test_an_app_that_lives_without_a_worker_cannot_be_moved_either(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, make_tester: MakeTester
) -> None:
    """Nobody would know on which loop its jobs belong."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    app = fastapi_app()
    hub = JobTester(app).hub
    hub.config = Config(namespace="unused", embedded="never")

    assert not hub.is_alive
    with TestClient(app):
        assert hub.is_alive
        with pytest.raises(InvalidConfig, match="comes before its client, so let the client's fixture ask for `jobs`"):
            make_tester(app).open()
    assert not hub.is_alive


async def test_a_queue_that_was_taken_before_enqueues_nothing_meanwhile(
    hub: Hub, make_tester: MakeTester, redis_url: str, namespace: str
) -> None:
    """It would be a job in the real Redis."""
    hub._url, hub.config = redis_url, Config(namespace=namespace)
    early = hub.queue()
    async with make_tester():
        with pytest.raises(RuntimeError, match="taken before the test"):
            await early.enqueue(send_welcome, 1)
    assert (await early.enqueue(send_welcome, 1)).created
    await hub.aclose()


def test_a_coroutine_that_nobody_can_await_is_refused(make_tester: MakeTester) -> None:
    """Else the test passes, and has run nothing."""
    with make_tester() as jobs:
        with pytest.raises(RuntimeError, match=r"write `jobs\.run_all_sync\(\)`"):
            jobs.run_all()  # type: ignore[unused-coroutine]
        with pytest.raises(RuntimeError, match=r"write `jobs\.run_schedules_sync\(\.\.\.\)`"):
            jobs.run_schedules(1)  # type: ignore[unused-coroutine]
        with pytest.raises(RuntimeError, match="No asyncio loop"):
            jobs.relay_outbox()  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    ("span", "why"),
    [
        (timedelta(seconds=-1), "forwards"),
        (-1, "forwards"),
        (float("nan"), "forwards"),
        (True, "forwards"),
        ("1", "forwards"),
        (datetime(2030, 1, 1), "time zone"),  # noqa: DTZ001
    ],
)
async def test_time_passes_forwards(make_tester: MakeTester, span: Any, why: str) -> None:
    async with make_tester() as jobs:
        with pytest.raises(ValueError, match=why):
            await jobs.run_all(until=span)
        with pytest.raises(ValueError, match="forwards"):
            await jobs.run_schedules(span)
        assert len(await jobs.run_all(until=datetime.now(UTC))) == 0


@pytest.mark.parametrize("name", ["concurrency", "most_attempts"])
@pytest.mark.parametrize("count", [0, -1, True, 1.5])
def test_less_than_one_is_no_number(make_tester: MakeTester, name: str, count: Any) -> None:
    """Without a slot, nothing would ever run."""
    with pytest.raises(InvalidConfig, match=f"{name}=.* a whole number, 1 or more"):
        make_tester(**{name: count})


@pytest.mark.parametrize("times", [0, -1, True])
def test_a_crash_comes_once_at_least(make_tester: MakeTester, times: Any) -> None:
    with make_tester() as jobs, pytest.raises(ValueError, match="1 or more"):
        jobs.crash_at(1, times=times)


def test_a_redis_that_is_away_is_said_once_and_before_the_test(hub: Hub) -> None:
    with pytest.raises(StoreUnavailable):
        JobTester(hub, redis_url=f"redis://127.0.0.1:{free_port()}/0").open()
    assert hub.config.namespace == "own"


def test_the_environment_names_a_redis_without_pytest_too(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("ARQ_WEB_TEST_REDIS_URL", redis_url)
    with JobTester(hub):
        assert hub.queues.connections.target.address in redis_url
