"""Schedules: which tick follows which, and what is not a schedule."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arq_web.cron import Schedule, cron, every
from arq_web.errors import InvalidSchedule

BERLIN = "Europe/Berlin"
DAY_MS = 86_400_000


def ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp()) * 1000


def ticks(schedule: Schedule, after: str, count: int) -> list[str]:
    """The next ``count`` ticks, each computed from the one before, in UTC."""
    tick_ms, found = ms(after), list[str]()
    for _ in range(count):
        tick_ms = schedule.next_after_ms(tick_ms)
        found.append(datetime.fromtimestamp(tick_ms / 1000, UTC).strftime("%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("expression", "tz", "after", "expected"),
    [
        ("*/15 * * * *", "UTC", "2026-01-01T00:00Z", ["01-01 00:15:00", "01-01 00:30:00"]),
        ("0 8 * * *", BERLIN, "2026-01-01T00:00Z", ["01-01 07:00:00", "01-02 07:00:00"]),
        ("0 8 * * *", BERLIN, "2026-07-01T00:00Z", ["07-01 06:00:00", "07-02 06:00:00"]),
        ("*/20 * * * * *", "UTC", "2026-01-01T00:00:05Z", ["01-01 00:00:20", "01-01 00:00:40", "01-01 00:01:00"]),
        ("0 0 L * *", "UTC", "2028-01-31T00:00Z", ["02-29 00:00:00", "03-31 00:00:00"]),
        ("0 0 LW * *", "UTC", "2026-01-01T00:00Z", ["01-30 00:00:00", "02-27 00:00:00"]),
        ("0 0 * * 5#2", "UTC", "2026-01-01T00:00Z", ["01-09 00:00:00", "02-13 00:00:00"]),
        ("0 0 * * 5l", "UTC", "2026-01-01T00:00Z", ["01-30 00:00:00", "02-27 00:00:00"]),
        ("0 9 * * mon-fri", "UTC", "2026-01-02T12:00Z", ["01-05 09:00:00", "01-06 09:00:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00Z", ["02-29 00:00:00"]),
        ("@hourly", "UTC", "2026-01-01T00:00Z", ["01-01 01:00:00"]),
        ("@daily", "UTC", "2026-01-01T00:00Z", ["01-02 00:00:00"]),
        ("@midnight", BERLIN, "2026-01-01T00:00Z", ["01-01 23:00:00"]),
        ("@weekly", "UTC", "2026-01-01T00:00Z", ["01-04 00:00:00"]),
        ("@Monthly", "UTC", "2026-01-01T00:00Z", ["02-01 00:00:00"]),
        ("@yearly", "UTC", "2026-01-01T00:00Z", ["01-01 00:00:00"]),
        ("@annually", "UTC", "2026-06-01T00:00Z", ["01-01 00:00:00"]),
    ],
)
def test_an_expression_ticks_at_the_times_it_names(expression: str, tz: str, after: str, expected: list[str]) -> None:
    """The table is the reference page's: five fields, six with seconds first, names, L, LW, # and the words."""
    assert ticks(cron(expression, tz=tz), after, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # 2026-03-29: 02:00 CET is 03:00 CEST (01:00 UTC).
        ("30 2 * * *", "2026-03-28T12:00Z", ["03-29 01:00:00", "03-30 00:30:00"]),
        ("15,45 2 * * *", "2026-03-28T12:00Z", ["03-29 01:00:00", "03-30 00:15:00"]),
        ("0 */1 * * *", "2026-03-28T23:30Z", ["03-29 00:00:00", "03-29 01:00:00", "03-29 02:00:00"]),
        ("0 30 2 * * *", "2026-03-28T12:00Z", ["03-30 00:30:00"]),
        # 2026-10-25: 03:00 CEST is 02:00 CET (01:00 UTC).
        ("30 2 * * *", "2026-10-24T12:00Z", ["10-25 00:30:00", "10-26 01:30:00"]),
        ("50 2 * * *", "2026-10-25T01:45Z", ["10-26 01:50:00"]),
        ("30 * * * *", "2026-10-25T00:00Z", ["10-25 00:30:00", "10-25 01:30:00", "10-25 02:30:00"]),
        ("0 30 2 * * *", "2026-10-24T12:00Z", ["10-25 00:30:00", "10-25 01:30:00", "10-26 01:30:00"]),
    ],
)
def test_a_fixed_local_time_runs_once_when_the_clocks_change(expression: str, after: str, expected: list[str]) -> None:
    """A nightly report must be neither lost nor sent twice; what goes by elapsed time goes on doing so."""
    assert ticks(cron(expression, tz=BERLIN), after, len(expected)) == expected


@pytest.mark.parametrize("tz", ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/7 * * * *", "0 0 * * 0", "5,35 0-3 * * *", "17 */20 1 * * *"])
@given(start_ms=st.integers(0, 4_000_000_000_000))
@settings(max_examples=15, deadline=None)
def test_ticks_strictly_increase_in_every_zone(expression: str, tz: str, start_ms: int) -> None:
    """``fire`` advances a schedule by its tick: one that did not grow would fire for ever."""
    schedule = cron(expression, tz=tz)

    found = [start_ms]
    for _ in range(6):
        found.append(schedule.next_after_ms(found[-1]))

    assert all(earlier < later for earlier, later in pairwise(found))
    assert all(tick_ms % 1000 == 0 for tick_ms in found[1:])


@given(tick_ms=st.integers(0, 4_000_000_000_000), early_ms=st.integers(0, DAY_MS))
@settings(max_examples=100, deadline=None)
def test_no_tick_lies_between_a_moment_and_its_next_tick(tick_ms: int, early_ms: int) -> None:
    """A process that starts at any moment must come to the same ticks as one that followed them all along."""
    schedule = cron("0 */2 * * *", tz=BERLIN)
    next_ms = schedule.next_after_ms(tick_ms)

    assert schedule.next_after_ms(max(tick_ms, next_ms - 1 - early_ms % (next_ms - tick_ms))) == next_ms


@given(
    period_ms=st.integers(1_000, 40 * DAY_MS),
    offset_ms=st.integers(-2 * DAY_MS, 2 * DAY_MS),
    tick_ms=st.integers(0, 4_000_000_000_000),
)
def test_every_ticks_at_all_multiples_since_the_epoch(period_ms: int, offset_ms: int, tick_ms: int) -> None:
    """Processes that start at different times must agree on the ticks without asking each other."""
    schedule = every(timedelta(milliseconds=period_ms), offset=timedelta(milliseconds=offset_ms))

    next_ms = schedule.next_after_ms(tick_ms)

    assert tick_ms < next_ms <= tick_ms + period_ms
    assert (next_ms - offset_ms) % period_ms == 0
    assert schedule.next_after_ms(next_ms) == next_ms + period_ms


def test_every_takes_seconds_or_a_timedelta() -> None:
    """Durations are ``timedelta | float`` seconds everywhere in the public API."""
    assert every(90) == every(90.0) == every(timedelta(minutes=1, seconds=30))
    assert every(60, offset=75).next_after_ms(0) == 15_000


@pytest.mark.parametrize(
    ("expression", "tz", "why"),
    [
        ("", "UTC", "it has 0 fields"),
        ("0 8 * *", "UTC", "it has 4 fields"),
        ("0 0 8 * * * 2026", "UTC", "it has 7 fields"),
        ("61 * * * *", "UTC", "its minute field '61' is wrong"),
        ("* 8-25 * * *", "UTC", "its hour field '8-25' is wrong"),
        ("60 0 8 * * *", "UTC", "its second field '60' is wrong"),
        ("0 0 32 * *", "UTC", "its day-of-month field '32' is wrong"),
        ("0 0 * foo *", "UTC", "its month field 'FOO' is wrong"),
        ("0 0 * * 5#6", "UTC", "its day-of-week field '5#6' is wrong"),
        ("*/0 * * * *", "UTC", "its minute field '*/0' is wrong"),
        ("0 0 31 2 *", "UTC", "there is no day 31 in month 2"),
        ("0 0 31 4,6 *", "UTC", "there is no day 31 in month 4,6"),
        ("@reboot", "UTC", "the words are @hourly, @daily"),
        ("0 8 * * *", "Europe/Berln", "there is no time zone 'Europe/Berln' (did you mean 'Europe/Berlin'?)"),
        ("0 8 * * *", "", "there is no time zone ''"),
        ("0 8 * * *", "../etc/passwd", "there is no time zone '../etc/passwd'"),
        ("0 8 * * *", None, "its time zone is None; give the name of one"),
        (None, "UTC", "an expression is a string"),
    ],
)
def test_what_is_not_a_schedule_says_why_at_once(expression: str, tz: str, why: str) -> None:
    """A typo must stop the start of the app, not be found on the night on which nothing ran."""
    with pytest.raises(InvalidSchedule) as caught:
        cron(expression, tz=tz)

    assert why in str(caught.value)
    assert "Write five cron fields" in str(caught.value)


class Nameless(tzinfo):
    """Stands for the zones of other libraries."""

    def utcoffset(self, dt: datetime | None, /) -> timedelta:
        return timedelta(hours=1)

    def dst(self, dt: datetime | None, /) -> timedelta:
        return timedelta(0)

    def tzname(self, dt: datetime | None, /) -> str:
        return "somewhere"


def test_a_time_zone_without_a_stable_name_is_refused() -> None:
    """The zone is part of the fingerprint, which must be the same in every process."""
    with pytest.raises(InvalidSchedule, match="give the name of one, such as 'Europe/Berlin'"):
        cron("0 8 * * *", tz=Nameless())


@pytest.mark.parametrize(
    ("period", "offset", "why"),
    [
        (0.999, 0, "the period is under 1 second"),
        (-5, 0, "the period is under 1 second"),
        (timedelta(0), 0, "the period is under 1 second"),
        (math.nan, 0, "the period is not a number of seconds"),
        (math.inf, 0, "the period is not a number of seconds"),
        (True, 0, "the period is not a number of seconds"),
        ("60", 0, "the period is not a number of seconds"),
        (timedelta(seconds=2, microseconds=1), 0, "the period is not in whole milliseconds"),
        (60, math.nan, "the offset is not a number of seconds"),
    ],
)
def test_a_period_that_means_nothing_is_refused(period: float, offset: float, why: str) -> None:
    """A period of nought would keep a worker busy with nothing else."""
    with pytest.raises(InvalidSchedule) as caught:
        every(period, offset=offset)

    assert why in str(caught.value)


@given(st.text(alphabet="0123456789*/-,#LWlwMONJAN@ ", max_size=24))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_schedule_or_invalid(text: str) -> None:
    """Whatever a settings file holds: no other error, no hang."""
    try:
        schedule = cron(text)
    except InvalidSchedule:
        return

    assert schedule.next_after_ms(0) > 0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (cron("@daily"), cron("0 0  * * *")),
        (cron("0 0 * * mon"), cron("0 0 * * MON", tz=UTC)),
        (cron("0 8 * * *", tz=BERLIN), cron("0 8 * * *", tz=ZoneInfo(BERLIN))),
        (every(60), every(timedelta(minutes=1), offset=120)),
    ],
)
def test_the_same_schedule_has_the_same_fingerprint(left: Schedule, right: Schedule) -> None:
    """Only a process whose fingerprint matches the stored one fires: a change of spelling must not stop that."""
    assert (left.spec, left.fingerprint) == (right.spec, right.fingerprint)


def test_another_time_zone_or_period_has_another_fingerprint() -> None:
    """A new release that moves a schedule must be told from the old one."""
    schedules: list[Schedule] = [
        cron("0 8 * * *"),
        cron("0 8 * * *", tz=BERLIN),
        cron("0 8 * * *", tz=timezone(timedelta(hours=2))),
        cron("0 9 * * *"),
        every(60),
        every(60, offset=1),
    ]

    assert len({schedule.fingerprint for schedule in schedules}) == len(schedules)
    assert schedules[1].spec == "cron 0 8 * * * Europe/Berlin"
    assert schedules[4].spec == "every 60000 ms offset 0 ms UTC"


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    """Python's own ``hash`` is not: it is salted for each process."""
    code = "from arq_web.cron import cron; print(cron('0 8 * * *', tz='Europe/Berlin').fingerprint)"

    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert elsewhere.stdout.strip() == cron("0 8 * * *", tz=BERLIN).fingerprint
