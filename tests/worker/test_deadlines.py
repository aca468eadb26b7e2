"""Timeouts: never early, a hundredth of a second late at most, one timer for many; and what they make of an attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvloop

from arq_web import task
from arq_web.registry import Registry
from arq_web.store.record import ClaimedJob, Note
from arq_web.task import Task
from arq_web.worker.attempt import AttemptLimits, AttemptRunner
from arq_web.worker.deadlines import STEP_S, Deadlines, current_task
from arq_web.worker.outcome import Cancelled, Failed, Interrupted, Outcome, Succeeded, Superseded
from arq_web.worker.running import Running, StopReason

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine on a loop of each kind: they round times differently."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


async def wait_for_its_deadline(deadlines: Deadlines, timeout_s: float, *, blocked_s: float = 0.0) -> float:
    """How long it was let wait; it blocks the loop before it begins."""
    time.sleep(blocked_s)  # noqa: ASYNC251 - on purpose
    begun_s = time.monotonic()
    deadline = deadlines.begin(current_task(), timeout_s)
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    current_task().uncancel()
    deadlines.end(deadline)
    assert deadline.has_passed
    return time.monotonic() - begun_s


async def test_a_deadline_is_set_to_the_next_hundredth_after_its_time() -> None:
    deadlines = Deadlines()
    for timeout_s in (0.000_1, 0.01, 0.123_456, 1.0, 300.0, 86_400.0, 315_360_000.0):
        before_s = time.monotonic()
        deadline = deadlines.begin(current_task(), timeout_s)
        after_s = time.monotonic()
        deadlines.end(deadline)

        assert before_s + timeout_s <= deadline.step * STEP_S
        assert deadline.step * STEP_S <= after_s + timeout_s + STEP_S


def test_no_deadline_is_early(run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]) -> None:
    """Whatever a loop does to a time before it sets its timer."""
    timeouts_s = [0.05 + number * 0.001_7 for number in range(60)]

    async def all_at_once() -> list[float]:
        deadlines = Deadlines()
        return await asyncio.gather(*(wait_for_its_deadline(deadlines, timeout_s) for timeout_s in timeouts_s))

    waited_s = run(all_at_once())

    assert [waited - timeout for waited, timeout in zip(waited_s, timeouts_s, strict=True) if waited < timeout] == []


def test_no_deadline_is_early_that_began_on_a_blocked_loop(
    run: Callable[[Coroutine[Any, Any, list[float]]], list[float]],
) -> None:
    """The attempts of one round begin one after the other, each with all of its time."""

    async def one_after_the_other() -> list[float]:
        deadlines = Deadlines()
        return await asyncio.gather(*(wait_for_its_deadline(deadlines, 0.1, blocked_s=0.02) for _ in range(5)))

    assert min(run(one_after_the_other())) >= 0.1


async def test_an_attempt_that_ended_is_not_cancelled() -> None:
    deadlines = Deadlines()
    deadlines.end(deadlines.begin(current_task(), 0.01))
    time.sleep(0.05)  # noqa: ASYNC251 - its time passes before the loop can look
    await asyncio.sleep(0.05)

    assert current_task().cancelling() == 0


async def test_one_timer_serves_many() -> None:
    """Short tasks are cheap only so."""
    deadlines = Deadlines()
    begun_s = time.monotonic()

    begun = [deadlines.begin(current_task(), 300) for _ in range(1000)]

    assert len(deadlines._timers) <= (time.monotonic() - begun_s) / STEP_S + 2
    for deadline in begun:
        deadlines.end(deadline)


async def test_timers_of_what_has_ended_are_gone() -> None:
    """Each task and each call may have a timeout of its own: thousands of them must not pile up until their time."""
    deadlines = Deadlines()
    begun = [deadlines.begin(current_task(), 100 + number / 50) for number in range(5000)]
    timers = list(deadlines._timers.values())
    assert len(timers) > 4000

    for deadline in reversed(begun):
        deadlines.end(deadline)

    assert sum(not timer.cancelled() for timer in timers) == 1  # the latest: the next attempt may use it
    assert len(deadlines._timers) == len(deadlines._waiting) == 1
    deadlines.end(deadlines.begin(current_task(), 1))
    assert len(deadlines._timers) == len(deadlines._waiting) == 1


async def test_the_kept_timer_finds_nobody() -> None:
    deadlines = Deadlines()
    deadlines.end(deadlines.begin(current_task(), 0.01))

    await asyncio.sleep(0.05)

    assert deadlines._timers == deadlines._waiting == {}
    assert await wait_for_its_deadline(deadlines, 0.01) >= 0.01


# -- what becomes of the attempt --------------------------------------------------------------------------------------


@task
async def waits() -> str:
    """Do nothing, for long."""
    await asyncio.sleep(60)
    return "awake"


@task
async def cleans_up() -> str:
    """Take a while to end."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)
    return "awake"


@task
async def goes_on() -> str:
    """Swallow the cancellation."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    await asyncio.sleep(0)
    return "went on"


@task
async def translates() -> None:
    """Make a TimeoutError of the cancellation, as some libraries do."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        raise TimeoutError("the server") from error


@task
async def times_out_inside() -> None:
    """Have a limit of its own."""
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)


@task
async def blocks() -> str:
    """Block the loop past the timeout, and never give it a chance."""
    time.sleep(0.1)  # noqa: ASYNC251 - on purpose
    return "late"


@task
async def cancels_itself() -> None:
    """As a library does that loses its scope."""
    raise asyncio.CancelledError


@task
def sleeps_in_a_thread() -> str:
    """Cannot be stopped."""
    time.sleep(0.15)
    return "late"


def running(each: Task[..., Any]) -> Running:
    """An attempt of it that nothing but its runner knows."""
    job = ClaimedJob(
        id="x",
        queue="default",
        task=each.name,
        attempt=1,
        token="1.t",
        failures=0,
        crashes=0,
        max_crashes=3,
        enqueued_at_ms=1,
        claimed_at_ms=1,
        keep_result_ms=60_000,
        expires_at_ms=0,
        note=Note(),
        payload=b"{}",
        extra={},
        cancel_requested=False,
    )
    return Running(job, store=None, timeout_s=60)  # type: ignore[arg-type]


async def outcome_of(attempt: Running, timeout_s: float = 0.05) -> Outcome:
    """Run it in a task of its own; that is left without a cancellation where its runner has dealt with one."""
    registry = Registry()
    for each in (waits, cleans_up, goes_on, translates, times_out_inside, blocks, cancels_itself, sleeps_in_a_thread):
        registry.add(each)
    runner = AttemptRunner(registry, lambda name: None, worker="w", threads=1)  # type: ignore[arg-type, return-value]

    async def run() -> Outcome:
        outcome = await runner.run(attempt, AttemptLimits(timeout_s, 1000))
        await asyncio.sleep(0.03)  # nothing comes after it
        return outcome

    attempt.task = own = asyncio.create_task(run())  # type: ignore[assignment]
    return await own


@contextmanager
def lasts_at_least(limit_s: float) -> Iterator[None]:
    """What runs meanwhile is not cut short."""
    begun_s = time.monotonic()
    yield
    assert time.monotonic() - begun_s >= limit_s


@pytest.mark.parametrize("each", [waits, cleans_up, translates], ids=lambda each: each.name)
async def test_an_attempt_that_takes_too_long_fails_with_a_timeout(each: Task[..., Any]) -> None:
    attempt = running(each)
    with lasts_at_least(0.05):
        outcome = await outcome_of(attempt)

    assert isinstance(outcome, Failed)
    assert (outcome.error.reason, outcome.error.type) == ("timeout", "TimeoutError")
    assert attempt.task is not None
    assert attempt.task.cancelling() == 0


async def test_a_thread_that_takes_too_long_is_waited_for() -> None:
    """It holds what it holds: its slot and its lease, too."""
    with lasts_at_least(0.15):
        outcome = await outcome_of(running(sleeps_in_a_thread))

    assert isinstance(outcome, Failed)
    assert outcome.error.reason == "timeout"


@pytest.mark.parametrize(("each", "result"), [(goes_on, b'{"r":"went on"}'), (blocks, b'{"r":"late"}')])
async def test_an_attempt_that_comes_to_its_end_all_the_same_has_succeeded(each: Task[..., Any], result: bytes) -> None:
    """And the cancellation does not come after its end, to whatever its task does then."""
    assert await outcome_of(running(each)) == Succeeded(result)


@pytest.mark.parametrize(
    ("each", "kind"), [(times_out_inside, "TimeoutError"), (cancels_itself, "asyncio.exceptions.CancelledError")]
)
async def test_a_tasks_own_timeout_or_cancellation_is_its_own_failure(each: Task[..., Any], kind: str) -> None:
    outcome = await outcome_of(running(each), timeout_s=30)

    assert isinstance(outcome, Failed)
    assert (outcome.error.reason, outcome.error.type) == ("failed", kind)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (StopReason.CANCEL, Cancelled()),
        (StopReason.SHUTDOWN, Interrupted()),
        (StopReason.LEASE_LOST, Superseded()),
    ],
)
@pytest.mark.parametrize("order", ["told first", "timed out first", "told while it cleans up"])
async def test_who_was_told_to_end_has_not_timed_out(reason: StopReason, outcome: Outcome, order: str) -> None:
    """In whatever order it comes within one tick: a lost lease allows no failure, a shutdown costs none."""
    attempt, loop = running(cleans_up), asyncio.get_running_loop()

    def tell() -> None:
        if order == "told first":
            attempt.end_early(reason)
            time.sleep(0.1)  # the timer is due before the task has heard of it
        else:
            time.sleep(0.1)
            # A round later, when the timer has run and the task has not: or when the task is at its cleaning up.
            if order == "timed out first":
                loop.call_soon(loop.call_soon, attempt.end_early, reason)
            else:
                loop.call_later(0.02, attempt.end_early, reason)

    loop.call_later(0.01, tell)

    assert await outcome_of(attempt) == outcome
