"""What a cell is: one thing that is set up, run and measured, for one system at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.arena import Figures
from benchmarks.environment import System

__all__ = ["Cell", "Figures", "Size"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much a cell is to do."""

    quick: bool = False
    """A smoke test: everything runs, no figure means much."""
    top_rate: float | None = None
    """What this system drained in this run, jobs per second; None if it has not."""

    def jobs(self, system: System, seconds: float, *, at_least: int = 500) -> int:
        """About so many no-op jobs as the system drains in that time, a multiple of 10."""
        rate = self.top_rate or system.rough_rate
        return max(at_least if not self.quick else 100, int(rate * self.seconds(seconds)) // 10 * 10)

    def seconds(self, wanted: float) -> float:
        """That time, or a tenth of it."""
        return wanted / 10 if self.quick else wanted

    def count(self, wanted: int) -> int:
        """That number, or a tenth of it."""
        return max(10, wanted // 10) if self.quick else wanted


@dataclass(frozen=True, slots=True)
class Cell:
    """One row or more of the table."""

    name: str
    what: str
    """What is set up and measured, in a sentence."""
    run: Callable[[System, Size], Figures]
    """Measure once.

    Raises:
        CellFailed: there is no figure, for the reason that it names.
        Unsupported: the system cannot do it.
    """
    ours_only: bool = False
    """There is nothing to compare with."""
    costly: bool = False
    """It takes minutes of a slow system: peers take part only where the cell was asked for by name."""
    once: bool = False
    """Its figures are counts, not times: one round will do."""
