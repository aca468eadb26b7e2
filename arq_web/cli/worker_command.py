"""``app-worker main:app``: the options of the worker."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

import click

from arq_web import __version__
from arq_web.cli.app_source import AppSource, takes_app
from arq_web.cli.group import RAW_ARGUMENTS
from arq_web.cli.reload import CHILD_ENV, run_reloading
from arq_web.cli.running import WorkerFlags, run_worker
from arq_web.logs import LogOutput, LogStyle

LEVELS = ("debug", "info", "warning", "error", "critical")
RELOAD_DRAIN_S = 3.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, hidden=True)
@takes_app
@click.option("--queue", "-q", "queues", multiple=True, metavar="NAME", help="Serve this queue; several: in strict order. Default: all of the app's.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 1000), help="Jobs at the same time. Default: ARQ_WEB_CONCURRENCY, 10.")
@click.option("--burst", is_flag=True, help="End when nothing is left to do.")
@click.option("--drain-timeout", "drain_s", type=click.FloatRange(0, 86400), metavar="SECONDS", help="How long running jobs may go on after SIGTERM. Default: ARQ_WEB_DRAIN_S, 25; 3 with --reload.")
@click.option("--reload", "is_reloading", is_flag=True, help="Start again when a .py file changes (needs arq-web[dev]).")
@click.option("--reload-dir", "reload_dirs", multiple=True, type=click.Path(exists=True, path_type=Path), help="Watch this instead of the working directory; may be given several times.")
@click.option("--lifespan/--no-lifespan", default=True, help="Run the app's lifespan around the worker (the default), or not.")
@click.option("--loop", type=click.Choice(("auto", "asyncio", "uvloop")), default="auto", help="Event loop; auto takes uvloop where it is installed.")
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
    is_reloading: bool,
    reload_dirs: tuple[Path, ...],
    lifespan: bool,
    loop: Literal["auto", "asyncio", "uvloop"],
    log_level: str,
    log_format: LogStyle,
) -> None:
    """Run the jobs of TARGET (module:name, as for uvicorn) until told to stop."""
