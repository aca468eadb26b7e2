"""The cells of the table: one file per group."""

from __future__ import annotations

from benchmarks.cells import embedded, footprint, latency, overhead, throughput, web_route
from benchmarks.cells.base import Cell

GROUPS = (throughput, latency, footprint, embedded, web_route, overhead)
CELLS: dict[str, Cell] = {cell.name: cell for group in GROUPS for cell in group.CELLS}
