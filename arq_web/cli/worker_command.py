"""``app-worker main:app``: the options of the worker."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from arq_web.cli.app_source import AppSource, takes_app
from arq_web.cli.arq_worker import ArqFlags, takes_arq_flags
from arq_web.cli.group import RAW_ARGUMENTS
from arq_web.cli.health_port import HIGHEST
from arq_web.cli.process_count import process_count
from arq_web.cli.reload import Reloader, is_reload_child
from arq_web.cli.running import WorkerFlags, run_worker
from arq_web.cli.supervised import Supervised
from arq_web.cli.supervisor import Supervisor, own_command
from arq_web.health.probes import MAX_LAG_S
from arq_web.health.server import ALL_ADDRESSES
from arq_web.logs import LogOutput, LogStyle

LEVELS = ("debug", "info", "warning", "error", "critical")
RELOAD_DRAIN_S = 3.0
P = ParamSpec("P")
R = TypeVar("R")


def takes_log(command: Callable[P, R]) -> Callable[..., R]:
    """Give a click command the options of its log, as a LogOutput that has not started."""

    @functools.wraps(command)
    def with_log(*args: Any, log_level: str, verbose: bool, log_format: LogStyle, **options: Any) -> R:
        level = logging.DEBUG if verbose else logging.getLevelNamesMapping()[log_level.upper()]
        return command(*args, log=LogOutput(level, log_format), **options)  # type: ignore[arg-type]

    decorated: Callable[..., R] = with_log
    for decorate in (
        click.option("--log-format", type=click.Choice(("text", "json")), default="text", show_default=True),
        click.option("--verbose", "-v", is_flag=True, help="The same as --log-level debug."),
        click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True),
    ):
        decorated = decorate(decorated)
    return decorated


def takes_worker_flags(command: Callable[P, R]) -> Callable[..., R]:
    """Give a click command the options of how a worker is to run, as WorkerFlags."""

    @functools.wraps(command)
    def with_flags(*args: Any, **options: Any) -> R:
        flags = WorkerFlags(**{each.name: options.pop(each.name) for each in fields(WorkerFlags)})
        return command(*args, flags=flags, **options)  # type: ignore[arg-type]

    decorated: Callable[..., R] = with_flags
    for decorate in reversed(_WORKER_OPTIONS):
        decorated = decorate(decorated)
    return decorated


_WORKER_OPTIONS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option(
        "--queue",
        "-q",
        "queues",
        multiple=True,
        metavar="NAME",
        help="Serve this queue; several are served in strict order. Default: all of the app's.",
    ),
    click.option(
        "--concurrency",
        "-c",
        type=click.IntRange(1, 1000),
        help="Jobs at the same time, in each process. Default: ARQ_WEB_CONCURRENCY, 10.",
    ),
    click.option("--burst/--no-burst", default=None, help="End when nothing is left to do."),
    click.option(
        "--drain-timeout",
        "drain_s",
        type=click.FloatRange(0, 86400),
        metavar="SECONDS",
        help="How long running jobs may go on after SIGTERM. Default: ARQ_WEB_DRAIN_S, 25; with --reload 3.",
    ),
    click.option(
        "--lifespan/--no-lifespan", default=True, help="Run the app's lifespan around the worker (default), or not."
    ),
    click.option(
        "--loop",
        type=click.Choice(("auto", "asyncio", "uvloop")),
        default="auto",
        help="Event loop; auto takes uvloop where it is installed.",
    ),
    click.option(
        "--health-port",
        type=click.IntRange(1, HIGHEST),
        metavar="PORT",
        help="Answer probes there: /livez, /readyz, /startupz, /metrics, /scale. Default: ARQ_WEB_HEALTH_PORT, none.",
    ),
    click.option(
        "--health-host",
        default=ALL_ADDRESSES,
        show_default=True,
        metavar="ADDRESS",
        help="At this address of the host only; :: is all of them, of IPv6 and IPv4.",
    ),
    click.option(
        "--health-max-lag",
        type=click.FloatRange(1, 86400),
        default=MAX_LAG_S,
        show_default=True,
        metavar="SECONDS",
        help="Not alive any more when the event loop is blocked for longer.",
    ),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, hidden=True)
@takes_app
@click.option(
    "--processes",
    metavar="COUNT",
    help="Run so many worker processes; auto: one per usable core. Default: ARQ_WEB_PROCESSES, 1.",
)
@takes_worker_flags
@click.option("--reload", "reload", is_flag=True, help="Start again when a .py file changes (needs arq-web[dev]).")
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Watch this instead of the working directory; may be repeated.",
)
@takes_log
@takes_arq_flags
@click.pass_context
def worker(
    ctx: click.Context,
    source: AppSource,
    log: LogOutput,
    of_settings: ArqFlags,
    flags: WorkerFlags,
    *,
    processes: str | None,
    reload: bool,
    reload_dirs: tuple[Path, ...],
) -> None:
    """Run the jobs of TARGET (module:name, as for uvicorn) until told to stop.

    \b
      app-worker main:app --queue mail --queue default --concurrency 20
      app-worker main:app --processes auto
      app-worker tasks.WorkerSettings --watch .
    """  # noqa: D301 - click reads the escape
    if of_settings.watch is not None:
        reload, reload_dirs = True, (*reload_dirs, of_settings.watch)
    if reload and flags.drain_s is None:
        flags = replace(flags, drain_s=RELOAD_DRAIN_S)
    supervised = Supervised.from_env()
    if supervised is not None:
        log.show_process(supervised.number)
    log.start()
    if supervised is None and not of_settings.check and not is_reload_child():
        arguments = ctx.meta[RAW_ARGUMENTS]
        count = process_count(processes, source.environ(), reload=reload)
        if count > 1:
            ctx.exit(Supervisor(own_command(arguments), count, flags.health_place(source.environ())).run())
        if reload:
            folders = reload_dirs or (source.app_dir or Path.cwd(),)
            ctx.exit(Reloader(arguments, folders, drain_s=flags.drain_s or 0.0).run())
    ctx.exit(run_worker(source, flags, log, of_settings, supervised))
