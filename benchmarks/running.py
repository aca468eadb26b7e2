"""Runs cells in interleaved rounds (us, peer, us, peer ...) and keeps a record of each run."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.environment import System
from benchmarks.processes import CellFailed
from benchmarks.systems.base import Unsupported

PEER_TRIES = 2
ROUNDS_ALONE = 3


@dataclass(frozen=True, slots=True)
class Record:
    """What one run of one cell for one system gave."""

    cell: str
    system: str
    round: int
    figures: Figures = field(default_factory=dict)
    failed: str = ""
    """Why there are no figures; an empty text if there are."""
    unsupported: str = ""
    """Why the system cannot do it."""
    took_s: float = 0.0


def run_all(
    cells: Sequence[Cell],
    systems: Sequence[System],
    *,
    rounds: int,
    paired: frozenset[str] = frozenset(),
    costly: bool = False,
    quick: bool = False,
) -> Iterator[Record]:
    """Run each cell in turn.

    Args:
        cells: what to measure.
        systems: whom to measure, in the order of a round.
        rounds: how often; of cells that do not compare systems at most ``ROUNDS_ALONE``.
        paired: the cells that compare systems: there the peers take part in every round, elsewhere in the first.
        costly: peers take part in costly cells too.
        quick: a smoke test.
    """
    top_rates: dict[str, list[float]] = {}
    for cell in cells:
        for number in range(rounds if cell.name in paired else min(rounds, ROUNDS_ALONE)):
            for system in systems:
                if not _takes_part(system, cell, number, paired=cell.name in paired, costly=costly):
                    continue
                known = top_rates.get(system.name)
                size = Size(quick, statistics.median(known) if known else None)
                for record in _tries(cell, system, number, size):
                    if cell.name == "drain" and "drain_per_s" in record.figures:
                        top_rates.setdefault(system.name, []).append(record.figures["drain_per_s"])
                    yield record


def _takes_part(system: System, cell: Cell, number: int, *, paired: bool, costly: bool) -> bool:
    if number and cell.once:
        return False
    return system.is_ours or ((costly or not cell.costly) and not cell.ours_only and (number == 0 or paired))


def _tries(cell: Cell, system: System, number: int, size: Size) -> Iterator[Record]:
    """A peer that fails may try again, so that its pair is not lost; what failed is reported. We may not."""
    for _ in range(1 if system.is_ours else PEER_TRIES):
        record = _run(cell, system, number, size)
        yield record
        if not record.failed:
            break


def _run(cell: Cell, system: System, number: int, size: Size) -> Record:
    began = time.monotonic()
    figures, failed, unsupported = {}, "", ""
    try:
        figures = cell.run(system, size)
    except Unsupported as why:
        unsupported = str(why)
    except CellFailed as why:
        failed = str(why)
    except Exception as error:  # noqa: BLE001 - whatever it is, hours of other cells are not lost for it
        failed = "".join(traceback.format_exception(error)).strip()
    record = Record(cell.name, system.name, number, figures, failed, unsupported, time.monotonic() - began)
    print(f"benchmarks: {_line(record)}", file=sys.stderr, flush=True)
    return record


def _line(record: Record) -> str:
    said = f"FAILED: {record.failed.splitlines()[-1]}" if record.failed else record.unsupported
    figures = said or "  ".join(f"{name} {value:.4g}" for name, value in record.figures.items())
    return f"{record.cell} {record.system} #{record.round + 1} ({record.took_s:.1f} s): {figures}"
