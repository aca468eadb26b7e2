"""``app-worker check main:app``: is there a worker for every queue? For a deployment's health check."""

from __future__ import annotations

import click

from arq_web.cli.app_source import AppSource, chosen_queues, takes_app, with_connections
from arq_web.cli.group import Failed
from arq_web.hub import Hub


@click.command()
@takes_app
@click.option(
    "--queue", "-q", "queues", multiple=True, metavar="NAME", help="Check this queue; default: all of the app's."
)
@click.pass_context
def check(ctx: click.Context, source: AppSource, *, queues: tuple[str, ...]) -> None:
    """Exit with 0 if a live worker serves every queue, with 1 if not, or if Redis does not answer.

    \b
      app-worker check main:app --queue mail
    """  # noqa: D301 - click reads the escape
    hub = source.load_hub()
    names = chosen_queues(hub, queues)

    async def count_workers(hub: Hub) -> dict[str, int]:
        return {name: len(await hub.queue(name).store.workers()) for name in names}

    counts = with_connections(hub, count_workers)
    unserved = [name for name, count in counts.items() if not count]
    if unserved:
        click.echo(f"No worker serves {', '.join(unserved)}. Start one: app-worker {source.target}", err=True)
        ctx.exit(Failed.exit_code)
    click.echo(", ".join(f"{name}: {count} worker{'s'[: count != 1]}" for name, count in counts.items()))
