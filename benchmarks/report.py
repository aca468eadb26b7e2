"""A run as Markdown: the machine, the settings, each target met or not, and every figure of every cell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from benchmarks.cells import CELLS
from benchmarks.machine import is_busy
from benchmarks.results import Results
from benchmarks.running import Record
from benchmarks.targets import TARGETS, Verdict, verdict

Row = Sequence[str]


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [_targets(results), *(_cell(results, cell) for cell in CELLS), _troubles(results), _settings(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _targets(results: Results) -> str:
    ours = next((system.name for system in results.systems if system.is_ours), "")
    delivery = {system.name: system.delivery for system in results.systems}
    verdicts = [verdict(target, results.records, ours=ours, delivery=delivery) for target in TARGETS]
    rows = [_target_row(each, ours) for each in verdicts if each.medians]
    if not rows:
        return ""
    head = ("target", "aim", "ours", "best peer", "judged by", "")
    notes = [
        "A smoke test (`--quick`): the figures mean little." if results.quick else "",
        "**The machine was busy when this began**: repeat it on a quiet one." if is_busy(results.machine) else "",
    ]
    return "\n\n".join(["## Targets", _table(head, rows), *filter(None, notes)])


def _target_row(found: Verdict, ours: str) -> Row:
    target = found.target
    peer = f"{_number(found.medians[found.best_peer])} ({found.best_peer})" if found.best_peer else "-"
    own = f"{_number(found.medians[ours])} {target.unit}" if ours in found.medians else "-"
    what = f"ratio {_number(found.judged)}" if target.ratio else _number(found.judged)
    judged = "-" if math.isnan(found.judged) else f"{what} ({found.runs} run{'s' * (found.runs != 1)})"
    said = {True: "met", False: "**not met**", None: "not measured"}[found.is_met]
    return (target.row, target.aim, own.strip(), peer, judged, said)


def _cell(results: Results, name: str) -> str:
    records = [record for record in results.records if record.cell == name and record.figures]
    figures = list(dict.fromkeys(figure for record in records for figure in record.figures))
    systems = list(dict.fromkeys(record.system for record in records))
    rows = [(system, *(_median(records, system, figure) for figure in figures)) for system in systems]
    return f"### {CELLS[name].what}\n\n{_table((f'`{name}`', *figures), rows)}" if rows else ""


def _median(records: Sequence[Record], system: str, figure: str) -> str:
    values = [each.figures[figure] for each in records if each.system == system and figure in each.figures]
    return _number(statistics.median(values)) if values else "-"


def _troubles(results: Results) -> str:
    """What has no figure, and why; what a peer failed to do, or did twice."""
    lines = []
    for (cell, system), records in _by_run(results.records).items():
        failed = [record.failed for record in records if record.failed]
        if failed:
            lines.append(f"- `{cell}`, {system}: {len(failed)} of {len(records)} runs **failed**: {failed[-1]}")
        elif records[0].unsupported:
            lines.append(f"- `{cell}`, {system}: {records[0].unsupported}")
        if doubled := sum(record.figures.get("doubled", 0) for record in records):
            lines.append(f"- `{cell}`, {system}: {doubled:g} jobs ran twice in {len(records)} runs")
    listed = "\n".join(line.replace("\n", "\n  ") for line in lines)
    return f"## Failed, doubled, not possible\n\n{listed}" if lines else ""


def _by_run(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.cell, record.system), []).append(record)
    return found


def _settings(results: Results) -> str:
    machine = "\n".join(f"- {name}: {value}" for name, value in results.machine.items())
    rows = [(each.name, each.versions, each.delivery, each.settings) for each in results.systems]
    return (
        f"## How\n\nMedians of up to {results.rounds} rounds; a target is judged by the worse quartile. "
        f"Every job was counted; what was lost or ran twice is named. {results.took_s / 60:.1f} minutes.\n\n"
        f"{machine}\n\n{_table(('system', 'versions', 'a killed worker', 'settings'), rows)}"
    )


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _number(value: float) -> str:
    """Three digits that matter, and thousands in groups."""
    if value == 0 or math.isnan(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"
