"""What every command takes: the target and how to load it."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from arq_web.cli.arq_worker import hub_of_settings, reader_of_settings
from arq_web.cli.group import Failed, app_traceback
from arq_web.cli.job_page import Values
from arq_web.errors import ArqWebError, ImportFailed, InvalidConfig
from arq_web.hub import ROLE_ENV, Hub
from arq_web.job import JobInfo
from arq_web.loading import LoadedApp, load

P = ParamSpec("P")
R = TypeVar("R")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$"}


@dataclass(frozen=True, slots=True)
class AppSource:
    """Where the app is, as the command line says it."""

    target: str
    is_factory: bool = False
    app_dir: Path | None = None
    env_file: Path | None = None

    def load(self) -> LoadedApp:
        """Set the environment, import the app.

        Raises:
            ImportFailed: there is nothing to work for.
            Failed: the app's own code failed; says where.
        """
        os.environ.update(self.environ())
        os.environ[ROLE_ENV] = "worker"  # before the app's modules ask
        try:
            return load(self.target, is_factory=self.is_factory, app_dir=self.app_dir or Path.cwd())
        except ArqWebError:
            raise
        except (Exception, SystemExit) as error:
            raise Failed(f"{self.target} cannot be imported:\n{app_traceback(error)}") from error

    def environ(self) -> dict[str, str]:
        """The environment as the app is to see it. Raises InvalidConfig for a wrong env file."""
        of_file = {} if self.env_file is None else read_env_file(self.env_file)
        return {**of_file, **os.environ}

    def load_hub(self) -> Hub:
        """As ``load``, for commands that need no more than the hub; worker settings get one of their queue."""
        return self.load_hub_and_reader()[0]

    def load_hub_and_reader(
        self, *, may_unpickle: bool = False
    ) -> tuple[Hub, Callable[[JobInfo], Values | None] | None]:
        """As ``load_hub``, and what reads the arguments and results of jobs that only the settings can read."""
        loaded = self.load()
        if loaded.settings is not None:
            return hub_of_settings(loaded.settings), reader_of_settings(loaded.settings, may_unpickle=may_unpickle)
        return self._hub_of(loaded), None

    def load_app_hub(self) -> Hub:
        """As ``load_hub``, for commands that mean nothing for worker settings."""
        return self._hub_of(self.load())

    def _hub_of(self, loaded: LoadedApp) -> Hub:
        if loaded.settings is not None:
            raise ImportFailed(self.target, "it is worker settings; this command needs an app, or its Hub")
        if loaded.hub is None:
            raise ImportFailed(self.target, "it is a Worker; this command needs the app, or its Hub")
        return loaded.hub


def takes_app(command: Callable[Concatenate[AppSource, P], R]) -> Callable[..., R]:
    """Give a click command the argument TARGET and its options, as an AppSource."""

    @functools.wraps(command)
    def with_source(
        *args: Any, target: str, factory: bool, app_dir: Path | None, env_file: Path | None, **options: Any
    ) -> R:
        return command(AppSource(target, factory, app_dir, env_file), *args, **options)

    decorated: Callable[..., R] = with_source
    for decorate in reversed(_PARAMETERS):
        decorated = decorate(decorated)
    return decorated


def with_connections(hub: Hub, work: Callable[[Hub], Awaitable[R]]) -> R:
    """Run ``work`` on a loop of its own, and close what it opened."""

    async def run() -> R:
        try:
            return await work(hub)
        finally:
            await hub.aclose()

    hub.queues  # noqa: B018 - a private Redis is started here, where nothing waits for the loop
    return asyncio.run(run())


def chosen_queues(hub: Hub, names: tuple[str, ...]) -> tuple[str, ...]:
    """The queues named, or all of the app's.

    Raises:
        InvalidOption: one of them is not declared.
    """
    return tuple(hub.queue(name).name for name in names or hub.queue_names)


def read_env_file(path: Path) -> Mapping[str, str]:
    """Read ``KEY=VALUE`` lines: comments, ``export``, quotes (in double ones also escapes).

    Raises:
        InvalidConfig: a line is none of these; shows its number, not its text, which may be a secret.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, text = line.removeprefix("export ").partition("=")
        value = _env_value(text.strip())
        if not equals or not name.strip().isidentifier() or value is None:
            raise InvalidConfig("env_file", f"{path}:{number}", "lines of the form KEY=VALUE, comments, or empty lines")
        found[name.strip()] = value
    return found


def _env_value(text: str) -> str | None:
    """The value; None for a quotation that does not end on its line."""
    if not text or text[0] not in "\"'":
        return ("" if text.startswith("#") else text).partition(" #")[0].rstrip()
    quote, value, index = text[0], "", 1
    while index < len(text) and text[index] != quote:
        if quote == '"' and text[index] == "\\" and index + 1 < len(text):
            index += 1
            value += _ESCAPES.get(text[index], "\\" + text[index])
        else:
            value += text[index]
        index += 1
    rest = text[index + 1 :].strip()
    return None if index >= len(text) or (rest and not rest.startswith("#")) else value


_PARAMETERS: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.argument("target"),
    click.option("--factory", is_flag=True, help="TARGET is a function that makes the app."),
    click.option(
        "--app-dir",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Look for the module here instead of in the working directory.",
    ),
    click.option(
        "--env-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read KEY=VALUE lines before the app is imported; what the environment has already stays.",
    ),
)
