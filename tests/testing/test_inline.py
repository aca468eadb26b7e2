"""Inline: an enqueue runs its job to the end before it returns, by the real worker."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient as FastAPIClient
from litestar.testing import TestClient as LitestarClient

from arq_web import Hub, JobState
from arq_web.testing import JobsFailed, TooManyAttempts
from tests.testing.conftest import MakeTester
from tests.testing.shop import (
    at_once_for_ever,
    breaks_another,
    broken,
    chain_of,
    count_up,
    fastapi_app,
    from_thread,
    litestar_app,
    send_reminders,
    send_welcome,
    third_time,
    wait_for_word,
)

Journal = list[tuple[Any, ...]]
FRAMEWORKS = pytest.mark.parametrize(
    ("make_app", "make_client"),
    [(fastapi_app, FastAPIClient), (litestar_app, LitestarClient)],
    ids=["fastapi", "litestar"],
)


async def test_a_job_has_ended_when_its_enqueue_returns(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    async with make_tester(mode="inline"):
        job = await hub.queue().enqueue(send_welcome, 1)
        many = await hub.queue().enqueue_many([count_up.call(1), send_welcome.call(2)])

        assert [await each.status() for each in (job, *many)] == [JobState.SUCCEEDED] * 3
        assert await job.result(timeout=5) == "welcome, ann@example.com"
    assert journal == [("welcome", 1), ("counted", 1), ("welcome", 2)]


async def test_its_retries_and_snoozes_follow_at_once(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """By the task's own rules; and nobody else's time passes."""
    async with make_tester(mode="inline") as jobs:
        later = await hub.queue().enqueue(send_welcome.options(delay=300), 9)

        assert await (await hub.queue().enqueue(third_time)).result(timeout=5) == 3
        assert await (await hub.queue().enqueue(wait_for_word, 2)).result(timeout=5) == 3

        assert await later.status() is JobState.SCHEDULED
        await jobs.run_all()
        assert await later.status() is JobState.SUCCEEDED
    assert journal[-1] == ("welcome", 9)


@pytest.mark.parametrize("task", [send_reminders, from_thread], ids=["on the loop", "in a thread"])
async def test_what_it_enqueues_runs_before_that_enqueue_returns(
    hub: Hub, make_tester: MakeTester, journal: Journal, task: Any
) -> None:
    async with make_tester(mode="inline") as jobs:
        await hub.queue().enqueue(task, [1] if task is send_reminders else 1)

        assert {job.state for job in jobs.enqueued if not job.delay} == {JobState.SUCCEEDED}
    assert journal == [("welcome", 1)]


async def test_a_dead_job_is_raised_where_it_was_enqueued(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    with pytest.raises(JobsFailed, match=r"broken\(order_id=7\) is dead after 2 attempts(.|\n)*order 7 has no address"):
        async with make_tester(mode="inline"):
            await hub.queue().enqueue(broken, 7)
    assert journal == [("broke", 7)] * 2


async def test_a_nested_one_fails_the_test_and_not_the_job_that_enqueued_it(
    hub: Hub, make_tester: MakeTester, journal: Journal
) -> None:
    """In production that job would not hear of it."""
    with pytest.raises(JobsFailed, match=r"A job of this test failed(.|\n)*broken\(order_id=7\)"):
        async with make_tester(mode="inline"):
            await hub.queue().enqueue(breaks_another, 7)
    assert journal == [("broke", 7), ("broke", 7), ("went on", 7)]


async def test_a_dead_job_may_be_what_the_test_is_about(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester(mode="inline", raise_failures=False):
        job = await hub.queue().enqueue(broken, 7)

        assert await job.status() is JobState.DEAD


async def test_an_endless_snooze_is_named(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester(mode="inline", most_attempts=5):
        with pytest.raises(TooManyAttempts, match="wait_for_word 5 times"):
            await hub.queue().enqueue(wait_for_word, 1000)


async def test_a_job_that_enqueues_itself_comes_to_an_end(hub: Hub, make_tester: MakeTester) -> None:
    """Raised by the call that began it, once: no job of the chain fails for it, or is tried again."""
    async with make_tester(mode="inline", most_attempts=12) as jobs:
        with pytest.raises(TooManyAttempts, match=r"After 12 attempts .*at_once_for_ever 12 times.*most_attempts="):
            await hub.queue().enqueue(at_once_for_ever, 1)

        assert [(job.state.value, job.attempts) for job in jobs.enqueued] == [("succeeded", 1)] * 12 + [("queued", 0)]


async def test_so_it_does_within_a_run(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester(mode="inline", most_attempts=12) as jobs:
        await hub.queue().enqueue(at_once_for_ever.options(delay=60), 1)

        with pytest.raises(TooManyAttempts, match="After 12 attempts"):
            await jobs.run_all()


async def test_jobs_wait_for_each_other_only_so_deep(
    hub: Hub, make_tester: MakeTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a worker, with its threads."""
    monkeypatch.setattr("arq_web.testing.running.DEEPEST", 6)
    async with make_tester(mode="inline"):
        assert await (await hub.queue().enqueue(chain_of, 6)).result(timeout=5) == 6
        with pytest.raises(TooManyAttempts, match=r'6 jobs wait for each other there.*mode="drain"'):
            await hub.queue().enqueue(chain_of, 7)


async def test_as_many_attempts_as_may_are_not_too_many(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester(mode="inline", most_attempts=3):
        assert await (await hub.queue().enqueue(third_time)).result(timeout=5) == 3


@pytest.mark.parametrize("lives", [True, False], ids=["lifespan", "no lifespan"])
def test_a_dead_job_after_the_response_fails_the_test_and_was_enqueued_all_the_same(
    lives: bool, make_tester: MakeTester, caplog: pytest.LogCaptureFixture
) -> None:
    app = fastapi_app()
    with (
        pytest.raises(JobsFailed, match=r"broken\(order_id=7\) is dead"),
        make_tester(app, mode="inline"),
        FastAPIClient(app) if lives else contextlib.nullcontext(FastAPIClient(app)) as client,
    ):
        client.post("/broken-after/7")

    assert "job.dead" in caplog.text
    assert "enqueue.failed" not in caplog.text


def test_an_endless_one_after_the_response_fails_the_test(make_tester: MakeTester) -> None:
    app = fastapi_app()
    with (
        pytest.raises(TooManyAttempts, match="at_once_for_ever"),
        make_tester(app, mode="inline", most_attempts=5),
        FastAPIClient(app) as client,
    ):
        client.post("/endless-after")


@FRAMEWORKS
@pytest.mark.parametrize("path", ["/signup/5", "/signup-in-thread/5"])
@pytest.mark.parametrize("lives", [True, False], ids=["lifespan", "no lifespan"])
def test_a_route_finds_its_job_done(
    make_app: Any, make_client: Any, path: str, lives: bool, make_tester: MakeTester, journal: Journal
) -> None:
    app = make_app()
    with make_tester(app, mode="inline") as jobs:
        client = make_client(app)
        if lives:
            with client:
                assert client.post(path).json() == {"state": "succeeded"}
        else:
            assert client.post(path).json() == {"state": "succeeded"}
        jobs.assert_enqueued(send_welcome, 5, count=1)
    assert journal == [("welcome", 5)]


@FRAMEWORKS
def test_a_job_route_runs_with_its_dependencies(
    make_app: Any, make_client: Any, make_tester: MakeTester, journal: Journal
) -> None:
    """Opened for the job, closed after it; and the status route tells its result."""
    app = make_app()
    with make_tester(app, mode="inline"), make_client(app) as client:
        accepted = client.post("/report/3")

        assert accepted.status_code == 202
        status = client.get(accepted.headers["location"]).json()
    assert (status["state"], status["result"]) == ("succeeded", "report 3")
    assert journal == [("opened",), ("reported", 3, "session"), ("closed",)]


@FRAMEWORKS
def test_what_was_tied_to_the_response_runs_after_it(
    make_app: Any, make_client: Any, make_tester: MakeTester, journal: Journal
) -> None:
    app = make_app()
    with make_tester(app, mode="inline"), make_client(app) as client:
        client.post("/after/5")

        assert journal == [("welcome", 5)]


@FRAMEWORKS
def test_a_dead_job_of_a_route_fails_the_test_whatever_the_framework_makes_of_it(
    make_app: Any, make_client: Any, make_tester: MakeTester
) -> None:
    """One client raises it, the other answers 500."""
    app = make_app()
    logging.getLogger("litestar").disabled = True
    with (
        pytest.raises(JobsFailed, match=r"broken\(order_id=7\) is dead(.|\n)*order 7 has no address"),
        make_tester(app, mode="inline"),
        make_client(app) as client,
    ):
        client.post("/broken/7")


async def test_through_httpx_on_the_tests_own_loop(make_tester: MakeTester, journal: Journal) -> None:
    app = fastapi_app()
    async with (
        make_tester(app, mode="inline"),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        assert (await client.post("/signup/5")).json() == {"state": "succeeded"}
    assert journal == [("welcome", 5)]
