"""docs/reference/cli.md lists every command and every option, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from arq_web.cli import app_worker
from tests.docs.pages import code, headings, read, section, table

PAGE = read("reference/cli.md")
COMMON = {"--factory", "--app-dir", "--env-file", "--help", "-h"}


def commands(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield (prefix if name == "worker" else f"{prefix} {name}"), command


COMMANDS = dict(commands(app_worker, "app-worker"))


def options(command: click.Command) -> set[str]:
    return {
        flag for each in command.params if isinstance(each, click.Option) for flag in (*each.opts, *each.secondary_opts)
    }


def listed(text: str) -> set[str]:
    return {flag for row in table(text, "option") for flag in code(row[0])}


def test_every_command_has_a_section() -> None:
    """A command that is nowhere described is used by nobody."""
    assert sorted(headings(PAGE, 2)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_command_is_listed(name: str) -> None:
    """As ``--help`` has it."""
    assert listed(section(PAGE, name)) == options(COMMANDS[name]) - COMMON


def test_what_every_command_takes_is_listed_once() -> None:
    """Before the commands."""
    assert listed(PAGE.partition("\n## ")[0]) == COMMON
    assert all(options(command) >= COMMON - {"--help", "-h"} for command in COMMANDS.values())


def test_the_words_and_defaults_of_the_worker_are_those_of_its_help() -> None:
    """Choices and numbers drift first."""
    text = section(PAGE, "app-worker")
    for each in COMMANDS["app-worker"].params:
        if isinstance(each.type, click.Choice):
            assert all(f"`{choice}`" in text for choice in each.type.choices), each.name


def test_the_states_to_list_are_those_of_its_help() -> None:
    """In ``jobs ls``."""
    text = section(PAGE, "app-worker jobs ls")
    [state] = [each for each in COMMANDS["app-worker jobs ls"].params if each.name == "state"]
    assert isinstance(state.type, click.Choice)
    assert all(f"`{choice}`" in text for choice in state.type.choices)
