"""``app-worker jobs ls | show | cancel | redrive``: look at jobs, and do what a person may do to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import click

from arq_web.cli.app_source import AppSource, chosen_queues, takes_app, with_connections
from arq_web.cli.durations import duration_ms
from arq_web.cli.group import Failed
from arq_web.cli.job_listing import as_json_lines, as_text, whats_missing
from arq_web.cli.job_page import FoundJob, page_json, page_text
from arq_web.cli.job_search import LISTED, Listing, Wanted, list_jobs
from arq_web.cli.progress_bar import is_watched, progress_bar
from arq_web.errors import JobNotFound, StoreCorrupt
from arq_web.hub import Hub
from arq_web.job import JobInfo
from arq_web.queue import Job
from arq_web.store.inspection import Inspector
from arq_web.store.keys import is_name

STATES = ("queued", "scheduled", "running", "retrying", "dead", "succeeded", "cancelled", "expired", "rejected")
PAGE_COUNT = 1000
AT_ONCE = 100
SHORTEST_PREFIX = 4

of_queue = click.option(
    "--queue", "-q", "queues", multiple=True, metavar="NAME", help="In this queue; default: all of the app's."
)
in_json = click.option("--json", "in_json", is_flag=True, help="JSON instead of text.")


@click.group()
def jobs() -> None:
    """Look at jobs, cancel them, redrive dead ones.

    \b
      app-worker jobs ls main:app                        what is alive, dead or rejected
      app-worker jobs ls main:app --state dead
      app-worker jobs show main:app 0b8f1c9e             all that is known of one
      app-worker jobs redrive main:app --all-dead
    """  # noqa: D301 - click reads the escape


@jobs.command("ls")
@takes_app
@of_queue
@click.option(
    "--state",
    type=click.Choice(STATES),
    help="Only these; succeeded, cancelled and expired ones are looked for in the whole database: slow.",
)
@click.option("--task", metavar="NAME", help="Of this task, with or without its module; * stands for anything.")
@click.option("--worker", metavar="TEXT", help="Whose last worker's name (host:pid:random) has this in it.")
@click.option("--error", metavar="TEXT", help="Whose error has this in its type or message.")
@click.option("--older-than", type=duration_ms, metavar="TIME", help="In their state for 90s, 10m, 2h, 3d or longer.")
@click.option("--newer-than", type=duration_ms, metavar="TIME", help="In their state for a shorter time than that.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows per queue and state."
)
@click.option("--json", "in_json", is_flag=True, help="JSON lines instead of text: one object per job.")
def ls(
    source: AppSource,
    /,
    *,
    queues: tuple[str, ...],
    state: str | None,
    limit: int,
    in_json: bool,
    **wanted: Any,
) -> None:
    """List jobs: those alive, dead ones (newest first), and what was rejected because it was no job.

    \b
      app-worker jobs ls main:app --state dead --error timeout --newer-than 1h
      app-worker jobs ls main:app --state running --older-than 10m --json
    """  # noqa: D301 - click reads the escape
    hub = source.load_hub()
    names = chosen_queues(hub, queues)
    states = LISTED if state is None else (state,)
    search = Wanted(
        task=wanted["task"],
        worker=wanted["worker"],
        error=wanted["error"],
        older_than_ms=wanted["older_than"],
        newer_than_ms=wanted["newer_than"],
    )

    async def look(hub: Hub) -> list[Listing]:
        return [await list_jobs(Inspector(hub.queue(name).store), name, states, limit, search) for name in names]

    listings = with_connections(hub, look)
    for line in as_json_lines(listings) if in_json else [as_text(listings)]:
        click.echo(line)
    for line in whats_missing(listings):
        click.echo(line, err=in_json)


@jobs.command()
@takes_app
@click.argument("job_id", metavar="ID")
@of_queue
@in_json
@click.option(
    "--unpickle",
    is_flag=True,
    help="Of worker settings without a job_deserializer: unpickle arguments and result to show them. A pickle may run "
    "any code: only where you trust all who can write to Redis.",
)
def show(source: AppSource, job_id: str, *, queues: tuple[str, ...], in_json: bool, unpickle: bool) -> None:
    """Show all that is known of a job, its arguments included. The beginning of its id is enough."""
    hub, values_of = source.load_hub_and_reader(may_unpickle=unpickle)
    names = chosen_queues(hub, queues)

    async def look(hub: Hub) -> FoundJob:
        for name in names:
            for stored_id in _stored_ids(job_id):
                found = await _find(hub, name, stored_id)
                if found is not None:
                    return found
        raise JobNotFound(job_id)

    found = with_connections(hub, look)
    if values_of is not None and isinstance(found.what, JobInfo):
        found = replace(found, values=values_of(found.what))
    click.echo(page_json(found) if in_json else page_text(found))


@jobs.command()
@takes_app
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@of_queue
@click.pass_context
def cancel(ctx: click.Context, source: AppSource, job_ids: tuple[str, ...], *, queues: tuple[str, ...]) -> None:
    """Cancel jobs: at once if they wait; a running one is asked to end. Exit with 1 if one had ended, or is unknown."""
    words = _each(source, queues, job_ids, lambda job: job.cancel(), "cancelling")
    _report(ctx, words, fine=("cancelled", "requested"))


@jobs.command()
@takes_app
@click.argument("job_ids", metavar="[ID...]", nargs=-1)
@click.option("--all-dead", is_flag=True, help="All that are dead now.")
@of_queue
@click.pass_context
def redrive(
    ctx: click.Context, source: AppSource, job_ids: tuple[str, ...], *, all_dead: bool, queues: tuple[str, ...]
) -> None:
    """Put dead, cancelled or expired jobs back into their queue with fresh counters. Exit status 1 if one cannot be."""
    if all_dead == bool(job_ids):
        raise click.UsageError("Give the ids of jobs, or --all-dead.")
    if not all_dead:
        _report(ctx, _each(source, queues, job_ids, lambda job: job.redrive(), "redriving"), fine=("redriven",))
        return
    hub = source.load_hub()
    names = chosen_queues(hub, queues)

    async def redrive_all(hub: Hub) -> None:
        for name in names:
            await _redrive_dead(hub, name)

    with_connections(hub, redrive_all)


async def _find(hub: Hub, queue: str, job_id: str) -> FoundJob | None:
    """A job by id, a reject by id, or the one job whose id begins like this."""
    store = hub.queue(queue).store
    inspector = Inspector(store)
    try:
        info = await store.read(job_id, with_payload=True)
    except StoreCorrupt as error:
        raise Failed(f"{error} The next claim moves it to the rejects: app-worker jobs ls --state rejected") from error
    if info is not None:
        return FoundJob(info)
    for reject in await inspector.rejects(limit=1000):
        if reject.id == job_id:
            return FoundJob(reject)
    if len(job_id) < SHORTEST_PREFIX:
        return None
    ids = await inspector.find(job_id.removesuffix("…"))
    if len(ids) > 1:
        raise Failed(f"Several ids begin with {job_id}: {', '.join(ids)}")
    return await _find(hub, queue, ids[0]) if ids else None


def _each(
    source: AppSource,
    queues: tuple[str, ...],
    job_ids: tuple[str, ...],
    act: Callable[[Job[object]], Awaitable[str]],
    label: str,
) -> dict[str, str]:
    hub = source.load_hub()
    names = chosen_queues(hub, queues)

    async def act_on_all(hub: Hub) -> dict[str, str]:
        words: dict[str, str] = {}
        with progress_bar(len(job_ids), label) as advance:
            for job_id in dict.fromkeys(job_ids):
                words[job_id] = await _act(hub, names, job_id, act)
                advance(1)
        return words

    return with_connections(hub, act_on_all)


async def _act(hub: Hub, names: tuple[str, ...], job_id: str, act: Callable[[Job[object]], Awaitable[str]]) -> str:
    """Act on the job of that id; ids are unique per queue only, and a guess could hit the wrong job."""
    places = [(name, stored_id) for name in names for stored_id in _stored_ids(job_id)]
    having = [
        (name, stored_id) for name, stored_id in places if await hub.queue(name).store.read(stored_id) is not None
    ]
    if len(having) > 1:
        where = ", ".join(name for name, _ in having)
        raise Failed(f"There is a job {job_id} in each of the queues {where}: say which, with --queue.")
    if not having:
        return "absent"
    name, stored_id = having[0]
    try:
        return await act(hub.queue(name).job(stored_id))
    except JobNotFound:
        return "absent"


def _stored_ids(job_id: str) -> tuple[str, ...]:
    """As it is, and as ``arq_web.arq`` stores an id with characters that ours cannot have."""
    return (job_id,) if is_name(job_id) else (job_id, quote(job_id, safe="._:@-"))


async def _redrive_dead(hub: Hub, name: str) -> None:
    """Redrive what is dead now, and say how many; what dies again meanwhile is left for a person to look at.

    Interrupted, it has redriven those that it says, and no job by half: started again, it goes on with the others.
    """
    queue = hub.queue(name)
    inspector = Inspector(queue.store)
    until_ms = await queue.store.server_now_ms()
    total = (await inspector.counts()).dead if is_watched() else 0
    done = skipped = 0
    try:
        with progress_bar(total, f"redriving {name}") as advance:
            while ids := await inspector.dead_ids(until_ms=until_ms, skip=skipped, limit=PAGE_COUNT):
                for some in (ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE)):
                    words = await asyncio.gather(*(_redrive_one(queue.job(job_id)) for job_id in some))
                    done += words.count("redriven")
                    skipped += len(words) - words.count("redriven")
                    advance(len(words))
    except asyncio.CancelledError:
        click.echo(f"{name}: interrupted, at least {done} are redriven; start this again for the others", err=True)
        raise
    click.echo(f"{name}: {done} redriven")


async def _redrive_one(job: Job[object]) -> str:
    try:
        return await job.redrive()
    except JobNotFound:
        return "absent"


def _report(ctx: click.Context, words: dict[str, str], *, fine: tuple[str, ...]) -> None:
    for job_id, word in words.items():
        click.echo(f"{job_id}: {word}")
    if any(word not in fine for word in words.values()):
        ctx.exit(Failed.exit_code)
