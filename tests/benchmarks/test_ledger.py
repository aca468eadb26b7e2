"""The check that every job ran exactly once: it must see what several processes did, and what they did twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ledger import Ledger, LedgerReader
from tests.docs.pages import ROOT

JOBS = 1000
RUNS = """
import sys
from benchmarks.ledger import Ledger
ledger = Ledger(sys.argv[1], int(sys.argv[2]))
for index in map(int, sys.argv[3].split(",")):
    ledger.ran(index)
    ledger.ended(index)
"""
FORKS = """
import os, sys
from benchmarks.ledger import Ledger
ledger = Ledger(sys.argv[1], int(sys.argv[2]))
ledger.ran(0)
if os.fork() == 0:
    ledger.ran(0)
    os._exit(0)
os.wait()
"""


def run(program: str, folder: Path, *arguments: str) -> None:
    """A worker process of nobody: it only keeps a ledger."""
    subprocess.run(
        [sys.executable, "-c", program, str(folder), str(JOBS), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=30,
    )


def test_what_two_processes_ran_adds_up(tmp_path: Path) -> None:
    run(RUNS, tmp_path, ",".join(map(str, range(0, JOBS, 2))))
    run(RUNS, tmp_path, ",".join(map(str, range(1, JOBS, 2))))

    reader = LedgerReader(tmp_path, JOBS)

    assert reader.total() == JOBS
    assert reader.not_once(JOBS) == {}
    assert len(reader.first_starts()) == 2
    assert all(0 < start <= end for start, end in zip(reader.starts(), reader.ends(), strict=True))


@pytest.mark.parametrize(
    ("ran", "wrong"),
    [
        pytest.param([0, 1, 2, 2], {2: 2}, id="twice in one process"),
        pytest.param([0, 1], {2: 0}, id="lost"),
        pytest.param([0, 1, 2, 7], {7: 1}, id="never enqueued"),
    ],
)
def test_a_job_that_did_not_run_exactly_once_is_named(tmp_path: Path, ran: list[int], wrong: dict[int, int]) -> None:
    run(RUNS, tmp_path, ",".join(map(str, ran)))

    assert LedgerReader(tmp_path, JOBS).not_once(3) == wrong


def test_a_job_that_ran_once_in_each_of_two_processes_ran_twice(tmp_path: Path) -> None:
    run(RUNS, tmp_path, "0,1,2")
    run(RUNS, tmp_path, "1")

    assert LedgerReader(tmp_path, JOBS).not_once(3) == {1: 2}


def test_a_forked_child_keeps_a_ledger_of_its_own(tmp_path: Path) -> None:
    """Systems that fork per job would else write into one file from two processes, and lose a count."""
    run(FORKS, tmp_path)

    reader = LedgerReader(tmp_path, JOBS)

    assert reader.not_once(1) == {0: 2}
    assert len(reader.first_starts()) == 2


def test_the_driver_sees_a_process_while_it_still_runs(tmp_path: Path) -> None:
    """The driver waits for the last job by looking here; it cannot wait for the worker's end."""
    reader = LedgerReader(tmp_path, JOBS)
    assert reader.total() == 0

    ledger = Ledger(tmp_path, JOBS)
    ledger.ran(5)

    assert reader.total() == 1
    assert reader.has_run(5)
    assert not reader.has_run(6)
