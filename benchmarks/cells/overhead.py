"""What it costs to watch: the drain rate with metrics, traces and log context, against the same with nothing on."""

from __future__ import annotations

import statistics

from benchmarks.arena import arena
from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.cells.throughput import DRAIN_S, drained
from benchmarks.environment import System

OFF, WATCHED, RECORDED = "", "watched", "recorded"
VARIANTS = (OFF, WATCHED, RECORDED)
"""Variants of our adapter, which are no systems of the table."""
TURNS = 7


def overhead(system: System, size: Size) -> Figures:
    """Drain by turns, so that a change of the machine's mood meets all of them; each share is of the same turn."""
    count = size.jobs(system, DRAIN_S)
    how_many = 1 if size.quick else TURNS
    turns = [{variant: _drain(system, count, variant) for variant in VARIANTS} for _ in range(how_many)]
    figures: Figures = {}
    for name, variant in (("off", OFF), ("watched", WATCHED), ("recorded", RECORDED)):
        figures[f"{name}_per_s"] = statistics.median(turn[variant]["drain_per_s"] for turn in turns)
        figures[f"{name}_worker_cpu_us"] = statistics.median(turn[variant]["worker_cpu_us"] for turn in turns)
        if variant:
            shares = [turn[variant]["drain_per_s"] / turn[OFF]["drain_per_s"] for turn in turns]
            figures[f"{name}_share"] = statistics.median(shares)
    return figures | {"jobs": count}


def _drain(system: System, count: int, variant: str) -> Figures:
    with arena(system, n=count, variant=variant) as here:
        return drained(here, "noop")


CELLS = (
    Cell(
        "overhead",
        "Drain no-op jobs with metrics, log context and traces of one job in a hundred (or of all) against all off",
        overhead,
        ours_only=True,
    ),
)
