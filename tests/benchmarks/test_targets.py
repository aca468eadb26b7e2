"""How a target is judged: by the worse quartile of paired rounds, against every peer that promises as much as we do."""

from __future__ import annotations

import math

import pytest

from benchmarks.cells import CELLS
from benchmarks.running import Record
from benchmarks.targets import TARGETS, Better, Target, Verdict, paired_cells, verdict

DELIVERY = {"ours": "at least once", "slow": "at least once", "fast": "at least once", "loose": "at most once"}
RATE = Target("Drain", "drain", "per_s", "jobs/s", Better.HIGHER, 8, ratio=True)
LATENCY = Target("Latency", "idle", "p50_ms", "ms", Better.LOWER, 0.5, ratio=True)
BYTES = Target("Memory", "memory", "bytes", "bytes", Better.LOWER, 450)


def records(target: Target, **rounds: list[float]) -> list[Record]:
    """One record for each figure: ``records(RATE, ours=[...], slow=[...])``."""
    return [
        Record(target.cell, system, number, {target.figure: value})
        for system, values in rounds.items()
        for number, value in enumerate(values)
    ]


def judged(target: Target, **rounds: list[float]) -> Verdict:
    return verdict(target, records(target, **rounds), ours="ours", delivery=DELIVERY)


def test_a_ratio_is_taken_round_by_round_and_the_lower_quartile_decides() -> None:
    """A machine that slows down for a round slows both: the medians of each would hide that."""
    found = judged(RATE, ours=[8000, 900, 8800, 9000, 7900], slow=[1000, 100, 1000, 1000, 1000])

    assert found.judged == pytest.approx(8.0)  # of 8, 9, 8.8, 9, 7.9: the second worst
    assert found.is_met is True
    assert found.runs == 5


def test_one_bad_round_of_five_is_forgiven_and_two_are_not() -> None:
    assert judged(RATE, ours=[9, 9, 9, 9, 1], slow=[1, 1, 1, 1, 1]).is_met is True
    assert judged(RATE, ours=[9, 9, 9, 1, 1], slow=[1, 1, 1, 1, 1]).is_met is False


def test_where_less_is_better_the_upper_quartile_decides() -> None:
    assert judged(LATENCY, ours=[1, 1, 1, 1, 9], slow=[2, 2, 2, 2, 2]).is_met is True
    assert judged(LATENCY, ours=[1, 1, 1, 9, 9], slow=[2, 2, 2, 2, 2]).is_met is False


def test_the_peer_against_which_we_look_worst_is_the_one_that_counts() -> None:
    found = judged(RATE, ours=[100, 100], slow=[10, 10], fast=[20, 20])

    assert (found.best_peer, found.judged, found.is_met) == ("fast", 5, False)


def test_a_peer_that_may_lose_jobs_is_shown_but_not_compared_with() -> None:
    found = judged(RATE, ours=[100], slow=[10], loose=[1000])

    assert (found.best_peer, found.judged) == ("slow", 10)
    assert found.medians["loose"] == 1000


def test_a_round_in_which_one_of_both_failed_is_no_pair() -> None:
    ours, slow = records(RATE, ours=[80, 80]), records(RATE, slow=[10])

    found = verdict(RATE, [*ours, *slow, Record("drain", "slow", 1, failed="it hung")], ours="ours", delivery=DELIVERY)

    assert (found.runs, found.judged) == (1, 8)


def test_an_absolute_bound_is_for_our_own_figure() -> None:
    found = judged(BYTES, ours=[440, 449, 451, 445, 448], slow=[300])

    assert found.judged == 449
    assert found.is_met is True
    assert found.best_peer == "slow"


@pytest.mark.parametrize("rounds", [{}, {"slow": [1.0]}, {"ours": [1.0]}])
def test_what_was_not_measured_is_neither_met_nor_missed(rounds: dict[str, list[float]]) -> None:
    found = judged(RATE, **rounds)

    assert found.is_met is None
    assert math.isnan(found.judged)


def test_nothing_left_behind_means_nothing() -> None:
    """A bound of 0 is one that a zero meets."""
    target = Target("Left", "memory", "left", "bytes", Better.LOWER, 0)

    assert judged(target, ours=[0.0]).is_met is True
    assert judged(target, ours=[0.1]).is_met is False


def test_every_target_names_a_cell_that_exists() -> None:
    assert {target.cell for target in TARGETS} <= CELLS.keys()


def test_systems_are_compared_round_by_round_only_where_a_target_is_a_ratio() -> None:
    assert paired_cells([RATE, BYTES]) == {"drain"}
