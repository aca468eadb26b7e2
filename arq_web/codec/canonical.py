"""The same bytes for the same values, whoever writes them: for comparing what is not kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Any

import msgspec

from arq_web.codec.fidelity import field_names
from arq_web.codec.tagged import to_tagged
from arq_web.codec.typed import ENCODER

_THEMSELVES = frozenset({type(None), bool, int, str})
_writer = msgspec.json.Encoder(order="sorted")


def canonical(value: object) -> bytes:
    """Encode ``value`` so that the same value gives the same bytes, in every process.

    The order of a mapping or a set does not count, and a field that a model was not given counts as its default. It is
    not to be read again: which kind of mapping, sequence or record it was is not written.

    Raises:
        TypeError: it contains something that cannot travel to a worker either.
    """
    return _writer.encode(_shape(value))


def _shape(value: Any) -> object:
    if type(value) in _THEMSELVES:
        return value
    if isinstance(value, Mapping):
        return {"map": sorted(([_key(key), _shape(item)] for key, item in value.items()), key=itemgetter(0))}
    if isinstance(value, AbstractSet):
        return {"set": sorted(map(_text, value))}
    if isinstance(value, list | tuple):
        return [_shape(item) for item in value]
    names = field_names(type(value))
    if names is None:
        return _leaf(value)
    fields = {name: _shape(getattr(value, name)) for name in names if hasattr(value, name)}
    return {"fields": fields, "extra": _shape(getattr(value, "__pydantic_extra__", None))}


def _key(key: object) -> str:
    return f"'{key}" if type(key) is str else _text(key)  # JSON text never begins so: 1 is not "1"


def _text(value: object) -> str:
    return canonical(value).decode()


def _leaf(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):  # JSON would make a null of it
        return to_tagged(value)
    try:
        return msgspec.Raw(ENCODER.encode(value))
    except TypeError:
        return to_tagged(value)
