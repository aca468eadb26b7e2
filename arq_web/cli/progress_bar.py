"""A bar for what takes long: on standard error, and only where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


def is_watched() -> bool:
    """Whether a bar would be seen: else nobody need count first."""
    return sys.stderr.isatty()


@contextmanager
def progress_bar(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` are done: the block says by what it is given how many more are."""
    if not is_watched() or total < 2:
        yield lambda _: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update
