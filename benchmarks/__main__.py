"""``python -m benchmarks``, from the repository's root: run cells, show a run, list what there is."""

from __future__ import annotations

import time
from pathlib import Path

import click

from benchmarks import machine, report
from benchmarks.cells import CELLS
from benchmarks.environment import SetupFailed, System, all_systems, known_modules, ready
from benchmarks.results import Results, SystemFacts
from benchmarks.running import run_all
from benchmarks.targets import TARGETS, paired_cells

DEFAULT_SYSTEMS = ("ours", "arq-tuned", "saq", "taskiq-tuned")
QUICK_SYSTEMS = ("ours", "arq-tuned")
ALL = "all"
DEFAULT_CELLS = tuple(cell for cell in CELLS if any(target.cell == cell for target in TARGETS))
PAIRS = 5


@click.group()
def main() -> None:
    """This project and its peers, side by side."""


@main.command()
@click.option("--systems", help=f"Which, in the order of a round; or `{ALL}`. Default: {','.join(DEFAULT_SYSTEMS)}")
@click.option("--cells", help=f"Which; or `{ALL}`. Default: those that have a target.")
@click.option("--pairs", default=PAIRS, type=click.IntRange(min=1), help="Rounds: us, peer, us, peer ...")
@click.option("--quick", is_flag=True, help="A smoke test: one round of small sizes, one peer.")
@click.option("--out", default="bench-results.json", type=click.Path(dir_okay=False, path_type=Path))
def run(systems: str | None, cells: str | None, pairs: int, quick: bool, out: Path) -> None:
    """Measure, print the report, and keep the results for `table`."""
    wanted = [CELLS[name] for name in _chosen(cells)]
    measured = _ready(systems or ",".join(QUICK_SYSTEMS if quick else DEFAULT_SYSTEMS))
    results = Results(machine.described(), [SystemFacts.of(each) for each in measured], 1 if quick else pairs, quick)
    began = time.monotonic()
    rounds = run_all(
        wanted, measured, rounds=results.rounds, paired=paired_cells(), costly=cells is not None, quick=quick
    )
    for record in rounds:
        results.records.append(record)
        results.took_s = time.monotonic() - began
        results.save(out)  # after each: what was measured is not lost when the rest is interrupted
    click.echo(report.markdown(results))
    if any(record.failed for record in results.records if record.system == "ours"):
        raise click.ClickException("Cells of our own have failed; see above.")


@main.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def table(results: Path) -> None:
    """Print the report of an earlier run."""
    click.echo(report.markdown(Results.load(results)))


@main.command("list")
def list_all() -> None:
    """What can be measured, and of whom."""
    click.echo("Systems (an environment is made for each when it is first run):")
    click.echo(f"  {', '.join(known_modules())}; with a variant: arq-tuned, ...\nCells:")
    for cell in CELLS.values():
        click.echo(f"  {cell.name:18} {cell.what}")


def _chosen(names: str | None) -> list[str]:
    chosen = list(CELLS) if names == ALL else names.split(",") if names else list(DEFAULT_CELLS)
    for name in chosen:
        if name not in CELLS:
            raise click.UsageError(f"There is no cell {name!r}. These are: {', '.join(CELLS)}.")
    return chosen


def _ready(names: str) -> list[System]:
    try:
        return all_systems() if names == ALL else [ready(name) for name in names.split(",")]
    except SetupFailed as why:
        raise click.ClickException(str(why)) from why


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
