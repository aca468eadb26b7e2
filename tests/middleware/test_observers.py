"""Observers: told of each attempt's slot and end, of reclaimed jobs and of renewals; never able to do harm."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from arq_web import Hub, JobState, Retry, Snooze, task
from arq_web.middleware import EndedAttempt, Observer
from tests.middleware import tasks
from tests.middleware.conftest import MakeHub
from tests.support.event_log import listening
from tests.support.store_helpers import claim_one, command, expire_lease, make_due
from tests.support.waiting import wait_until
from tests.support.working import working


@dataclass
class Ledger:
    """Writes down what it is told."""

    begun: list[tuple[str, str]] = field(default_factory=list)
    ended: list[EndedAttempt] = field(default_factory=list)
    reclaimed: list[tuple[str, str, bool]] = field(default_factory=list)
    renewals: list[bool] = field(default_factory=list)

    def attempt_begun(self, task: str, queue: str) -> None:
        self.begun.append((task, queue))

    def attempts_ended(self, ended: Sequence[EndedAttempt]) -> None:
        self.ended += ended

    def job_reclaimed(self, task: str, queue: str, *, is_dead: bool) -> None:
        self.reclaimed.append((task, queue, is_dead))

    def leases_renewed(self, *, is_answered: bool) -> None:
        self.renewals.append(is_answered)

    def request_answered(self, status: int, *, is_replayed: bool) -> None: ...


class Clumsy(Ledger):
    """Raises whatever it is told."""

    def attempt_begun(self, task: str, queue: str) -> None:
        raise ValueError("begun")

    def attempts_ended(self, ended: Sequence[EndedAttempt]) -> None:
        raise ValueError("ended")


@task(name="obs.end_as", max_tries=2)
async def end_as(word: str) -> None:
    match word:
        case "retrying":
            raise Retry(delay=3600)
        case "snoozed":
            raise Snooze(delay=3600)
        case "dead":
            raise ValueError("broken pixel")
        case "hang":
            await asyncio.Event().wait()
        case _:
            pass


def observed(make: MakeHub, *observers: Any, **options: Any) -> Hub:
    hub = make(only=(end_as, *tasks.ALL[4:]), **options)
    hub.observers += observers
    return hub


@pytest.mark.parametrize(
    ("word", "max_tries", "ending", "reason"),
    [
        ("succeeded", 1, "succeeded", ""),
        ("retrying", 2, "retrying", "retry"),
        ("snoozed", 1, "snoozed", "snooze"),
        ("dead", 1, "dead", "failed"),
    ],
)
async def test_an_attempt_is_told_when_it_begins_and_when_its_end_is_recorded(
    make: MakeHub, word: str, max_tries: int, ending: str, reason: str
) -> None:
    ledger = Ledger()
    hub = observed(make, ledger)
    async with working(hub):
        job = await hub.queue().enqueue(end_as.options(max_tries=max_tries), word)
        await wait_until(lambda: ledger.ended, description="its end was told")
        state = await job.status()

    [ended] = ledger.ended
    assert ledger.begun == [("obs.end_as", "default")]
    assert (ended.job_id, ended.task, ended.queue) == (job.id, "obs.end_as", "default")
    assert (ended.ending, ended.reason) == (ending, reason)
    assert state is not JobState.RUNNING
    assert 0 <= ended.ran_s <= ended.total_s < 10
    await job.cancel()


async def test_a_job_that_nobody_knows_is_parked(make: MakeHub) -> None:
    ledger = Ledger()
    hub, other = observed(make, ledger), make(only=(tasks.greet,))
    async with working(hub):
        job = await other.queue().enqueue(tasks.greet, "ada")
        await wait_until(lambda: ledger.ended, description="its end was told")
    await job.cancel()

    assert [(each.ending, each.reason) for each in ledger.ended] == [("parked", "unknown_task")]


async def test_a_cancelled_and_a_released_job(make: MakeHub) -> None:
    ledger = Ledger()
    hub = observed(make, ledger)
    async with working(hub, drain_s=0.0):
        cancelled = await hub.queue().enqueue(end_as, "hang")
        await wait_until(lambda: len(ledger.begun) == 1, description="it runs")
        await cancelled.cancel()
        await wait_until(lambda: ledger.ended, description="its end was told")
        released = await hub.queue().enqueue(end_as, "hang")
        await wait_until(lambda: len(ledger.begun) == 2, description="it runs, too")
    await released.cancel()

    assert [each.ending for each in ledger.ended] == ["cancelled", "released"]


async def test_a_job_whose_lease_was_lost(make: MakeHub) -> None:
    """Nothing is recorded, and the slot is free all the same."""
    ledger = Ledger()
    hub = observed(make, ledger)
    store = hub.queue().store
    async with working(hub):
        job = await hub.queue().enqueue(end_as, "hang")
        await wait_until(lambda: ledger.begun, description="it runs")
        raw = await command(store, "GET", store.base + b"j:" + job.id.encode())
        assert isinstance(raw, bytes)
        stolen = raw.split(b" ")
        stolen[5] = b"other"
        await command(store, "SET", store.base + b"j:" + job.id.encode(), b" ".join(stolen))
        await wait_until(lambda: ledger.ended, description="its end was told")
    assert ledger.ended[0].ending == "lost"  # then it was handed back, and began again
    await job.cancel()


async def test_the_wait_counts_from_when_a_job_was_due(make: MakeHub) -> None:
    """A retry's backoff is nobody's wait for a worker, and neither is a delay that was asked for."""
    ledger = Ledger()
    hub = observed(make, ledger)
    store = hub.queue().store
    job = await hub.queue().enqueue(end_as.options(delay=3600), "succeeded")
    raw = await command(store, "GET", store.base + b"j:" + job.id.encode())
    assert isinstance(raw, bytes)
    now_ms = await store.server_now_ms()
    due_ms = (await job.info()).due_at_ms
    moved = raw.replace(str(due_ms).encode(), str(now_ms - 5_000).encode())
    created = (await job.info()).enqueued_at_ms
    moved = moved.replace(f"\n{created} ".encode(), f"\n{created - 60_000} ".encode())
    await command(store, "SET", store.base + b"j:" + job.id.encode(), moved)
    await make_due(store, job.id)
    async with working(hub):
        await job.result(10)
        await wait_until(lambda: ledger.ended, description="its end was told")

    [ended] = ledger.ended
    assert 5 <= ended.waited_s < 20
    assert ended.total_s >= 60


async def test_a_child_process_attempt_is_told_as_any(make: MakeHub) -> None:
    ledger = Ledger()
    hub = make(only=(tasks.greet_in_process,))
    hub.observers.append(ledger)
    async with working(hub):
        job = await hub.queue().enqueue(tasks.greet_in_process, "ada")
        await job.result(30)
        await wait_until(lambda: ledger.ended, description="its end was told")

    assert ledger.begun == [("mw.greet_in_process", "default")]
    assert [each.ending for each in ledger.ended] == ["succeeded"]


async def test_a_reclaimed_job_is_told_by_who_took_it(make: MakeHub) -> None:
    ledger = Ledger()
    hub = observed(make, ledger)
    store = hub.queue().store
    job = await hub.queue().enqueue(end_as, "succeeded")
    await claim_one(store, worker="gone:1:aa")
    await expire_lease(store, job.id)
    now_ms = await store.server_now_ms()
    await command(store, "SET", store.base + b"reclaimed", f"{now_ms} {now_ms - 1}", "PX", 60_000)
    async with working(hub):
        await job.result(10)

    assert ledger.reclaimed == [("obs.end_as", "default", False)]


async def test_renewals_are_told_while_something_is_held(make: MakeHub) -> None:
    ledger = Ledger()
    hub = observed(make, ledger)
    async with working(hub):
        await (await hub.queue().enqueue(end_as, "succeeded")).result(10)
        held_nothing = list(ledger.renewals)
        job = await hub.queue().enqueue(end_as, "hang")
        await wait_until(lambda: len(ledger.renewals) > len(held_nothing), description="a renewal was told")
        await job.cancel()

    assert set(ledger.renewals) == {True}


async def test_an_observer_that_raises_is_logged_once_and_costs_nothing(make: MakeHub) -> None:
    ledger = Ledger()
    hub = observed(make, Clumsy(), ledger)
    with listening("worker") as log:
        async with working(hub):
            for _ in range(3):
                await (await hub.queue().enqueue(end_as, "succeeded")).result(10)
            await wait_until(lambda: len(ledger.ended) == 3, description="the other one was told")

    assert [each["helper"] for each in log.of("helper.failed")] == [
        "observer Clumsy.attempt_begun",
        "observer Clumsy.attempts_ended",
    ]


def raising(word: str) -> Any:
    """An object that can be called, and has no name."""

    class Raising:
        def __call__(self, *facts: object, **words: object) -> None:
            raise ValueError(word)

    return Raising()


async def test_an_observers_methods_may_be_anything_that_can_be_called(make: MakeHub) -> None:
    """Set on the object, a partial, or made up when they are asked for; one that raises does not cost the worker."""

    class Own(Observer):
        def __init__(self) -> None:
            self.ended: list[EndedAttempt] = []
            self.attempts_ended = self.ended.extend  # type: ignore[method-assign, assignment]
            self.attempt_begun = functools.partial(raising("partial"), 1)  # type: ignore[method-assign]

    class Proxying:
        """Has each method that is asked for."""

        def __getattr__(self, name: str) -> Any:
            return raising(name)

    class Half:
        """Has some of them only."""

        attempt_begun = raising("half")

    own = Own()
    hub = observed(make, own, Proxying(), Half(), Half())
    with listening("worker") as log:
        async with working(hub):
            for _ in range(2):
                await (await hub.queue().enqueue(end_as, "succeeded")).result(10)
            await wait_until(lambda: len(own.ended) == 2, description="both ends were told")

    told = [each["helper"].split("<locals>.")[1] for each in log.of("helper.failed")]
    assert sorted(told) == [
        "Half.attempt_begun",
        "Half.attempt_begun",
        "Own.attempt_begun",
        "Proxying.attempt_begun",
        "Proxying.attempts_ended",
    ]
