"""Progress: reported as often as a task likes, written at most four times a second, and the last one always."""

from __future__ import annotations

import asyncio
import threading
import time
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from arq_web.job import ProgressInfo
from arq_web.progress import Pace, Progress
from tests.support.waiting import wait_until


class Quick(Progress):
    MIN_INTERVAL_S: ClassVar[float] = 0.05


class Writes:
    """Where reports end up; takes as long as ``gate`` is closed."""

    def __init__(self) -> None:
        self.made: list[ProgressInfo] = []
        self.at_s: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, said: ProgressInfo) -> None:
        self.made.append(said)
        self.at_s.append(time.monotonic())
        await self.gate.wait()

    @property
    def fractions(self) -> list[float]:
        return [said.fraction for said in self.made]


@pytest.fixture
def writes() -> Writes:
    return Writes()


async def test_the_first_report_is_written_at_once_and_the_last_one_always(writes: Writes) -> None:
    """Also when nothing is reported for an hour after it."""
    progress = Quick(writes.write)

    await progress(0.1, "first")
    assert writes.made == [ProgressInfo(0.1, "first")]
    await progress(0.2)
    await progress(0.3, "last")

    await wait_until(lambda: len(writes.made) > 1, description="the last one is written")
    assert writes.made[1:] == [ProgressInfo(0.3, "last")]


async def test_reports_of_every_step_are_written_once_per_interval(writes: Writes) -> None:
    """In a task that computes and awaits nothing else: what it reports gets out all the same."""
    progress = Quick(writes.write)
    steps, ends_at = 0, time.monotonic() + 0.5

    while time.monotonic() < ends_at:
        steps += 1
        await progress(steps, total=10**9)
    await wait_until(lambda: writes.made[-1].current == steps, description="the last one is written")

    assert steps > 1_000
    assert 4 <= len(writes.made) <= 12
    pauses_s = [later - earlier for earlier, later in zip(writes.at_s, writes.at_s[1:], strict=False)]
    assert min(pauses_s) >= Quick.MIN_INTERVAL_S * 0.9


async def test_a_thread_reports_every_step_without_waking_the_loop_for_each(writes: Writes) -> None:
    progress = Quick(writes.write)
    woken: list[float] = []

    def work() -> None:
        for step in range(50_001):
            progress.report(step / 50_000, "counting")

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        woken.append(time.monotonic())
        await asyncio.sleep(0.005)

    await wait_until(lambda: writes.fractions[-1:] == [1.0], description="the last one is written")
    assert writes.fractions == sorted(set(writes.fractions))
    assert len(writes.made) <= 2 + (writes.at_s[-1] - writes.at_s[0]) / Quick.MIN_INTERVAL_S


async def test_what_is_not_written_when_the_attempt_ends_is_written_then(writes: Writes) -> None:
    progress = Progress(writes.write)
    await progress(0.1)
    await progress(1.0, "all of it")

    progress.close()
    progress.close()
    await asyncio.sleep(0)

    assert writes.made == [ProgressInfo(0.1), ProgressInfo(1.0, "all of it")]


async def test_nothing_new_is_not_written_again(writes: Writes) -> None:
    progress = Quick(writes.write)
    await progress(0.1)

    await asyncio.sleep(3 * Quick.MIN_INTERVAL_S)
    progress.close()
    await asyncio.sleep(0)

    assert writes.fractions == [0.1]
    assert not progress._is_started


async def test_a_redis_that_is_slow_is_asked_one_at_a_time(writes: Writes) -> None:
    """And does not hold up the task: its reports return at once."""
    progress = Quick(writes.write)
    writes.gate.clear()
    await progress(0.1)

    for step in range(2, 10):
        await progress(step / 10)
        await asyncio.sleep(Quick.MIN_INTERVAL_S / 2)
    assert writes.fractions == [0.1]
    writes.gate.set()

    await wait_until(lambda: writes.fractions == [0.1, 0.9], description="the newest is written")


async def test_a_report_after_a_blocking_call_gets_out_before_the_next_one(writes: Writes) -> None:
    """Whoever blocks the loop between reports sees them late, but sees them."""
    progress = Quick(writes.write)
    for step in range(4):
        await progress(step / 4)
        assert writes.fractions[-1] == step / 4
        time.sleep(2 * Quick.MIN_INTERVAL_S)  # noqa: ASYNC251 - that is what it is about


async def test_a_message_is_cut_and_a_total_gives_the_fraction(writes: Writes) -> None:
    progress = Progress(writes.write)

    await progress(30, "x" * 500, total=40)
    progress.close()

    assert writes.made == [ProgressInfo(0.75, "x" * 200, 30, 40, None)]


@pytest.mark.parametrize(
    ("value", "total", "fraction"), [(0, 0, 1.0), (5, 4, 1.0), (0, 4, 0.0), (1.5, 4.5, 1 / 3), (4, 4, 1.0)]
)
async def test_a_total_may_be_an_estimate_or_nothing_at_all(
    writes: Writes, value: float, total: float, fraction: float
) -> None:
    progress = Progress(writes.write)

    await progress(value, total=total)

    assert writes.fractions == [pytest.approx(fraction)]


@pytest.mark.parametrize(
    ("value", "total", "complaint"),
    [
        (1.1, None, "between 0 and 1, not 1.1; or say of how many"),
        (-0.1, None, "between 0 and 1"),
        (float("nan"), None, "between 0 and 1, not nan"),
        (-1, 10, "value must be 0 or more, not -1"),
        (1, -10, "total must be 0 or more, not -10"),
        (float("nan"), 10, "value must be"),
        (1, float("inf"), "total must be"),
    ],
)
async def test_a_number_that_means_nothing_is_refused(
    writes: Writes, value: float, total: float | None, complaint: str
) -> None:
    progress = Progress(writes.write)

    with pytest.raises(ValueError, match=complaint):
        await progress(value, total=total)
    with pytest.raises(ValueError, match=complaint):
        progress.report(value, total=total)
    assert writes.made == []


@pytest.mark.parametrize("number", [Decimal(3), True, 3.0, 10**30])
async def test_whatever_has_a_value_is_written_as_json_has_it(writes: Writes, number: Any) -> None:
    progress = Progress(writes.write)

    await progress(number, total=number)

    [said] = writes.made
    assert (said.current, said.total, said.fraction) == (float(number), float(number), 1.0)
    assert {type(said.current), type(said.total), type(said.fraction)} == {float}


async def test_the_time_left_is_reported_with_a_total(writes: Writes) -> None:
    progress = Quick(writes.write)
    for step in range(5):
        await progress(step, total=10)
        await asyncio.sleep(0.06)

    last = writes.made[-1]
    assert last.eta_s is not None
    assert last.current is not None
    assert 0.3 <= last.eta_s <= 2.0


class TestPace:
    def test_even_steps_give_the_exact_time_left(self) -> None:
        pace = Pace()
        for step in range(0, 31, 3):
            pace.note(step, at_s=1_000 + step * 2.0)

        assert pace.eta_s(100) == pytest.approx(140, abs=0.2)

    def test_it_forgets_how_slow_the_start_was(self) -> None:
        """A cold cache, a connection to be opened: the average from the beginning would be wrong for minutes."""
        pace = Pace()
        for second in range(60):
            pace.note(second * 0.1, at_s=second)
        for second in range(60, 120):
            pace.note(6 + (second - 59) * 10.0, at_s=second)

        assert pace.eta_s(606 + 1_000) == pytest.approx(100, rel=0.1)

    def test_nobody_can_tell_before_it_has_grown(self) -> None:
        pace = Pace()
        pace.note(5, at_s=0)
        assert pace.eta_s(10) is None
        pace.note(5, at_s=10)
        assert pace.eta_s(10) is None
        assert pace.eta_s(5) == 0.0

    def test_it_begins_anew_when_the_number_falls(self) -> None:
        """The next stage of the same job counts from 0 again."""
        pace = Pace()
        for second in range(10):
            pace.note(second, at_s=second)
        pace.note(0, at_s=10)
        assert pace.eta_s(10) is None
        pace.note(5, at_s=11)

        assert pace.eta_s(10) == pytest.approx(1)

    def test_what_it_begins_with_was_not_done_in_no_time(self) -> None:
        """A job that resumes at row 900 of 1,000 has done none of them yet."""
        pace = Pace()
        pace.note(900, at_s=0)
        pace.note(901, at_s=1)

        assert pace.eta_s(1_000) == pytest.approx(99)
