"""What is aimed at, row by row, and whether a run has met it. Pure: figures in, verdicts out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.running import Record

AT_MOST_ONCE = "at most once"


class Better(Enum):
    """Which way a figure is good."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table: a figure of a cell, and the bound that it is to meet.

    With ``ratio``, ours is divided by each peer's of the same round, and the bound is for that; without, the bound is
    for our own figure.
    """

    row: str
    cell: str
    figure: str
    unit: str
    better: Better
    bound: float
    ratio: bool = False

    @property
    def aim(self) -> str:
        """The bound in words: ``>= 8 x the best peer``."""
        sign = ">=" if self.better is Better.HIGHER else "<="
        return f"{sign} {self.bound:g} x the best peer" if self.ratio else f"{sign} {self.bound:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a target."""

    target: Target
    medians: Mapping[str, float]
    """Of each system that has the figure."""
    best_peer: str
    """The at-least-once peer against which we look worst; empty if there is none."""
    judged: float
    """What is held against the bound: the worse quartile of our figures, or of the ratios to the best peer."""
    runs: int
    """How many figures (pairs of figures) that is the quartile of."""

    @property
    def is_met(self) -> bool | None:
        """None: there is nothing to judge by."""
        if math.isnan(self.judged):
            return None
        is_high = self.target.better is Better.HIGHER
        return self.judged >= self.target.bound if is_high else self.judged <= self.target.bound


HIGHER, LOWER = Better.HIGHER, Better.LOWER
TARGETS = (
    Target("Drain no-op jobs, results on", "drain", "drain_per_s", "jobs/s", HIGHER, 8, ratio=True),
    Target("Worker CPU per job", "drain", "worker_cpu_us", "us", LOWER, 50),
    Target("Redis CPU per job, enqueue + drain", "drain", "redis_cpu_us", "us", LOWER, 40),
    Target("50 ms jobs at concurrency 500, share of the ideal", "io-jobs", "share_of_ideal", "", HIGHER, 0.85),
    Target("Enqueue one by one", "enqueue", "one_per_s", "jobs/s", HIGHER, 2, ratio=True),
    Target("Enqueue by 100 callers", "enqueue", "callers_per_s", "jobs/s", HIGHER, 3, ratio=True),
    Target("Enqueue in bulk", "enqueue", "bulk_per_s", "jobs/s", HIGHER, 4, ratio=True),
    Target("Idle latency p50", "idle-latency", "start_p50_ms", "ms", LOWER, 0.5, ratio=True),
    Target("Idle latency p99", "idle-latency", "start_p99_ms", "ms", LOWER, 0.5, ratio=True),
    Target("Latency at 3,000 jobs/s, p99", "latency-3000", "start_p99_ms", "ms", LOWER, 4),
    Target("Latency at half of the own top rate, p99", "latency-half", "start_p99_ms", "ms", LOWER, 10),
    Target("5,000 due at once, lateness p99", "due-at-once", "late_p99_ms", "ms", LOWER, 500),
    Target("Result round trip p50", "idle-latency", "result_p50_ms", "ms", LOWER, 0.75, ratio=True),
    Target("Commands of an idle worker process", "idle-commands", "commands_per_s", "per s", LOWER, 1),
    Target("Redis memory per queued job", "memory", "queued_bytes", "bytes", LOWER, 450),
    Target("Left behind when all is done and expired", "memory", "left_bytes", "bytes per job", LOWER, 0),
    Target("Drain rate at depth 200k against 1k", "depth", "ratio", "", HIGHER, 0.9),
    Target("Drain with all that watches on, share of all off", "overhead", "watched_share", "", HIGHER, 0.9),
    Target("Embedded worker busy with I/O jobs: HTTP p99 against idle", "embedded", "p99_ratio", "", LOWER, 1.5),
)


def paired_cells(targets: Iterable[Target] = TARGETS) -> frozenset[str]:
    """The cells in which systems are compared round by round."""
    return frozenset(target.cell for target in targets if target.ratio)


def verdict(target: Target, records: Sequence[Record], *, ours: str, delivery: Mapping[str, str]) -> Verdict:
    """Judge one target.

    Args:
        target: the row.
        records: of all cells; others are passed over.
        ours: our name among the systems.
        delivery: of each system; one that runs at most once is shown, not compared with.
    """
    figures = _by_system(target, records)
    medians = {name: statistics.median(rounds.values()) for name, rounds in figures.items()}
    own = figures.get(ours, {})
    if not target.ratio:
        judged = _worse_quartile(list(own.values()), target.better)
        return Verdict(target, medians, _best_peer(target, medians, ours, delivery), judged, len(own))
    ratios = {
        name: [own[number] / theirs for number, theirs in rounds.items() if number in own and theirs]
        for name, rounds in figures.items()
        if name != ours and delivery.get(name) != AT_MOST_ONCE
    }
    quartiles = {name: _worse_quartile(values, target.better) for name, values in ratios.items() if values}
    if not quartiles:
        return Verdict(target, medians, "", math.nan, 0)
    choose = min if target.better is Better.HIGHER else max
    worst = choose(quartiles, key=lambda name: quartiles[name])
    return Verdict(target, medians, worst, quartiles[worst], len(ratios[worst]))


def _by_system(target: Target, records: Sequence[Record]) -> dict[str, dict[int, float]]:
    """The figure of each system and round."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.cell == target.cell and target.figure in record.figures:
            found.setdefault(record.system, {})[record.round] = record.figures[target.figure]
    return found


def _best_peer(target: Target, medians: Mapping[str, float], ours: str, delivery: Mapping[str, str]) -> str:
    peers = [name for name in medians if name != ours and delivery.get(name) != AT_MOST_ONCE]
    choose = max if target.better is Better.HIGHER else min
    return choose(peers, key=lambda name: medians[name], default="")


def _worse_quartile(values: Sequence[float], better: Better) -> float:
    """The lower quartile of what should be high, the upper one of what should be low; NaN of nothing.

    Between two values the quartile lies between them (linearly), so of five it is the second worst.
    """
    if not values:
        return math.nan
    if len(values) == 1:
        return values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower if better is Better.HIGHER else upper
