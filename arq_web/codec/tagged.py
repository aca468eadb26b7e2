"""The self-describing form of a value: JSON that says by itself which Python type it was.

Used where no annotation says what to expect (none, ``Any``, ``UUID | str``), and for the values that JSON by
type cannot hold (nan, a datetime in a ``ZoneInfo``). What JSON knows stands for itself; everything else is an
object whose ``"$"`` names its kind::

    None, bool, int, finite float, str, list, dict with text keys     themselves
    (1, 2)                                                            {"$": "tuple", "v": [1, 2]}
    UUID("...")                                                       {"$": "uuid", "v": "..."}
    {1: "a"}, {"$": 1}                                                {"$": "dict", "v": [[1, "a"]]}

Only exact types have a tag. No class is ever looked up by a name from the payload: whoever can write to Redis
must not be able to choose what a worker imports.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

TAG = "$"


class Untaggable(TypeError):
    """A value, somewhere inside the one given, has no tag. ``where`` is its path, ``""`` at the top."""

    def __init__(self, value: object, where: str, why: str | None = None) -> None:
        self.kind, self.where = type(value), where
        self.why = why or f"{self.kind.__qualname__} is not a type that describes itself in JSON"
        super().__init__(value, where)

    def __str__(self) -> str:
        return f"{self.why}{f' (at {self.where})' if self.where else ''}"


def to_tagged(value: object, where: str = "") -> Any:
    """Turn ``value`` into what JSON can hold without loss.

    Raises:
        Untaggable: it contains an instance of a class, or of a subclass of a built-in type.
    """
    kind = type(value)
    if kind in _THEMSELVES:
        return value
    write = _WRITE.get(kind)
    if write is None:
        raise Untaggable(value, where)
    return write(value, where)


def from_tagged(data: Any) -> object:
    """Turn what :func:`to_tagged` made back into the value.

    Raises:
        ValueError, TypeError, KeyError: it is not the tagged form of anything.
    """
    if type(data) is list:
        return [from_tagged(item) for item in data]
    if type(data) is not dict:
        return data
    if TAG not in data:
        return {key: from_tagged(item) for key, item in data.items()}
    read = _READ.get(data[TAG])
    if read is None:
        raise ValueError(f"{data[TAG]!r} is not a kind of value that this version knows")
    return read(data)


_THEMSELVES = frozenset({type(None), bool, int, str})


def _write_float(value: float, where: str) -> object:
    return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}


def _write_list(value: list[object], where: str) -> object:
    return [to_tagged(item, f"{where}[{index}]") for index, item in enumerate(value)]


def _write_dict(value: dict[object, object], where: str) -> object:
    if TAG not in value and all(type(key) is str for key in value):
        return {key: to_tagged(item, f"{where}[{key!r}]") for key, item in value.items()}
    pairs = [[to_tagged(key, f"{where} key"), to_tagged(item, f"{where}[{key!r}]")] for key, item in value.items()]
    return {TAG: "dict", "v": pairs}


def _writes_items(kind: str) -> Callable[[Any, str], object]:
    def write(value: Any, where: str) -> object:
        return {TAG: kind, "v": [to_tagged(item, f"{where}[{index}]") for index, item in enumerate(value)]}

    return write


def _writes(kind: str, text: Callable[[Any], object]) -> Callable[[Any, str], object]:
    return lambda value, where: {TAG: kind, "v": text(value)}


def _write_clock(value: datetime | time, where: str) -> object:
    """Write the wall clock, and beside it what an offset cannot say: the zone's name and the fold."""
    tagged: dict[str, object] = {TAG: type(value).__name__}
    zone = value.tzinfo
    if isinstance(zone, ZoneInfo):
        if zone.key is None:
            raise Untaggable(value, where, "its ZoneInfo has no name (key)")
        tagged["zone"], value = zone.key, value.replace(tzinfo=None)
    elif zone is not None and zone.utcoffset(None) is None:
        # A zone of pytz or dateutil is more than today's offset, and there is no name to find it again by.
        raise Untaggable(value, where, f"its zone is a {type(zone).__qualname__}, not a zoneinfo.ZoneInfo")
    if value.fold:
        tagged["fold"] = value.fold
    return {**tagged, "v": value.isoformat()}


def _write_zone(value: ZoneInfo, where: str) -> object:
    if value.key is None:
        raise Untaggable(value, where, "this ZoneInfo has no name (key)")
    return {TAG: "zone", "v": value.key}


def _write_bytes(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


# Each kind is written and read here only: a new one is one line in each table.
_WRITE: Mapping[type, Callable[[Any, str], object]] = {
    float: _write_float,
    list: _write_list,
    dict: _write_dict,
    tuple: _writes_items("tuple"),
    set: _writes_items("set"),
    frozenset: _writes_items("frozenset"),
    datetime: _write_clock,
    time: _write_clock,
    ZoneInfo: _write_zone,
    bytes: _writes("bytes", _write_bytes),
    bytearray: _writes("bytearray", _write_bytes),
    date: _writes("date", date.isoformat),
    timedelta: _writes("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    UUID: _writes("uuid", str),
    Decimal: _writes("decimal", str),
    complex: _writes("complex", lambda value: [repr(value.real), repr(value.imag)]),
    type(Path()): _writes("path", str),
    PurePosixPath: _writes("posixpath", str),
    PureWindowsPath: _writes("ntpath", str),
}


def _items(data: Mapping[str, Any]) -> list[object]:
    return [from_tagged(item) for item in data["v"]]


def _read_clock(kind: type[datetime | time]) -> Callable[[Mapping[str, Any]], object]:
    def read(data: Mapping[str, Any]) -> object:
        value = kind.fromisoformat(data["v"])
        if "zone" in data:
            value = value.replace(tzinfo=ZoneInfo(data["zone"]))
        return value.replace(fold=data.get("fold", 0))

    return read


_READ: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "float": lambda data: float(data["v"]),
    "dict": lambda data: {from_tagged(key): from_tagged(item) for key, item in data["v"]},
    "tuple": lambda data: tuple(_items(data)),
    "set": lambda data: set(_items(data)),
    "frozenset": lambda data: frozenset(_items(data)),
    "datetime": _read_clock(datetime),
    "time": _read_clock(time),
    "zone": lambda data: ZoneInfo(data["v"]),
    "bytes": lambda data: base64.b64decode(data["v"], validate=True),
    "bytearray": lambda data: bytearray(base64.b64decode(data["v"], validate=True)),
    "date": lambda data: date.fromisoformat(data["v"]),
    "timedelta": lambda data: timedelta(*data["v"]),
    "uuid": lambda data: UUID(data["v"]),
    "decimal": lambda data: Decimal(data["v"]),
    "complex": lambda data: complex(*map(float, data["v"])),
    "path": lambda data: Path(data["v"]),
    "posixpath": lambda data: PurePosixPath(data["v"]),
    "ntpath": lambda data: PureWindowsPath(data["v"]),
}
