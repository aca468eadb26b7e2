"""arq's command: ``python -m arq_web.arq tasks.WorkerSettings`` (``app-worker`` takes the same)."""

from __future__ import annotations

import asyncio
import contextlib
import logging.config
import os
import sys
import threading
import time
from collections.abc import Callable
from signal import Signals
from typing import Any

import click

from arq_web.arq.logs import default_log_config
from arq_web.arq.typing import WorkerSettingsType
from arq_web.arq.utils import import_string
from arq_web.arq.version import VERSION
from arq_web.arq.worker import check_health, create_worker

STOP_LIMIT_S = 30.0
"""A worker that is started again gets so long to end."""
PARENT_ENV = "ARQ_WEB_WATCH_PARENT"
"""Tells a worker that it was started by ``--watch``, and by whom."""
ORPHAN_LOOK_S = 1.0


@click.command("arq")
@click.version_option(VERSION, "-V", "--version", prog_name="arq")
@click.argument("worker-settings", type=str, required=True)
@click.option("--burst/--no-burst", default=None, help="End when nothing is left to do, deferred jobs included.")
@click.option("--check", is_flag=True, help="Say whether a worker is alive, by the exit status, and end.")
@click.option(
    "--watch",
    type=click.Path(exists=True, dir_okay=True, file_okay=False),
    help="Start the worker again when a file in this directory changes.",
)
@click.option("-v", "--verbose", is_flag=True, help="Write DEBUG lines too.")
@click.option("--custom-log-dict", type=str, help="Dotted name of a dict for logging.config.dictConfig.")
def cli(
    *,
    worker_settings: str,
    burst: bool | None,
    check: bool,
    watch: str | None,
    verbose: bool,
    custom_log_dict: str | None,
) -> None:
    """Run the worker of WORKER_SETTINGS, the dotted name of a settings class."""
    sys.path.append(str(_here()))
    settings = import_string(worker_settings)
    logging.config.dictConfig(import_string(custom_log_dict) if custom_log_dict else default_log_config(verbose))
    if check:
        sys.exit(check_health(settings))
    if watch:
        arguments = [worker_settings, *(["-v"] if verbose else [])]
        if custom_log_dict:
            arguments += ["--custom-log-dict", custom_log_dict]
        asyncio.run(_watch(watch, arguments))
        return
    options: dict[str, Any] = {} if burst is None else {"burst": burst}
    worker = create_worker(settings, **options)
    worker.owns_process = True
    if (parent := os.environ.pop(PARENT_ENV, None)) is not None:
        stop_when_orphaned(lambda: str(os.getppid()) != parent)
    worker.run()


def stop_when_orphaned(is_orphan: Callable[[], bool]) -> None:
    """End this process, as a signal does, when whoever restarts it is gone: it would run old code for ever."""

    def watch() -> None:
        while not is_orphan():
            time.sleep(ORPHAN_LOOK_S)
        os.kill(os.getpid(), Signals.SIGTERM)

    threading.Thread(target=watch, name="arq_web.orphan", daemon=True).start()


async def watch_reload(path: str, worker_settings: WorkerSettingsType | str) -> None:
    """Run a worker in a process of its own, and start it again when a file changes: with the code as it is then.

    Args:
        path: the directory to watch.
        worker_settings: the settings class, importable by its module and name; or its dotted name.

    Raises:
        ImportError: watchfiles is not installed.
    """
    given: Any = worker_settings
    name = given if isinstance(given, str) else f"{given.__module__}.{given.__qualname__}"
    await _watch(path, [name])


async def _watch(path: str, arguments: list[str]) -> None:
    try:
        from watchfiles import awatch  # noqa: PLC0415 - of the dev extra
    except ImportError as error:
        raise ImportError("watchfiles not installed, use `pip install watchfiles`") from error
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (Signals.SIGINT, Signals.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signum, stopping.set)
    child = await _start(arguments)
    try:
        async for _ in awatch(path, stop_event=stopping):
            click.echo("\nfiles changed, reloading arq worker...")
            await _stop(child)
            child = await _start(arguments)
    finally:
        await _stop(child)


async def _start(arguments: list[str]) -> asyncio.subprocess.Process:
    env = {**os.environ, PARENT_ENV: str(os.getpid())}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "arq_web.arq", *arguments, env=env)


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


def _here() -> str:
    return os.getcwd()  # noqa: PTH109 - sys.path holds text
