"""The arguments that a task allows to be logged (``@task(log_args=["user_id"])``), as a log line shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from arq_web.codec.slots import MARK
from arq_web.codec.tagged import from_tagged

MOST_CHARS = 200
"""Of one value; a log line is no place to store a document."""


def logged_args(names: Sequence[str], payload: bytes) -> dict[str, object] | None:
    """Name → value of those that the call has; None when there are none, or the payload is not ours to read."""
    if not names:
        return None
    try:
        stored = msgspec.json.decode(payload, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError):  # encrypted by a middleware: then they are meant to stay secret
        return None
    found: dict[str, object] = {}
    for name in names:
        if name in stored:
            found[name] = _short(stored[name])
        elif name + MARK in stored:
            found[name] = _short(_plain(stored[name + MARK]))
    return found or None


def _plain(tagged: object) -> object:
    try:
        return from_tagged(tagged)
    except (TypeError, ValueError, KeyError):  # a class that this process does not know: as it is stored
        return tagged


def _short(value: object) -> object:
    if isinstance(value, (bool, int, float, type(None))):
        return value
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"
