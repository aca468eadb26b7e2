"""In which order cells are run, and what becomes of one that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.environment import System
from benchmarks.processes import CellFailed
from benchmarks.running import PEER_TRIES, ROUNDS_ALONE, Record, run_all
from benchmarks.systems.base import Unsupported
from tests.benchmarks.test_cells import OURS, THEIRS

SYSTEMS = (OURS, THEIRS)


def measures(system: System, size: Size) -> Figures:
    return {"figure": 1.0}


def cell(name: str, run: Callable[[System, Size], Figures] = measures) -> Cell:
    return Cell(name, "what it is", run)


def order(records: list[Record]) -> list[tuple[str, int]]:
    names = {OURS.name: "us", THEIRS.name: "peer"}
    return [(names[record.system], record.round) for record in records]


def test_pairs_are_interleaved() -> None:
    """Us, peer, us, peer: neighbours in time meet the same machine."""
    records = list(run_all([cell("a")], SYSTEMS, rounds=2, paired=frozenset({"a"})))

    assert order(records) == [("us", 0), ("peer", 0), ("us", 1), ("peer", 1)]


@pytest.mark.parametrize(
    ("cell", "costly", "expected"),
    [
        pytest.param(cell("a"), False, [("us", 0), ("peer", 0), ("us", 1)], id="shown beside ours once"),
        pytest.param(replace(cell("a"), ours_only=True), True, [("us", 0), ("us", 1)], id="nothing to compare with"),
        pytest.param(replace(cell("a"), costly=True), False, [("us", 0), ("us", 1)], id="too long for a peer"),
        pytest.param(
            replace(cell("a"), costly=True), True, [("us", 0), ("peer", 0), ("us", 1)], id="asked for by name"
        ),
        pytest.param(replace(cell("a"), once=True), True, [("us", 0), ("peer", 0)], id="counts, not times"),
    ],
)
def test_a_peer_takes_part_where_it_is_needed(cell: Cell, costly: bool, expected: list[tuple[str, int]]) -> None:
    assert order(list(run_all([cell], SYSTEMS, rounds=2, costly=costly))) == expected


def test_a_cell_that_compares_nobody_runs_fewer_rounds() -> None:
    records = list(run_all([cell("a")], [OURS], rounds=5))

    assert len(records) == ROUNDS_ALONE < 5


@pytest.mark.parametrize("error", [CellFailed("it hung"), ZeroDivisionError("no time passed")])
def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(error: Exception) -> None:
    def fails(system: System, size: Size) -> Figures:
        raise error

    failed, done = run_all([cell("a", fails), cell("b")], [OURS], rounds=1)

    assert str(error) in failed.failed
    assert failed.figures == {}
    assert done.figures == {"figure": 1.0}


def test_a_peer_that_failed_tries_again_and_we_do_not() -> None:
    tries: list[str] = []

    def fails(system: System, size: Size) -> Figures:
        tries.append(system.module)
        raise CellFailed("it hung")

    records = list(run_all([cell("a", fails)], SYSTEMS, rounds=1))

    assert tries == ["ours"] + ["theirs"] * PEER_TRIES
    assert len(records) == len(tries)


def test_what_a_system_cannot_do_is_no_failure() -> None:
    def cannot(system: System, size: Size) -> Figures:
        raise Unsupported("it cannot wait")

    [record] = run_all([cell("a", cannot)], [THEIRS], rounds=1)

    assert (record.unsupported, record.failed) == ("it cannot wait", "")


def test_the_rate_at_which_a_system_drains_is_told_to_the_cells_after_it() -> None:
    """Half of the own top rate is half of what was measured in this run."""
    told: list[float | None] = []

    def asks(system: System, size: Size) -> Figures:
        told.append(size.top_rate)
        return {}

    drain = cell("drain", lambda _, __: {"drain_per_s": 1234.0})
    list(run_all([cell("a", asks), drain, cell("b", asks)], [OURS], rounds=1))

    assert told == [None, 1234.0]
