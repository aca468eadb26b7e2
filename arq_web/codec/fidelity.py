"""Is what arrives what was sent? Compare two values, and a value with its annotation."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

# Equal values of one of these types are the same value. (Not datetime: it can be equal in another zone.)
PLAIN = frozenset({type(None), bool, int, float, str, bytes, bytearray, UUID, date, timedelta})
_ABSENT = object()


def difference(sent: object, got: object, *, lenient: bool = False, at: str = "") -> str | None:
    """Say where ``got`` is not ``sent``, type and all, at any depth; None if it is.

    Args:
        sent: the value before.
        got: the value after.
        lenient: let pass that a constant UTC offset lost its name, and that a model's defaults count as set.
        at: where the two were found; begins the answer.
    """
    kind = type(sent)
    if kind is not type(got):
        return _change(sent, got, at)
    if sent is got:
        return None
    if kind in PLAIN:
        return None if sent == got or (_is_nan(sent) and _is_nan(got)) else _change(sent, got, at)
    if isinstance(sent, AbstractSet) and isinstance(got, AbstractSet):
        return None if _is_same_set(sent, got, lenient) else _change(sent, got, at)
    parts = _parts_of(sent, lenient)
    if parts is not None:
        return _difference_of_parts(parts, _parts_of(got, lenient) or [], lenient, at)
    return None if _is_same_leaf(sent, got, lenient) else _change(sent, got, at)


def fits(value: object, annotation: Any) -> bool:
    """Tell whether a type checker would take ``value`` for ``annotation``; True where nobody can know."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    inner = _unwrapped(annotation, origin)
    if inner is not None:
        return fits(value, inner)
    kind = type(None) if annotation is None else origin or annotation
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    return _is_instance(value, kind) and _items_fit(value, kind, arguments)


# -- difference ---------------------------------------------------------------------------


def _change(sent: object, got: object, at: str) -> str:
    before, after = short(sent), short(got)
    if before == after:  # for example a datetime that differs in its zone only, or a str and a str subclass
        before, after = (f"{text} ({type(x).__qualname__})" for text, x in ((before, sent), (after, got)))
    return f"{f'at {at}, ' if at else ''}{before} would become {after}"


def short(value: object, limit: int = 60) -> str:
    """Show ``value`` with its type, in about ``limit`` characters."""
    text = repr(value)
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    name = type(value).__qualname__
    return text if text.startswith(name) or value is None else f"{name} {text}"


def _difference_of_parts(
    sent: list[tuple[str, object]], got: list[tuple[str, object]], lenient: bool, at: str
) -> str | None:
    if len(sent) != len(got):
        return f"{f'at {at}, ' if at else ''}{len(sent)} parts would become {len(got)}"
    for (name, before), (_, after) in zip(sent, got, strict=True):
        found = difference(before, after, lenient=lenient, at=f"{at}{name}")
        if found is not None:
            return found
    return None


def _parts_of(value: Any, lenient: bool) -> list[tuple[str, object]] | None:
    """List what ``value`` is made of, with the name of each; None for a value without parts."""
    if isinstance(value, list | tuple):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", pair) for key, item in value.items() for pair in (key, item)]
    names = field_names(type(value))
    if names is not None:
        parts = [(f".{name}", getattr(value, name, _ABSENT)) for name in names]
        return parts + (_model_parts(value, lenient) if hasattr(value, "__pydantic_fields_set__") else [])
    if not _has_equality(value) and hasattr(value, "__dict__"):
        return [(f".{name}", item) for name, item in vars(value).items()]
    return None


def field_names(kind: Any) -> Iterable[str] | None:
    """The names of a record's fields, whoever made its class; None for a class that is no record."""
    if hasattr(kind, "__pydantic_fields__"):
        return list(kind.__pydantic_fields__)
    if hasattr(kind, "__struct_fields__"):
        return list(kind.__struct_fields__)
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else [attribute.name for attribute in attributes]


def _model_parts(model: Any, lenient: bool) -> list[tuple[str, object]]:
    """List what a pydantic model has beside its fields. A PATCH handler reads which fields were set."""
    hidden: list[tuple[str, object]] = [
        (f" {name}", getattr(model, name, None)) for name in ("__pydantic_extra__", "__pydantic_private__")
    ]
    return hidden if lenient else [*hidden, (" fields set", model.__pydantic_fields_set__)]


def _is_same_set(sent: AbstractSet[Any], got: AbstractSet[Any], lenient: bool) -> bool:
    if len(sent) != len(got):
        return False
    found = {item: item for item in got}
    # The second look is for nan, which a lookup finds only by identity.
    return all(
        difference(item, found.get(item, _ABSENT), lenient=lenient) is None
        or any(difference(item, other, lenient=lenient) is None for other in got)
        for item in sent
    )


def _is_same_leaf(sent: Any, got: Any, lenient: bool) -> bool:
    if isinstance(sent, datetime | time):
        return (
            sent.replace(tzinfo=None) == got.replace(tzinfo=None)
            and sent.fold == got.fold
            and _is_same_zone(sent.tzinfo, got.tzinfo, lenient)
        )
    if isinstance(sent, Decimal):
        return bool(sent.as_tuple() == got.as_tuple())  # 1.10 is not 1.1, and a NaN is itself
    if isinstance(sent, complex):
        return repr(sent) == repr(got)
    # What has neither fields nor an __eq__ (a lock that a model makes for itself) has no value to lose.
    return not _has_equality(sent) or bool(sent == got)


def _has_equality(value: Any) -> bool:
    own: object = type(value).__eq__
    return own is not object.__eq__


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_same_zone(sent: tzinfo | None, got: tzinfo | None, lenient: bool) -> bool:
    if sent is None or got is None or sent is got:
        return sent is got
    if not lenient and (isinstance(sent, ZoneInfo) or isinstance(got, ZoneInfo)):
        return isinstance(sent, ZoneInfo) and isinstance(got, ZoneInfo) and sent.key == got.key
    # Of a zone whose offset never changes, whatever its class, the offset is all there is.
    offset = sent.utcoffset(None)
    return offset is not None and offset == got.utcoffset(None)


# -- fits ---------------------------------------------------------------------------------


def _unwrapped(annotation: Any, origin: Any) -> Any:
    """Return what ``annotation`` only decorates (Annotated, NewType, a type alias); None for anything else."""
    if origin is typing.Annotated:
        return annotation.__origin__
    if origin in (typing.Required, typing.NotRequired, typing.Final):
        return typing.get_args(annotation)[0]
    if isinstance(annotation, type):
        return None
    return getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)


def _is_instance(value: object, kind: Any) -> bool:
    if not isinstance(kind, type):
        return True
    # An int is a float to type checkers, and a float a complex.
    kinds = {float: (float, int), complex: (complex, float, int)}.get(kind, kind)
    try:
        return isinstance(value, kinds)
    except TypeError:  # a Protocol that cannot be asked
        return True


def _items_fit(value: Any, kind: Any, arguments: tuple[Any, ...]) -> bool:
    if not arguments or not isinstance(value, Collection) or isinstance(value, str | bytes):
        return True
    if kind is tuple and Ellipsis not in arguments:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if isinstance(value, Mapping):
        key_type, item_type = arguments if len(arguments) == 2 else (Any, Any)
        return all(fits(key, key_type) and fits(item, item_type) for key, item in value.items())
    return all(fits(item, arguments[0]) for item in value)
