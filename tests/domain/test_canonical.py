"""Two requests for the same must look the same: canonical bytes do not depend on order, process or class."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from arq_web.codec import canonical

ID = UUID("12345678-1234-5678-1234-567812345678")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Parcel:
    names: set[str]
    weight: float = 1.5


class Letter(msgspec.Struct):
    to: str
    urgent: bool = False


@attrs.define
class Card:
    text: str


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    parcel: Parcel
    colour: Colour = Colour.RED
    at: datetime | None = None


class Secretive(pydantic.BaseModel):
    shown: int
    hidden: int = pydantic.Field(exclude=True)


ORDER: dict[str, Any] = {"parcel": {"names": ["a", "b"]}}

SAME: tuple[tuple[object, object], ...] = (
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    ({"a", "b", "c"}, {"c", "b", "a"}),
    (frozenset({1, 2}), {2, 1}),
    ({"x": {"a": 1, "b": {3, 4}}}, {"x": {"b": {4, 3}, "a": 1}}),
    ((1, 2), [1, 2]),
    (Order.model_validate(ORDER), Order.model_validate({**ORDER, "colour": "red", "at": None})),
    (Order.model_validate(ORDER), Order.model_validate({"parcel": {"names": ["b", "a"], "weight": 1.5}})),
    (Order.model_validate({**ORDER, "p": 1, "q": 2}), Order.model_validate({**ORDER, "q": 2, "p": 1})),
    (Letter("ann"), Letter("ann", urgent=False)),
    (datetime(2026, 3, 1, tzinfo=UTC), datetime.fromisoformat("2026-03-01T00:00:00+00:00")),
)
DIFFERENT: tuple[tuple[object, object], ...] = (
    (1, 2),
    (1, "1"),
    (None, ""),
    (None, float("nan")),
    (True, 1),
    ([1, 2], [2, 1]),
    ([1, 2], {1, 2}),
    ({"a": 1}, {"a": 1, "b": None}),
    ({1: "a"}, {"1": "a"}),
    (["ab", "c"], ["a", "bc"]),
    (Point(1, 2), Point(2, 1)),
    (Parcel({"a"}), Parcel({"b"})),
    (Letter("ann"), Letter("ann", urgent=True)),
    (Card("a"), Card("b")),
    (Order.model_validate(ORDER), Order.model_validate({**ORDER, "colour": "blue"})),
    (Order.model_validate({**ORDER, "p": 1}), Order.model_validate({**ORDER, "p": 2})),
    (Secretive(shown=1, hidden=1), Secretive(shown=1, hidden=2)),
    (Colour.RED, Colour.BLUE),
    (ID, UUID(int=1)),
    (b"a", b"b"),
    (Decimal("1.1"), Decimal("1.2")),
    (date(2026, 3, 1), date(2026, 3, 2)),
    (timedelta(seconds=1), timedelta(seconds=2)),
    (PurePosixPath("a"), PurePosixPath("b")),
    (1 + 2j, 1 + 3j),
    (float("inf"), float("-inf")),
)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_in_another_order_or_another_form_is_the_same(one: object, other: object) -> None:
    """What a client repeats may be written by another library; its meaning is what counts."""
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_differs_looks_different(one: object, other: object) -> None:
    """Else one request would get the other's answer."""
    assert canonical(one) != canonical(other)
    assert canonical([one]) != canonical([other])


def test_the_fields_of_a_class_may_be_written_in_another_order() -> None:
    """A new version of the app must know the requests of the old one."""
    first = dataclasses.make_dataclass("Thing", [("a", int), ("b", int)])
    second = dataclasses.make_dataclass("Other", [("b", int), ("a", int)])

    assert canonical(first(a=1, b=2)) == canonical(second(a=1, b=2))


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_every_process_writes_the_same(seed: str) -> None:
    """The order of a set of texts differs from process to process."""
    words = [f"word{number}" for number in range(50)]
    code = f"from arq_web.codec import canonical; print(canonical(set({json.dumps(words)})).decode())"

    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
    )

    assert told.stdout.strip() == canonical(set(words))


def test_what_cannot_travel_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical(object())
