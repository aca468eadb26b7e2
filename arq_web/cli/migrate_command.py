"""``app-worker migrate-arq tasks.WorkerSettings``: moves what waits in a real arq's keys into our queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from arq_web.cli.app_source import AppSource, takes_app
from arq_web.cli.group import Failed
from arq_web.cli.progress_bar import is_watched, progress_bar
from arq_web.errors import ImportFailed
from arq_web.logs import printable

if TYPE_CHECKING:
    from arq_web.arq._migrate import Migration, Report

SHOWN_COUNT = 20


@click.command("migrate-arq")
@takes_app
@click.option("--dry-run", is_flag=True, help="Read and count; write nothing.")
@click.option(
    "--force", is_flag=True, help="Even if a worker of arq's seems to be alive: what it runs now may run twice."
)
@click.option("--to-queue", metavar="NAME", help="Into this queue; default: the queue_name of the settings.")
@click.pass_context
def migrate_arq(ctx: click.Context, source: AppSource, *, dry_run: bool, force: bool, to_queue: str | None) -> None:
    """Move what waits in a real arq's Redis (queued, deferred, retrying) into our queue. Stop arq's workers before.

    It reads arq's pickles: only from a Redis that you trust. Killed in the middle, it goes on when it is started again.
    Exit with 1 if a job had to stay.

    \b
      app-worker migrate-arq tasks.WorkerSettings --dry-run
    """  # noqa: D301 - click reads the escape
    from arq_web.arq._migrate import migration_of  # noqa: PLC0415 - only where it is wanted

    loaded = source.load()
    if loaded.settings is None:
        raise ImportFailed(source.target, "it is no worker settings (a class, object or dict with functions)")
    settings = loaded.settings

    async def migrate() -> Report:
        async with migration_of(settings, to_queue=to_queue) as migration:
            if not force and not dry_run:
                await _refuse_if_alive(migration)
            return await _with_progress(migration, dry_run=dry_run)

    report = asyncio.run(migrate())
    click.echo(summary(report, dry_run=dry_run))
    if report.left:
        ctx.exit(Failed.exit_code)


def summary(report: Report, *, dry_run: bool) -> str:
    """The count by kind, and what stays."""
    from arq_web.arq._migrate import KINDS  # noqa: PLC0415

    verb = "would move" if dry_run else "moved"
    kinds = ", ".join(f"{report.moved[kind]} {kind}" for kind in KINDS if report.moved[kind])
    lines = [f"{verb} {report.total} job{'s'[: report.total != 1]}" + (f": {kinds}" if kinds else "")]
    if report.left:
        lines.append(f"{len(report.left)} stay{'s' * (len(report.left) == 1)} in arq's queue:")
        lines += [printable(f"  {job_id}: {why}") for job_id, why in list(report.left.items())[:SHOWN_COUNT]]
        if len(report.left) > SHOWN_COUNT:
            lines.append(f"  and {len(report.left) - SHOWN_COUNT} more")
    return "\n".join(lines)


async def _refuse_if_alive(migration: Migration) -> None:
    signs = await migration.signs_of_life()
    if signs:
        raise Failed(
            f"A worker of arq's seems to be alive: {'; '.join(signs)}. Stop it and start this again. "
            "If you know that none is (arq leaves these keys when it is killed), add --force."
        )


async def _with_progress(migration: Migration, *, dry_run: bool) -> Report:
    total = await migration.count() if is_watched() else 0
    try:
        with progress_bar(total, "looking" if dry_run else "moving") as advance:
            return await migration.run(dry_run=dry_run, on_job=lambda: advance(1))
    except asyncio.CancelledError:
        if not dry_run:
            click.echo("Interrupted: what was moved stays moved. Start this again to go on.", err=True)
        raise
