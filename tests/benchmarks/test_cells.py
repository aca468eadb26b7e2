"""Cells with our own system, in this environment: real Redis, real worker, real producer, and a check that can fail."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from benchmarks.arena import Arena, Workers, arena
from benchmarks.cells import CELLS
from benchmarks.cells.base import Size
from benchmarks.environment import System
from benchmarks.processes import CellFailed
from benchmarks.systems.base import Unsupported

OURS = System(
    name="ours",
    module="ours",
    variant="",
    python=Path(sys.executable),
    versions="this one",
    delivery="at least once",
    settings="all defaults",
    rough_rate=1000,
    poll_s=0.0,
    results_optional=True,
    spawns_processes=True,
)
THEIRS = dataclasses.replace(OURS, name="theirs", module="theirs")
"""Our own system as the driver sees somebody else's."""


def test_a_drain_is_measured_from_the_first_job_to_the_last() -> None:
    figures = CELLS["drain"].run(OURS, Size(quick=True))

    assert figures["jobs"] == 200
    assert figures["doubled"] == 0
    assert figures["drain_per_s"] > 100
    assert figures["commands"] > 0


def test_a_job_that_ran_twice_fails_the_cell() -> None:
    """The same index twice is, for the ledger, one job that ran twice."""
    with arena(OURS, n=3) as here:
        workers = run_all_and_one_again(here)

        with pytest.raises(CellFailed, match=r"1 of 3 jobs .* \(job 1: 2 times\)"):
            here.check_once(workers)


def test_a_peer_that_promises_at_least_once_may_run_a_job_twice_and_is_told_of() -> None:
    with arena(OURS, n=3) as here:
        workers = run_all_and_one_again(here)
        here.system = THEIRS

        assert here.check_once(workers) == {"doubled": 1}


def test_a_peer_that_promises_at_most_once_may_not() -> None:
    with arena(OURS, n=3) as here:
        workers = run_all_and_one_again(here)
        here.system = dataclasses.replace(THEIRS, delivery="at most once")

        with pytest.raises(CellFailed, match="job 1: 2 times"):
            here.check_once(workers)


def test_a_job_that_was_lost_fails_the_cell_of_a_peer_too() -> None:
    with arena(OURS, n=3) as here:
        here.producer().do("enqueue", how="one", task="noop", first=0, count=2)
        workers = here.workers()
        here.wait_for_runs(2, workers)
        here.system = THEIRS

        with pytest.raises(CellFailed, match=r"\(job 2: 0 times\)"):
            here.check_once(workers)


def test_a_worker_that_ends_fails_the_cell_at_once_with_its_last_lines() -> None:
    broken = dataclasses.replace(OURS, module="no_such_module")

    with arena(broken, n=1) as here, pytest.raises(CellFailed, match=r"(?s)ended with status 1.*no_such_module"):
        here.workers()


def test_a_system_without_an_option_skips_the_cells_that_need_it() -> None:
    always = dataclasses.replace(OURS, results_optional=False)

    with pytest.raises(Unsupported, match="results cannot be turned off"), arena(always, n=1, results=False):
        pass


def run_all_and_one_again(here: Arena) -> Workers:
    producer = here.producer()
    producer.do("enqueue", how="one", task="noop", first=0, count=3)
    producer.do("enqueue", how="one", task="noop", first=1, count=1)
    workers = here.workers()
    here.wait_for_runs(4, workers)
    return workers


def test_what_watching_costs_is_a_share_of_the_same_turn() -> None:
    """The variants that watch are set up, run every job once, and are compared with the one that does not."""
    figures = CELLS["overhead"].run(OURS, Size(quick=True))

    assert figures["jobs"] == 200
    assert figures["watched_share"] > 0
    assert figures["recorded_worker_cpu_us"] > 0
