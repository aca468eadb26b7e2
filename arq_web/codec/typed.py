"""JSON by type: msgspec, and hooks for what it does not know (pydantic, paths, zones, IP addresses, complex).

Also :func:`refused_types`, which says at definition time that an annotation can never travel.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import io
import ipaddress
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import PurePath
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import msgspec.inspect

T = TypeVar("T")


def encode_json(value: object) -> bytes:
    """Encode ``value`` as plain JSON; the reader must know its type.

    Raises:
        TypeError: it contains something that JSON by type does not hold.
    """
    return ENCODER.encode(value)


def decode_json(data: bytes | msgspec.Raw, kind: type[T] | Any) -> T:
    """Decode what :func:`encode_json` made of a value of ``kind``.

    Raises:
        msgspec.DecodeError: it is not JSON, or does not fit ``kind`` (``msgspec.ValidationError``).
        TypeError: ``kind`` is one that JSON cannot tell apart, such as ``UUID | str``.
    """
    value: T = msgspec.json.decode(data, type=kind, dec_hook=from_json)
    return value


def refused_types(annotation: object) -> str | None:
    """Say why values of ``annotation`` can never travel to a worker; None if they can.

    For use at import time: a secret, an ORM instance, an open file, a function, or any class that has no JSON form,
    also inside containers, dataclasses, Structs and models. The text completes "it holds ...".
    """
    return next((why for part in _parts(annotation, set()) if (why := _refusal(part))), None)


def has_json_form(kind: type) -> bool:
    """Tell whether instances of ``kind`` can be written as JSON and read again."""
    if kind in (object, types.UnionType, complex) or issubclass(kind, _BY_TEXT):
        return True
    try:
        if not isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType):
            return True
    except Exception:  # noqa: BLE001 - a record with a field that msgspec refuses: its fields are looked at one by one
        return True
    return _pydantic_validator(typing.cast("Any", kind)) is not None


def is_plain(annotation: Any) -> bool:
    """Tell whether the type alone decides how a value is written: any value of it arrives as it was sent."""
    try:
        if annotation in _PLAIN:
            return True
    except TypeError:  # unhashable: Annotated with a dict, for example
        return False
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin not in (list, set, frozenset, tuple, dict, typing.Union, types.UnionType):
        return False
    return all(argument is Ellipsis or is_plain(argument) for argument in arguments)


_PLAIN = frozenset({type(None), None, bool, int, str, bytes, UUID, date})


# -- hooks --------------------------------------------------------------------------------

_BY_TEXT = (
    PurePath,
    ZoneInfo,
    ipaddress.IPv4Address,
    ipaddress.IPv4Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Address,
    ipaddress.IPv6Network,
    ipaddress.IPv6Interface,
)


def to_json(value: Any) -> object:
    """Turn ``value``, of a class that msgspec does not know, into JSON. A model keeps which fields were set."""
    return _to_json(value, exclude_unset=True)


def to_full_json(value: Any) -> object:
    """Like :func:`to_json`, with the fields of a model that were never set: their defaults may be made on demand."""
    return _to_json(value, exclude_unset=False)


def from_json(kind: Any, data: Any) -> object:
    """Turn JSON back into an instance of ``kind``, a class that msgspec does not know."""
    if kind is complex:
        return complex(*data)
    if isinstance(kind, type) and issubclass(kind, _BY_TEXT):
        if type(data) is not str:
            raise TypeError(f"Expected text for {kind.__name__}, got {type(data).__name__}")
        return kind(data)
    validator = _pydantic_validator(kind)
    if validator is None:
        raise TypeError(f"{_name(kind)} has no JSON form")
    # As JSON again, because a strict model takes a date or bytes as text from JSON only.
    return validator(msgspec.json.encode(data))


def _to_json(value: Any, *, exclude_unset: bool) -> object:
    kind: Any = type(value)
    if kind is complex:
        return [value.real, value.imag]
    if isinstance(value, _BY_TEXT):
        return str(value)
    serializer = _pydantic_serializer(kind)
    if serializer is None:
        raise TypeError(f"{kind.__qualname__} has no JSON form")
    return msgspec.Raw(serializer(value, exclude_unset=exclude_unset))


ENCODER = msgspec.json.Encoder(enc_hook=to_json)
FULL_ENCODER = msgspec.json.Encoder(enc_hook=to_full_json)


# -- pydantic, never imported here: a class that has these attributes brought it ------------


@functools.lru_cache(maxsize=1024)
def _pydantic_serializer(kind: Any) -> Callable[..., bytes] | None:
    serializer = getattr(kind, "__pydantic_serializer__", None) or getattr(_adapter(kind), "serializer", None)
    if serializer is None:
        return None
    return functools.partial(serializer.to_json, round_trip=True, warnings=False, by_alias=not _knows_by_name())


@functools.lru_cache(maxsize=1024)
def _pydantic_validator(kind: Any) -> Callable[[bytes], object] | None:
    validator = getattr(kind, "__pydantic_validator__", None) or getattr(_adapter(kind), "validator", None)
    if validator is None:
        return None
    # Field names, not aliases: a field may be read by one alias and written by another.
    options = {"by_alias": False, "by_name": True} if _knows_by_name() else {}
    return functools.partial(validator.validate_json, **options)


def _adapter(kind: Any) -> Any:
    """Return a TypeAdapter for a class that is no model but speaks pydantic, such as HttpUrl."""
    if not hasattr(kind, "__get_pydantic_core_schema__") or "pydantic" not in sys.modules:
        return None
    return sys.modules["pydantic"].TypeAdapter(kind)


@functools.cache
def _knows_by_name() -> bool:
    major, minor = sys.modules["pydantic"].VERSION.split(".")[:2]
    return (int(major), int(minor)) >= (2, 11)


# -- annotations that can never travel ------------------------------------------------------


def _parts(annotation: Any, seen: set[object]) -> Iterator[Any]:
    """Yield ``annotation`` and, depth first, everything that its values are made of."""
    try:
        if annotation in seen:
            return
        seen.add(annotation)
    except TypeError:  # unhashable, for example Annotated[int, []]
        pass
    yield annotation
    for inner in (*_arguments(annotation), *_field_types(typing.get_origin(annotation) or annotation)):
        yield from _parts(inner, seen)


def _arguments(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return (annotation.__origin__,)
    if origin in (typing.Literal, collections.abc.Callable, type):
        return ()
    if origin is not None:
        return tuple(argument for argument in typing.get_args(annotation) if argument is not Ellipsis)
    target = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
    return () if target is None or isinstance(annotation, type) else (target,)


def _field_types(kind: Any) -> Iterator[Any]:
    if not isinstance(kind, type):
        return
    fields: Mapping[str, Any] | None = getattr(kind, "__pydantic_fields__", None)
    if fields is not None:
        yield from (field.annotation for field in fields.values())
        return
    is_record = dataclasses.is_dataclass(kind) or hasattr(kind, "__struct_fields__") or hasattr(kind, "__attrs_attrs__")
    if is_record or typing.is_typeddict(kind) or hasattr(kind, "_field_defaults"):
        try:
            yield from typing.get_type_hints(kind, include_extras=True).values()
        except NameError:
            return  # msgspec names it when the decoder is built


_CANNOT: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda kind: kind is collections.abc.Callable, "a function"),
    (lambda kind: kind is type, "a class"),
    (lambda kind: hasattr(kind, "get_secret_value"), "a secret ({}), which would stand readable in Redis"),
    (
        lambda kind: any(hasattr(kind, mark) for mark in ("__mapper__", "_sa_instance_state", "__table__")),
        "an ORM instance ({}), which lives in its database session",
    ),
    (
        lambda kind: any(base.__module__ == "django.db.models.base" for base in kind.__mro__),
        "an ORM instance ({}), which lives in its database",
    ),
    (lambda kind: issubclass(kind, (io.IOBase, typing.IO)), "an open file ({}), which belongs to this process"),
    (lambda kind: issubclass(kind, (types.FunctionType, types.MethodType)), "a function"),
    (
        lambda kind: issubclass(
            kind, collections.abc.Iterator | collections.abc.AsyncIterator | collections.abc.Awaitable
        ),
        "something that can be used only once, in this process ({})",
    ),
    # An Iterable[int] may be a list: what is passed decides.
    (lambda kind: kind.__module__ != "collections.abc" and not has_json_form(kind), "a {}, which has no JSON form"),
)


def _refusal(annotation: Any) -> str | None:
    kind: Any = typing.get_origin(annotation) or annotation
    if not isinstance(kind, type) or kind in (Any, typing.Annotated):
        return None
    return next((why.format(kind.__qualname__) for applies, why in _CANNOT if applies(kind)), None)


def _name(kind: Any) -> str:
    return getattr(kind, "__qualname__", None) or str(kind)
