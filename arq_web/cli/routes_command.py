"""``app-worker routes main:app``: what each parameter of a job is, and which side fills it in."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from arq_web.cli.app_source import AppSource, takes_app
from arq_web.cli.table import table
from arq_web.hub import Hub
from arq_web.task import Task


@dataclass(frozen=True, slots=True)
class TaskSides:
    """A task, its route if it is one's, and parameter → side."""

    task: str
    route: str | None
    sides: dict[str, str]


@click.command()
@takes_app
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def routes(source: AppSource, *, as_json: bool) -> None:
    """Show which side fills in each parameter of each job: the request, or the worker.

    \b
      app-worker routes main:app
    """  # noqa: D301 - click reads the escape
    found = sorted(sides_of(source.load_app_hub()), key=lambda each: (each.route is None, each.route or each.task))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    rows = [row for each in found for row in _rows(each)]
    click.echo(table(("ROUTE", "TASK", "PARAMETER", "SIDE"), rows) if rows else "No tasks.")


def sides_of(hub: Hub) -> Iterator[TaskSides]:
    """Every task of the app. The adapters' tasks know their route and sides; of others the signature tells."""
    hub.collect()
    for task in hub.registry:
        sides, route = getattr(task, "sides", None), getattr(task, "route", None)
        yield TaskSides(
            task.name,
            route if isinstance(route, str) else None,
            dict(sides) if isinstance(sides, dict) else _sides_by_signature(task),
        )


def _sides_by_signature(task: Task[..., Any]) -> dict[str, str]:
    names = inspect.signature(task.fn).parameters
    return {name: f"worker ({task.injected[name]})" if name in task.injected else "argument" for name in names}


def _rows(each: TaskSides) -> Iterator[tuple[str, str, str, str]]:
    route, task = each.route or "-", each.task
    for name, side in (each.sides or {"-": "-"}).items():
        yield route, task, name, side
        route = task = ""
