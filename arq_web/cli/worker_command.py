"""``app-worker main:app``: the options of the worker."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from arq_web.cli.app_source import AppSource, takes_app
from arq_web.cli.group import RAW_ARGUMENTS
from arq_web.cli.reload import Reloader, is_reload_child
from arq_web.cli.running import LoopName, WorkerFlags, run_worker
from arq_web.logs import LogOutput, LogStyle

LEVELS = ("debug", "info", "warning", "error", "critical")
RELOAD_DRAIN_S = 3.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, hidden=True)
@takes_app
@click.option(
    "--queue",
    "-q",
    "queues",
    multiple=True,
    metavar="NAME",
    help="Serve this queue; several are served in strict order. Default: all of the app's.",
)
@click.option(
    "--concurrency", "-c", type=click.IntRange(1, 1000), help="Jobs at the same time. Default: ARQ_WEB_CONCURRENCY, 10."
)
@click.option("--burst", is_flag=True, help="End when nothing is left to do.")
@click.option(
    "--drain-timeout",
    "drain_s",
    type=click.FloatRange(0, 86400),
    metavar="SECONDS",
    help="How long running jobs may go on after SIGTERM. Default: ARQ_WEB_DRAIN_S, 25; with --reload 3.",
)
@click.option("--reload", "reload", is_flag=True, help="Start again when a .py file changes (needs arq-web[dev]).")
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Watch this instead of the working directory; may be repeated.",
)
@click.option(
    "--lifespan/--no-lifespan", default=True, help="Run the app's lifespan around the worker (default), or not."
)
@click.option(
    "--loop",
    type=click.Choice(("auto", "asyncio", "uvloop")),
    default="auto",
    help="Event loop; auto takes uvloop where it is installed.",
)
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(("text", "json")), default="text", show_default=True)
@click.pass_context
def worker(
    ctx: click.Context,
    source: AppSource,
    *,
    queues: tuple[str, ...],
    concurrency: int | None,
    burst: bool,
    drain_s: float | None,
    reload: bool,
    reload_dirs: tuple[Path, ...],
    lifespan: bool,
    loop: LoopName,
    log_level: str,
    log_format: LogStyle,
) -> None:
    """Run the jobs of TARGET (module:name, as for uvicorn) until told to stop.

    \b
      app-worker main:app --queue mail --queue default --concurrency 20
    """  # noqa: D301 - click reads the escape
    if reload and drain_s is None:
        drain_s = RELOAD_DRAIN_S
    log = LogOutput(logging.getLevelNamesMapping()[log_level.upper()], log_format)
    log.start()
    if reload and not is_reload_child():
        folders = reload_dirs or (source.app_dir or Path.cwd(),)
        ctx.exit(Reloader(ctx.meta[RAW_ARGUMENTS], folders, drain_s=drain_s or 0.0).run())
    flags = WorkerFlags(queues, concurrency, drain_s, burst=burst, lifespan=lifespan, loop=loop)
    ctx.exit(run_worker(source, flags, log))
