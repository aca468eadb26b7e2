"""How the kit shows calls, jobs and times: short enough for a failure's message, and never failing itself."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

_LONGEST_CELL: Final = 100


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 60
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 6


_short = _Short()


def value_text(value: object) -> str:
    """A value's repr, shortened."""
    return _short.repr(value)


def call_text(task: str, arguments: Mapping[str, object]) -> str:
    """``shop.tasks:send_welcome(user_id=42)``."""
    return f"{task}({', '.join(f'{name}={value_text(value)}' for name, value in arguments.items())})"


def duration_text(value: timedelta) -> str:
    """``-`` for none, else seconds or what ``timedelta`` prints."""
    if not value:
        return "-"
    seconds = value.total_seconds()
    return f"{seconds:g} s" if seconds < 120 else str(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two spaces between them; long cells are cut, the last one is not."""
    cells = [head, *([*(_cut(cell) for cell in row[:-1]), row[-1]] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def indented(text: str, by: str = "  ") -> str:
    """Every line of it."""
    return "\n".join(by + line if line else line for line in text.splitlines())


def _cut(cell: str) -> str:
    return cell if len(cell) <= _LONGEST_CELL else cell[: _LONGEST_CELL - 3] + "..."
