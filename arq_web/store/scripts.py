"""The Lua scripts, and their signatures as the files themselves state them.

Each ``lua/<verb>.lua`` begins with what it does and returns, then names its arguments: ``local worker = ARGV[1]``.
These lines are the signature: Python calls by keyword, and a name that does not fit is a TypeError, never two swapped
arguments. A line ``local jobs_from = 5 -- ARGV[5..]`` means: from there on, the list ``jobs``.

"Uses _end, _promote." in the head names the preludes that stand before the script, after ``_record``, which all need;
what it does not use of them is left out. "Tries _lone first." names a piece that stands before everything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from arq_web.store.connection import Script

Argument = bytes | str | int
_ARGUMENT = re.compile(r"^local (\w+) = (?:tonumber\()?ARGV\[(\d+)\]", re.MULTILINE)
_REST = re.compile(r"^local (\w+)_from = (\d+) -- ARGV\[\d+\.\.\]", re.MULTILINE)
_DEFINITION = re.compile(r"^(?=local )", re.MULTILINE)
_NAMES = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")
_WORD = re.compile(r"\w+")
_TRIES = re.compile(r"^--.* Tries (_\w+) first\.", re.MULTILINE)
_USES = re.compile(r"^--.* Uses (_\w+(?:, _\w+)*)\.$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verb:
    """One script and the names of its arguments, in order; ``rest`` is the name of the list that ends them, if any."""

    script: Script
    names: tuple[str, ...]
    rest: str | None

    def arguments(self, rest: Sequence[Argument] = (), **named: Argument) -> list[Argument]:
        """Put the named arguments into the script's order.

        Raises:
            TypeError: a name is missing or not one of the script's.
        """
        try:
            ordered = [named[name] for name in self.names]
        except KeyError as missing:
            raise TypeError(f"script {self.script.name!r} needs argument {missing}") from None
        if len(named) != len(ordered) or (rest and self.rest is None):
            raise TypeError(f"script {self.script.name!r} takes {self.names}, not {sorted(named)}")
        ordered.extend(rest)
        return ordered


def load(verb: str) -> Verb:
    """Read ``lua/<verb>.lua`` and the preludes that it uses."""
    return bind(verb, source(verb))


def bind(verb: str, body: str) -> Verb:
    """Make a script of its text: read the signature, and put ``_record`` and the preludes it uses before it.

    Raises:
        ValueError: the binding lines do not number the arguments 1, 2, 3, ...
    """
    named = [(int(number), name) for name, number in _ARGUMENT.findall(body)]
    rest = _REST.findall(body)
    numbers = [number for number, _ in named] + [int(first) for _, first in rest]
    if numbers != list(range(1, len(numbers) + 1)) or len(rest) > 1:
        raise ValueError(f"{verb}.lua must bind ARGV[1], ARGV[2], ... in order, the rest last; it binds {numbers}")
    used = _USES.search(body)
    preludes = ["_record", *(used[1].split(", ") if used else ())]
    first = _TRIES.search(body)
    text = (source(first[1]) if first else "") + _used_by(body, "".join(map(source, preludes))) + body
    return Verb(Script(verb, text.encode()), tuple(name for _, name in named), rest[0][0] if rest else None)


def _used_by(body: str, preludes: str) -> str:
    """Leave out of the preludes what a script does not use: Redis makes every function anew at each call.

    A definition begins with ``local`` at the start of a line, and stands before its uses.
    """
    kept: list[str] = []
    words = set(_WORD.findall(body))
    for part in reversed(_DEFINITION.split(preludes)):
        names = _NAMES.match(part)
        if names is None or not words.isdisjoint(_WORD.findall(names[1])):
            kept.append(part)
            words.update(_WORD.findall(part))
    return "".join(reversed(kept))


def source(name: str) -> str:
    """The text of ``lua/<name>.lua``."""
    return resources.files("arq_web.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


ENQUEUE = load("enqueue")
CLAIM = load("claim")
SETTLE = load("settle")
RENEW = load("renew")
RECLAIM = load("reclaim")
CANCEL = load("cancel")
REDRIVE = load("redrive")
WATCH = load("watch")
PROGRESS = load("progress")
DECLARE = load("declare")
FIRE = load("fire")
ABANDON = load("abandon")
BLAME = load("blame")
RELAY = load("relay")
FORGET = load("forget")
DISMISS = load("dismiss")
MEASURE = load("measure")
HASTEN = load("hasten")
