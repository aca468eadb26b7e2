"""Lengths of time on the command line: ``90s``, ``10m``, ``2h``, ``3d``, or seconds."""

from __future__ import annotations

import re

import click

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """What an option says, in ms. Raises click.BadParameter for what is no length of time."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no length of time such as 90s, 10m, 2h or 3d.")
    return int(float(found[1]) * _UNIT_MS[found[2] or "s"])
