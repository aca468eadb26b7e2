"""What a reader gets: a table that says met or not, what failed, and on what it was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import markdown
from benchmarks.results import Results, SystemFacts
from benchmarks.running import Record

OURS = SystemFacts("ours", "arq-web 0.1.0", "at least once", "all defaults", is_ours=True)
PEER = SystemFacts("saq", "saq 0.26.4", "at least once", "all defaults | uvloop", is_ours=False)


@pytest.fixture
def results() -> Results:
    return Results(
        machine={"cores": "2", "redis": "Redis server v=7.0.15"},
        systems=[OURS, PEER],
        rounds=2,
        quick=False,
        took_s=90,
        records=[
            Record("drain", "ours", 0, {"drain_per_s": 20000.0, "worker_cpu_us": 20.0, "doubled": 0.0}),
            Record("drain", "saq", 0, {"drain_per_s": 2000.0, "worker_cpu_us": 400.0, "doubled": 1.0}),
            Record("drain", "ours", 1, {"drain_per_s": 22000.0, "worker_cpu_us": 22.0, "doubled": 0.0}),
            Record("drain", "saq", 1, failed="100 jobs did not happen within 120 s.\nthe worker's log"),
            Record("due-at-once", "saq", 0, unsupported="it cannot wait"),
        ],
    )


def test_a_row_says_what_was_aimed_at_what_came_of_it_and_whether_that_is_met(results: Results) -> None:
    report = markdown(results)

    aim = "| Drain no-op jobs, results on | >= 8 x the best peer |"
    assert f"{aim} 21,000 jobs/s | 2,000 (saq) | ratio 10.0 (1 run) | met |" in report
    assert "| Worker CPU per job | <= 50 us | 21.0 us | 400 (saq) | 21.5 (2 runs) | met |" in report


def test_a_row_that_is_not_met_says_so(results: Results) -> None:
    results.records[0] = replace(results.records[0], figures={"drain_per_s": 3000.0})

    assert "| ratio 1.50 (1 run) | **not met** |" in markdown(results)


def test_what_failed_what_ran_twice_and_what_cannot_be_is_listed_with_the_reason(results: Results) -> None:
    report = markdown(results)

    assert "`drain`, saq: 1 of 2 runs **failed**: 100 jobs did not happen within 120 s.\n  the worker's log" in report
    assert "`drain`, saq: 1 jobs ran twice in 2 runs" in report
    assert "`due-at-once`, saq: it cannot wait" in report


def test_machine_and_settings_are_part_of_the_report(results: Results) -> None:
    report = markdown(results)

    assert "- cores: 2" in report
    assert "| saq | saq 0.26.4 | at least once | all defaults \\| uvloop |" in report


def test_a_smoke_test_says_that_it_is_one(results: Results) -> None:
    results.quick = True

    assert "(`--quick`): the figures mean little" in markdown(results)


@pytest.mark.parametrize(("load", "said"), [("0.20", False), ("1.90", True)])
def test_a_machine_that_had_something_else_to_do_is_told_of(results: Results, load: str, said: bool) -> None:
    results.machine["load before"] = load

    assert ("The machine was busy" in markdown(results)) is said


def test_results_come_back_from_their_file_as_they_were(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")

    assert Results.load(tmp_path / "results.json") == results
