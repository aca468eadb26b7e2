"""``app-worker doctor main:app``: is its Redis fit for it, and if not, what is to be changed?"""

from __future__ import annotations

import click

from arq_web.cli.app_source import AppSource, takes_app, with_connections
from arq_web.cli.doctor_findings import judge
from arq_web.cli.finding import findings_json, findings_text
from arq_web.cli.group import Failed
from arq_web.hub import Hub
from arq_web.store.examination import Examination, examine


@click.command()
@takes_app
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--json", "in_json", is_flag=True, help="JSON instead of text.")
@click.pass_context
def doctor(ctx: click.Context, source: AppSource, *, strict: bool, in_json: bool) -> None:
    """Check the Redis that the app is given: what to change, and why. Takes ten seconds at most.

    Exit with 0 if nothing is wrong, with 1 for errors (a Redis that cannot be reached is one).

    \b
      app-worker doctor main:app --strict
    """  # noqa: D301 - click reads the escape
    hub = source.load_hub()

    async def look(hub: Hub) -> Examination:
        config, target = hub.config, hub.queues.connections.target
        return await examine(target, config.namespace, hub.queue_names, deadline_s=config.command_deadline_s)

    facts = with_connections(hub, look)
    findings = judge(facts, hub.config, source.target, lambda name: hub.registry.find(name) is not None)
    click.echo(findings_json(findings) if in_json else findings_text(findings))
    statuses = {each.status for each in findings}
    if "error" in statuses or (strict and "warning" in statuses):
        ctx.exit(Failed.exit_code)
