"""``app-worker tasks.WorkerSettings``: worker settings as arq's users write them, and the flags that arq's command has.

``arq_web.arq`` is imported here and only when there are settings: an app that does not use it does not load it.
"""

from __future__ import annotations

import functools
import logging
import logging.config
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from arq_web.cli.group import Failed, WrongSetup, app_traceback, is_from_app
from arq_web.cli.job_page import Values
from arq_web.cli.reload import is_reload_child, parent_is_gone
from arq_web.cli.supervised import Supervised
from arq_web.errors import ArqWebError
from arq_web.hub import Hub
from arq_web.job import JobInfo
from arq_web.logs import LogOutput

if TYPE_CHECKING:
    from arq_web.arq.worker import Worker

_ATTRIBUTE_OF = {"--queue": "queue_name", "--concurrency": "max_jobs", "--drain-timeout": "job_completion_wait"}
_FLAGS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option(
        "--watch",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="The same as --reload --reload-dir DIR.",
    ),
    click.option("--check", "is_check", is_flag=True, help="Of worker settings: exit with 0 if their worker is alive."),
    click.option(
        "--custom-log-dict", metavar="PATH", help="Of worker settings: import a dict for logging.config from here."
    ),
)
NOT_UNPICKLED = "a pickle; --unpickle shows it (and runs what whoever wrote it put there)"
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ArqFlags:
    """The flags that arq's command has: ``watch`` is for every target, the others are for worker settings only."""

    watch: Path | None = None
    check: bool = False
    custom_log_dict: str | None = None

    def refuse_for_app(self, target: str) -> None:
        """Say what an app has instead.

        Raises:
            UsageError: one of them was given.
        """
        if self.check:
            raise click.UsageError(f"{target} is no worker settings: use app-worker check {target}")
        if self.custom_log_dict:
            raise click.UsageError(
                f"{target} is no worker settings: let the app configure logging when it is imported."
            )


def takes_arq_flags(command: Callable[P, R]) -> Callable[..., R]:
    """Give a click command the flags that arq's has, as ArqFlags."""

    @functools.wraps(command)
    def with_flags(*args: Any, watch: Path | None, is_check: bool, custom_log_dict: str | None, **options: Any) -> R:
        return command(*args, of_settings=ArqFlags(watch, is_check, custom_log_dict), **options)  # type: ignore[arg-type]

    decorated: Callable[..., R] = with_flags
    for decorate in reversed(_FLAGS):
        decorated = decorate(decorated)
    return decorated


def refuse_for_settings(target: str, given: list[str]) -> None:
    """Say where the settings themselves have it.

    Raises:
        UsageError: a flag was given that only an app can follow.
    """
    for flag in given:
        raise click.UsageError(f"{target} is worker settings: set {_ATTRIBUTE_OF[flag]} there instead of {flag}.")


def run_settings(
    settings: Any, flags: ArqFlags, log: LogOutput, supervised: Supervised | None, *, burst: bool | None
) -> int:
    """Work as the settings say until a signal (or the end of a burst), or look whether their worker is alive.

    Args:
        settings: a class, an object or a dict.
        flags: those that are for settings only.
        log: has started.
        supervised: this process as its supervisor's; None where it has none.
        burst: instead of what the settings say.

    Raises:
        WrongSetup: the settings cannot work.
        Failed: the worker ended with an error.
    """
    from arq_web.arq.cli import stop_when_orphaned  # noqa: PLC0415 - see the module's docstring
    from arq_web.arq.worker import check_health, create_worker  # noqa: PLC0415

    _configure_logging(flags.custom_log_dict, log, supervised)
    if flags.check:
        with _short_errors():
            return check_health(settings)
    options: dict[str, Any] = {} if burst is None else {"burst": burst}
    if supervised is not None:
        options["handle_signals"] = True  # its supervisor's orders come that way
    try:
        worker = create_worker(settings, **options)
    except (ArqWebError, click.ClickException):
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise WrongSetup(f"These worker settings cannot work: {error}") from error
    worker.owns_process = True
    if is_reload_child():
        stop_when_orphaned(parent_is_gone)
    if supervised is not None:
        _join(worker, supervised)
    _run(worker)
    return 0


def hub_of_settings(settings: Any) -> Hub:
    """The queue that worker settings name, for the commands that look at jobs."""
    from arq_web.arq._settings import as_settings, make_client  # noqa: PLC0415 - see the module's docstring
    from arq_web.arq._translate import queue_word  # noqa: PLC0415
    from arq_web.arq.connections import ArqRedis  # noqa: PLC0415
    from arq_web.arq.constants import default_queue_name  # noqa: PLC0415
    from arq_web.arq.worker import get_kwargs  # noqa: PLC0415

    options = get_kwargs(settings)
    client = options.get("redis_pool") or make_client(ArqRedis, as_settings(options.get("redis_settings")))
    queue = queue_word(options.get("queue_name") or default_queue_name)
    return Hub(url=client.link.connections.target, queues=(queue,))


def reader_of_settings(settings: Any, *, may_unpickle: bool = False) -> Callable[[JobInfo], Values | None]:
    """What reads a job's arguments and result with the settings' own function.

    If they name none these are pickles: whoever can write to Redis chooses what reading one does. Not unasked.
    """
    from arq_web.arq._records import definition_of, result_of  # noqa: PLC0415 - see the module's docstring
    from arq_web.arq._translate import is_ours  # noqa: PLC0415
    from arq_web.arq.jobs import DeserializationError  # noqa: PLC0415
    from arq_web.arq.worker import get_kwargs  # noqa: PLC0415

    deserializer = get_kwargs(settings).get("job_deserializer")

    def values_of(info: JobInfo) -> Values | None:
        if not is_ours(info):
            return None
        if deserializer is None and not may_unpickle:
            return Values(NOT_UNPICKLED, NOT_UNPICKLED if info.is_finished else None)
        try:
            job = definition_of(info, deserializer)
            result = result_of(info, deserializer) if info.is_finished else None
        except DeserializationError:
            return None
        kwargs = {name: repr(value) for name, value in job.kwargs.items()}
        return Values(
            {"args": [repr(each) for each in job.args], "kwargs": kwargs},
            None if result is None else repr(result.result),
        )

    return values_of


def _join(worker: Worker, supervised: Supervised) -> None:
    """Let the worker tell its supervisor when it works, and hear from it when to stop."""
    from arq_web.arq._attempt import call_hook  # noqa: PLC0415 - see the module's docstring

    own_startup = worker.on_startup

    async def on_startup(ctx: dict[Any, Any]) -> None:
        await call_hook(own_startup, ctx)
        supervised.ready(is_burst=worker.burst)

    worker.on_startup = on_startup
    worker.on_signals = lambda stop: supervised.listening(functools.partial(stop, signal.SIGTERM))


def _run(worker: Worker) -> None:
    with _short_errors():
        worker.run()


@contextmanager
def _short_errors() -> Iterator[None]:
    """Let an error end the command: of Redis with its words alone, of the app's code with its traceback."""
    try:
        yield
    except (ArqWebError, click.ClickException):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] == "redis" and not is_from_app(error):
            raise Failed(f"Redis did not let the worker in: {error}") from error
        raise Failed(f"The worker failed:\n{app_traceback(error)}") from error


def _configure_logging(custom_log_dict: str | None, log: LogOutput, supervised: Supervised | None) -> None:
    """As arq does it: its own logger only. Ours, which would say the same again, speaks up when something is wrong."""
    from arq_web.arq.logs import default_log_config  # noqa: PLC0415 - see the module's docstring
    from arq_web.arq.utils import import_string  # noqa: PLC0415

    is_verbose = log.level <= logging.DEBUG
    log.set_level(logging.WARNING)
    if custom_log_dict:
        try:
            config = import_string(custom_log_dict)
        except ImportError as error:
            raise WrongSetup(f"--custom-log-dict {custom_log_dict}: {error}") from error
    else:
        config = default_log_config(is_verbose)
        if supervised is not None:
            standard = config["formatters"]["arq.standard"]
            standard["format"] = standard["format"].replace(" %(message)s", f" [{supervised.number}] %(message)s")
    logging.config.dictConfig(config)
