"""``app-worker check main:app``: is there a worker for every queue? Is the one of this host alive? For exec probes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from arq_web.cli.app_source import AppSource, chosen_queues, takes_app, with_connections
from arq_web.cli.group import Failed
from arq_web.cli.health_port import ENV, HIGHEST, health_port
from arq_web.errors import StoreError
from arq_web.health.exchange import BadAnswer, ask, in_url
from arq_web.hub import Hub

PROBES = {"live": "/livez", "ready": "/readyz", "started": "/startupz"}
LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check came to."""

    text: str
    details: dict[str, Any]
    is_fine: bool

    def show(self, *, as_json: bool) -> None:
        """Print it: bad news on standard error, JSON always on standard output."""
        if as_json:
            click.echo(msgspec.json.encode({"status": "ok" if self.is_fine else "failing", **self.details}).decode())
        else:
            click.echo(self.text, err=not self.is_fine)


@click.command()
@takes_app
@click.option(
    "--queue", "-q", "queues", multiple=True, metavar="NAME", help="Check this queue; default: all of the app's."
)
@click.option("--live", "probe", flag_value="live", help="Ask the health port of the worker on this host: is it alive?")
@click.option("--ready", "probe", flag_value="ready", help="The same: is it ready?")
@click.option("--started", "probe", flag_value="started", help="The same: is it up?")
@click.option(
    "--health-port", type=click.IntRange(1, HIGHEST), metavar="PORT", help=f"That worker's port. Default: {ENV}."
)
@click.option("--health-host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="That worker's address.")
@click.option(
    "--timeout",
    "limit_s",
    type=click.FloatRange(0.1, 3600),
    default=LIMIT_S,
    show_default=True,
    metavar="SECONDS",
    help="No answer within this time is a no. The time to import the app does not count.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
@click.pass_context
def check(
    ctx: click.Context,
    source: AppSource,
    *,
    queues: tuple[str, ...],
    probe: str | None,
    health_port: int | None,
    health_host: str,
    limit_s: float,
    as_json: bool,
) -> None:
    """Exit with 0 if a live worker serves every queue, with 1 if not, or if Redis does not answer.

    With --live, --ready or --started: ask the worker of this host at its health port. TARGET is not imported then.

    \b
      app-worker check main:app --queue mail
      app-worker check main:app --live
    """  # noqa: D301 - click reads the escape
    if probe is None:
        result = _check_queues(source, queues, limit_s)
    elif queues:
        raise click.UsageError(f"--{probe} asks one worker for itself: leave out --queue.")
    else:
        result = _check_worker(health_host, _port(source, health_port), PROBES[probe], limit_s)
    result.show(as_json=as_json)
    ctx.exit(0 if result.is_fine else Failed.exit_code)


def _check_queues(source: AppSource, queues: tuple[str, ...], limit_s: float) -> CheckResult:
    hub = source.load_hub()
    names = chosen_queues(hub, queues)

    async def count_workers(hub: Hub) -> dict[str, int]:
        async with asyncio.timeout(limit_s):
            return {name: len(await hub.queue(name).store.workers()) for name in names}

    try:
        counts = with_connections(hub, count_workers)
    except TimeoutError:
        return CheckResult(f"Redis did not answer within {limit_s:g} s.", {"error": "timeout"}, is_fine=False)
    except StoreError as error:
        return CheckResult(str(error), {"error": str(error)}, is_fine=False)
    unserved = [name for name, count in counts.items() if not count]
    if unserved:
        text = f"No worker serves {', '.join(unserved)}. Start one: app-worker {source.target}"
        return CheckResult(text, {"workers": counts}, is_fine=False)
    text = ", ".join(f"{name}: {count} worker{'s'[: count != 1]}" for name, count in counts.items())
    return CheckResult(text, {"workers": counts}, is_fine=True)


def _port(source: AppSource, flag: int | None) -> int:
    port = health_port(flag, source.environ())
    if port is None:
        raise click.UsageError(f"Which port? Give --health-port, or set {ENV}, as for the worker itself.")
    return port


def _check_worker(host: str, port: int, path: str, limit_s: float) -> CheckResult:
    async def asked() -> CheckResult:
        async with asyncio.timeout(limit_s):
            answer = await ask(host, port, path)
        body = msgspec.json.decode(answer.body)
        reasons = "; ".join(_reasons(answer.status, body))
        return CheckResult(f"{path}: {reasons or 'ok'}", {"probe": path, **body}, is_fine=not reasons)

    return asyncio.run(_or_silence(asked, f"{in_url(host)}:{port}", limit_s))


def _reasons(status: int, body: object) -> list[str]:
    """Why not; nothing for a yes.

    Raises:
        BadAnswer: it is JSON, but not of a worker's health port.
    """
    match status, body:
        case 200, {"status": "ok", "reasons": {}}:
            return []
        case 503, {"status": "failing", "reasons": dict(reasons)} if reasons:
            return [str(reason) for reason in reasons.values()]
        case 500 | 503, {"error": str(error)}:
            return [error]
        case _:
            raise BadAnswer("it does not answer as health ports do")


async def _or_silence(asked: Callable[[], Awaitable[CheckResult]], place: str, limit_s: float) -> CheckResult:
    try:
        return await asked()
    except TimeoutError:
        why = f"{place} did not answer within {limit_s:g} s"
    except (BadAnswer, msgspec.DecodeError):
        why = f"what answers at {place} is no worker's health port"
    except OSError as error:
        why = f"Nobody answers at {place}: {error.strerror or error}. Does a worker run there with --health-port?"
    return CheckResult(why, {"error": why}, is_fine=False)
