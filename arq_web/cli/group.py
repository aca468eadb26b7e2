"""A click group whose first word may be a target instead of a command; and how our errors end a command."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from arq_web.errors import ArqWebError, JobError, StoreError

RAW_ARGUMENTS = "arq_web.arguments"
"""Where ``click.Context.meta`` keeps the words of the command line: a reloading parent gives them to its child."""

_LIBRARY = Path(__file__).parent.parent


class CommandOrTarget(click.Group):
    """``app-worker main:app`` is ``app-worker worker main:app``."""

    def __init__(self, *args: Any, default: click.Command, **options: Any) -> None:
        """``default`` is the command for a first word that names none; the rest is as for click.Group."""
        super().__init__(*args, **options)
        self._default = default
        self.add_command(default)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command's name in front where no command is named."""
        ctx.meta[RAW_ARGUMENTS] = list(args)
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help", "--version"):
            args = [self._default.name or "", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """``TARGET [OPTIONS]`` or a command."""
        return ["TARGET [OPTIONS]\n      ", ctx.command_path, "COMMAND ..."]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The default command's options, then the other commands."""
        own = [record for each in self.get_params(ctx) if (record := each.get_help_record(ctx)) is not None]
        of_default = [record for each in self._default.params if (record := each.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl([*of_default, *own])
        self.format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what we raise ourselves ends it with its message alone."""
        try:
            return super().invoke(ctx)
        except ArqWebError as error:
            raise failure(error) from error


class Failed(click.ClickException):
    """Ends the command: the message on standard error, no traceback."""

    exit_code = 1


class WrongSetup(Failed):
    """What was set up cannot work: nothing was begun."""

    exit_code = 2


class StartupFailed(Failed):
    """The app's own start-up said no."""

    exit_code = 3


def failure(error: ArqWebError) -> Failed:
    """How ``error`` ends a command: with 1 for what Redis or a job came to, with 2 for what is wrong in the set-up."""
    kind = Failed if isinstance(error, (StoreError, JobError)) else WrongSetup
    return kind(_with_place(error))


def app_traceback(error: BaseException) -> str:
    """The traceback of an error in the app's code, from the app's first line on."""
    lines = traceback.format_exception(type(error), error, _from_app(error.__traceback__))
    return "".join(lines).rstrip()


def is_from_app(error: BaseException) -> bool:
    """Whether the app's code had a part in it: then its author wants the traceback."""
    return any(_is_apps(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def _with_place(error: ArqWebError) -> str:
    """The message, and the line of the app that led to it, if one did (a wrong ``@task(...)``, for example)."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_apps(frame.filename)]
    return f"{error}\n  at {places[-1].filename}:{places[-1].lineno}" if places else str(error)


def _from_app(start: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that only lead to the app; all of it where none is the app's."""
    return next((each for each in _chain(start) if _is_apps(each.tb_frame.f_code.co_filename)), start)


def _chain(each: TracebackType | None) -> Iterator[TracebackType]:
    while each is not None:
        yield each
        each = each.tb_next


def _is_apps(filename: str) -> bool:
    path = Path(filename)
    foreign = {"site-packages", "dist-packages"} & set(path.parts)
    standard = Path(traceback.__file__).parent
    return path.is_absolute() and not (foreign or path.is_relative_to(_LIBRARY) or path.is_relative_to(standard))
