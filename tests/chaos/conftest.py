"""The summary table of ``make chaos``: one row per scenario that judged its jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.verdict import Verdict, table

ROW = "chaos"


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[Verdict], None]:
    """Put a verdict into the table that is printed at the end; the test itself still asserts its bars."""
    return lambda verdict: record_property(ROW, json.dumps(verdict.as_row()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table (from the reports, which also come from xdist's processes)."""
    reports = [each for outcome in ("passed", "failed") for each in terminalreporter.stats.get(outcome, ())]
    rows = [json.loads(value) for each in reports for name, value in each.user_properties if name == ROW]
    if rows:
        terminalreporter.section("what became of the jobs")
        for line in table(rows):
            terminalreporter.write_line(line)
