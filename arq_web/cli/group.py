"""A click group whose first word may be a target instead of a command; and how our errors end a command."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from arq_web.errors import ArqWebError, JobError, StoreError

EXIT_FAILED = 1
EXIT_SETUP = 2
EXIT_STARTUP = 3
RAW_ARGUMENTS = "arq_web.arguments"
"""Where ``click.Context.meta`` keeps the words of the command line: a reloading parent gives them to its child."""

_LIBRARY = Path(__file__).parent.parent


class CommandOrTarget(click.Group):
    """``app-worker main:app`` is ``app-worker worker main:app``."""

    def __init__(self, *args: Any, default: click.Command, **options: Any) -> None:
        """Args:
        default: the command for a first word that names none, and for options of its own.
        args: as for click.Group.
        options: as for click.Group.
        """
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
            raise Failed(_with_place(error), exit_code_of(error)) from error


class Failed(click.ClickException):
    """Ends the command: the message on standard error, no traceback."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class AppFailed(click.ClickException):
    """The app's own code failed: its traceback, from its own first line on, is the message."""

    def __init__(self, error: BaseException, what: str, exit_code: int = EXIT_FAILED) -> None:
        lines = traceback.format_exception(type(error), error, _from_app(error.__traceback__))
        super().__init__(f"{what}\n{''.join(lines).rstrip()}")
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int:
    """1 for what Redis or a job came to, 2 for what is wrong in the set-up."""
    return EXIT_FAILED if isinstance(error, (StoreError, JobError)) else EXIT_SETUP


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
