"""How much room a text takes in a terminal: letters of East Asia and pictures take two columns, accents none."""

from __future__ import annotations

import unicodedata

_NO_WIDTH = frozenset({"Mn", "Me", "Cf"})


def width(text: str) -> int:
    """Columns that ``text`` takes; it has no control characters."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """``text`` and blanks, or blanks and ``text``."""
    blanks = " " * (columns - width(text))
    return blanks + text if right else text + blanks


def cut(text: str, columns: int, *, is_plain: bool) -> str:
    """As much of ``text`` as goes into ``columns``, with a sign where something is missing: ASCII if ``is_plain``."""
    if width(text) <= columns:
        return text
    room = columns - 1
    kept = ""
    for character in text:
        room -= _width_of(character)
        if room < 0:
            break
        kept += character
    return kept + ("~" if is_plain else "…")


def _width_of(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
