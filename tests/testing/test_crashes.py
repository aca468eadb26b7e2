"""Deaths to order: what an attempt has done stays, its job runs again, a crash is counted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI

from arq_web import INJECTED, Hub, JobState, Progress, task
from arq_web.errors import UnknownTask
from arq_web.fastapi import ArqWeb, background_job
from arq_web.testing import JobsFailed, checkpoint
from tests.testing.conftest import MakeTester
from tests.testing.shop import broken, count_up, fastapi_app, send_welcome

Journal = list[tuple[Any, ...]]


class Bank:
    """Somebody else's system: what it has done it has done."""

    def __init__(self) -> None:
        self.charged: list[int] = []

    async def charge(self, amount: int) -> None:
        self.charged.append(amount)

    def charge_now(self, amount: int) -> None:
        self.charged.append(amount)


bank = Bank()


@task(max_crashes=3)
async def pay(amounts: list[int], progress: Progress = INJECTED) -> int:
    try:
        for amount in amounts:
            await bank.charge(amount)
            await progress(1, "paid")
    except Exception as error:  # a death is none of these
        raise AssertionError from error
    return len(bank.charged)


@task
def pay_in_thread(amount: int) -> None:
    bank.charge_now(amount)
    checkpoint("charged")


@task
async def swallows_everything() -> str:
    with contextlib.suppress(BaseException):  # what nobody should write
        checkpoint()
    return "went on"


@pytest.fixture(autouse=True)
def fresh_bank(monkeypatch: pytest.MonkeyPatch) -> Bank:
    fresh = Bank()
    monkeypatch.setattr("tests.testing.test_crashes.bank", fresh)
    return fresh


@pytest.fixture
def hub() -> Hub:
    return Hub(url="redis://127.0.0.1:1", tasks=[pay, pay_in_thread, swallows_everything, send_welcome, broken])


async def test_an_attempt_dies_at_its_nth_report_and_runs_again(
    hub: Hub, make_tester: MakeTester, fresh_bank: Bank
) -> None:
    """What it paid is paid: so a test sees that this task pays twice."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(pay, [1, 2, 3])
        jobs.crash_at(2)

        [job] = await jobs.run_all()

    assert fresh_bank.charged == [1, 2, 1, 2, 3]
    assert (job.state, job.attempts, job.crashes, job.failures) == (JobState.SUCCEEDED, 2, 1, 0)


async def test_it_dies_at_what_was_marked(
    hub: Hub, make_tester: MakeTester, fresh_bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the call: the money is gone, and the task does not know it yet."""
    async with make_tester() as jobs:
        monkeypatch.setattr(fresh_bank, "charge", jobs.checkpointed(fresh_bank.charge))
        await hub.queue().enqueue(pay, [5])
        jobs.crash_at(1, pay)

        await jobs.run_all()

    assert fresh_bank.charged == [5, 5]


async def test_it_dies_in_a_thread_too(hub: Hub, make_tester: MakeTester, fresh_bank: Bank) -> None:
    async with make_tester(mode="inline") as jobs:
        jobs.crash_at(1, times=2)

        job = await hub.queue().enqueue(pay_in_thread, 5)

        assert (await job.info()).crashes == 2
    assert fresh_bank.charged == [5, 5, 5]


async def test_it_dies_after_its_end_before_anybody_knows(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    """The window that every task has, with nothing marked."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome, 1)
        jobs.crash_at("end", send_welcome)

        [job] = await jobs.run_all()

    assert journal == [("welcome", 1), ("welcome", 1)]
    assert (job.attempts, job.crashes, job.result) == (2, 1, "welcome, ann@example.com")


async def test_it_dies_as_often_as_it_may(hub: Hub, make_tester: MakeTester) -> None:
    """``max_crashes`` is real: a job that kills its workers is dead."""
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome, 1)
        jobs.crash_at("end", times=3)

        with pytest.raises(JobsFailed, match=r"is dead after 3 attempts, 3 of them crashes, \(reason lost_worker"):
            await jobs.run_all()


async def test_a_death_that_the_task_swallows_is_a_death(hub: Hub, make_tester: MakeTester) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(swallows_everything)
        jobs.crash_at(1)

        [job] = await jobs.run_all()

    assert (job.attempts, job.crashes) == (2, 1)


async def test_orders_for_one_task_leave_the_others_alone(hub: Hub, make_tester: MakeTester, journal: Journal) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue(send_welcome, 1)
        await hub.queue().enqueue(pay, [1])
        jobs.crash_at("end", pay)

        first, second = await jobs.run_all()

    assert (first.crashes, second.crashes) == (0, 1)


@pytest.mark.parametrize(
    ("enqueued", "why"),
    [
        ((pay, [1]), r"crash_at\(4, .*pay\) did not happen: the attempt passed 1 checkpoint\. Checkpoints are"),
        ((send_welcome, 1), r"crash_at\(4, .*pay\) did not happen: no attempt of it began"),
    ],
    ids=["too few checkpoints", "another task"],
)
async def test_a_death_that_does_not_happen_fails_the_test(
    hub: Hub, make_tester: MakeTester, enqueued: Any, why: str
) -> None:
    """Else a test of a crash would be green without one."""
    with pytest.raises(AssertionError, match=why):  # noqa: PT012
        async with make_tester() as jobs:
            jobs.crash_at(4, pay)
            await hub.queue().enqueue(*enqueued)
            await jobs.run_all()


async def test_without_a_test_a_checkpoint_is_nothing() -> None:
    """In production code it may stay."""
    checkpoint("anything")


@pytest.mark.parametrize("n", [0, -1, True, "start", 1.5])
def test_a_checkpoint_that_cannot_be_is_refused(hub: Hub, make_tester: MakeTester, n: Any) -> None:
    with make_tester() as jobs, pytest.raises(ValueError, match="must be 1 or more"):
        jobs.crash_at(n)


async def test_a_failure_before_the_checkpoint_is_a_failure(hub: Hub, make_tester: MakeTester) -> None:
    """The order stays for the next attempt."""
    with pytest.raises(AssertionError, match=r"passed 0 checkpoints"):  # noqa: PT012
        async with make_tester(raise_failures=False) as jobs:
            await hub.queue().enqueue(broken, 1)
            jobs.crash_at(1)
            [job] = await jobs.run_all()
            assert (job.failures, job.crashes) == (2, 0)


def session() -> Iterator[str]:
    yield "sync session"


async def async_session() -> AsyncIterator[str]:
    yield "session"


def number() -> int:
    return 7


async def async_number() -> int:
    return 7


@pytest.mark.parametrize("dependency", [session, async_session, number, async_number], ids=lambda each: each.__name__)
async def test_a_dependency_may_be_the_checkpoint(make_tester: MakeTester, journal: Journal, dependency: Any) -> None:
    """Of any kind that FastAPI knows."""
    app = FastAPI()
    ArqWeb(app)

    @app.post("/job", status_code=202)
    @background_job
    async def job(value: Any = Depends(dependency)) -> str:  # noqa: B008 - a closure is no annotation
        journal.append(("ran", value))
        return str(value)

    async with make_tester(app) as jobs:
        app.dependency_overrides[dependency] = jobs.checkpointed(dependency)
        jobs.crash_at(1)
        await jobs.hub.queue().enqueue(job)

        [ran] = await jobs.run_all()

    assert (ran.attempts, ran.crashes, len(journal)) == (2, 1, 1)


async def test_the_app_has_no_crashes_left_in_it(make_tester: MakeTester) -> None:
    app = fastapi_app()
    async with make_tester(app) as jobs:
        jobs.crash_at(1, count_up)
        await jobs.hub.queue().enqueue(count_up, 1)
        await jobs.run_all()
    assert jobs.hub.middleware == []


@pytest.mark.parametrize("times", [1, 2])
async def test_jobs_that_run_at_the_same_time_die_only_as_often_as_was_ordered(
    hub: Hub, make_tester: MakeTester, times: int
) -> None:
    async with make_tester(concurrency=4) as jobs:
        await hub.queue().enqueue_many([pay.call([1, 2]) for _ in range(4)])
        jobs.crash_at(1, times=times)

        await jobs.run_all()

        assert sum(job.crashes for job in jobs.enqueued) == times
        assert {job.state for job in jobs.enqueued} == {JobState.SUCCEEDED}


async def test_an_attempt_that_did_not_come_so_far_leaves_its_death_to_another(
    hub: Hub, make_tester: MakeTester
) -> None:
    async with make_tester() as jobs:
        await hub.queue().enqueue_many([pay.call([1]), pay.call([1, 2])])
        jobs.crash_at(2, pay)

        assert [job.crashes for job in await jobs.run_all()] == [0, 1]


@pytest.mark.parametrize("name", ["new", "old"])
async def test_a_task_may_be_named_and_its_aliases_are_it(make_tester: MakeTester, name: str) -> None:
    """Jobs that were enqueued under the old name, too."""

    @task(name="old")
    async def renamed() -> None: ...

    old = Hub(url="redis://127.0.0.1:1", tasks=[renamed])
    hub = Hub(url="redis://127.0.0.1:1", tasks=[task(name="new", aliases=["old"])(renamed.fn)])
    async with make_tester(hub) as jobs:
        hub.queues.registry = old.registry  # as a web process of the last release
        await hub.queue().enqueue(renamed)
        hub.queues.registry = hub.registry
        jobs.crash_at("end", name)

        [job] = await jobs.run_all()

    assert job.crashes == 1


def test_a_task_of_another_app_is_refused(make_tester: MakeTester) -> None:
    """It would never die."""
    with make_tester() as jobs:
        with pytest.raises(UnknownTask):
            jobs.crash_at(1, count_up)
        with pytest.raises(UnknownTask, match="Did you mean"):
            jobs.crash_at(1, send_welcome.name + "s")


class Sender:
    """An object that is called: ``inspect`` does not see what kind of function that is."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    async def __call__(self, number: int) -> None:
        self.sent.append(number)


async def test_an_object_that_is_awaited_may_be_the_checkpoint(make_tester: MakeTester) -> None:
    """Passed when it has sent."""
    sender, send = Sender(), list[Any]()

    @task(name="sending")
    async def sending() -> None:
        await send[0](1)

    hub = Hub(url="redis://127.0.0.1:1", tasks=[sending])
    async with make_tester(hub) as jobs:
        send.append(jobs.checkpointed(sender))
        await hub.queue().enqueue(sending)
        jobs.crash_at(1, sending)

        await jobs.run_all()

    assert sender.sent == [1, 1]
