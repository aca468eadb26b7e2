"""What was enqueued is what arrives, type and all, or the enqueue raises and names the argument."""

import dataclasses
import enum
import io
import ipaddress
import itertools
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from arq_web.codec import CallCodec, decode_json, encode_json, refused_types, result_json
from arq_web.codec.fidelity import difference
from arq_web.errors import (
    EnqueueError,
    InvalidArguments,
    InvalidTask,
    NotSerializable,
    UndecodablePayload,
    UndecodableResult,
    UnstorableResult,
)

BERLIN = ZoneInfo("Europe/Berlin")
ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 3, 1, 12, 30, 15, 123456)  # noqa: DTZ001 - a naive one is a value too
STAMPS = itertools.count(0.5)
INDIA = timezone(timedelta(hours=5, minutes=30))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    HELLO = "hello"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Point3(Point):
    z: float = 0.0


@dataclasses.dataclass(eq=False)
class Unequal:
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Meeting:
    starts_at: datetime
    people: tuple[str, ...] = ()


@attrs.define
class Parcel:
    weight: Decimal
    to: str = "here"


class Order(msgspec.Struct):
    id: UUID
    lines: list[tuple[str, int]] = []


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict):
    size: int
    colour: NotRequired[str]


class User(pydantic.BaseModel):
    name: str
    born: date | None = None
    tags: set[str] = pydantic.Field(default_factory=set)


class Admin(User):
    rights: int = 0


class Patch(pydantic.BaseModel):
    name: str | None = None
    age: int | None = None


class Aliased(pydantic.BaseModel):
    user_id: int = pydantic.Field(validation_alias="userId", serialization_alias="user-id")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: datetime
    data: bytes


class Nested(pydantic.BaseModel):
    user: User
    others: dict[str, list[User]] = {}
    at: datetime


class Made(pydantic.BaseModel):
    id: UUID = pydantic.Field(default_factory=lambda: ID)
    stamp: float = pydantic.Field(default_factory=lambda: next(STAMPS))
    kind: Literal["made"] = "made"


class Hidden(pydantic.BaseModel):
    shown: int
    hidden: int = pydantic.Field(default=0, exclude=True)


class Login(pydantic.BaseModel):
    name: str
    password: pydantic.SecretStr


@dataclasses.dataclass
class Signup:
    user: User
    others: list[User] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Logins:
    logins: list[Login]


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)


class Plain:
    def __repr__(self) -> str:
        return "Plain()"


class Text(str):
    __slots__ = ()


UserId = NewType("UserId", int)


def task_of(annotation: object) -> CallCodec:
    """A codec for ``def job(value: annotation) -> annotation``."""

    def job(value):  # type: ignore[no-untyped-def]
        return value

    job.__annotations__ = {"value": annotation, "return": annotation}
    return CallCodec(job, task="job")


def arrives(annotation: object, value: object) -> object:
    codec = task_of(annotation)
    args, kwargs = codec.decode_call(codec.encode_call((value,), {}))
    assert args == ()
    return kwargs["value"]


MADE = Made()
ROUND_TRIPS: list[tuple[object, object]] = [
    (int, 1), (int, -(2**70)), (int, 2**64), (float, 1.5), (float, -0.0), (float, 5e-324), (float, 1e300), (bool, True),
    (str, ""), (str, "naïve 🙂\x00\n\""), (bytes, b"\xff\x00"), (bytearray, bytearray(b"ab")), (None, None),
    (datetime, NOON), (datetime, NOON.replace(tzinfo=UTC)), (datetime, NOON.replace(tzinfo=INDIA)),
    (date, date(2026, 2, 28)), (time, time(1, 2, 3, 4)), (time, time(1, 2, tzinfo=UTC)),
    (timedelta, timedelta(days=-1, microseconds=3)), (UUID, ID), (Decimal, Decimal("1.10")), (Decimal, Decimal("NaN")),
    (Colour, Colour.RED), (Level, Level.LOW), (Word, Word.HELLO), (Rights, Rights.READ | Rights.WRITE),
    (Literal["a", 1], "a"), (UserId, 7), (set[int], {1, 2}), (frozenset[str], frozenset({"a"})), (list[float], [1.0]),
    (tuple[int, str], (1, "a")), (tuple[int, ...], ()), (set[tuple[int, str]], {(1, "a")}), (Pair, Pair(1, "a")),
    (Options, {"size": 1}), (dict[str, int], {"b": 1, "a": 2}), (dict[int, str], {1: "a"}), (dict[UUID, int], {ID: 1}),
    (dict[Colour, int], {Colour.BLUE: 1}), (int | None, None), (int | str | None, "1"), (Sequence[int], [1, 2]),
    (Mapping[str, int], {"a": 1}), (Point, Point(1.5)), (Unequal, Unequal("a")), (list[Point], [Point(1.0, 2.0)]),
    (Meeting, Meeting(NOON.replace(tzinfo=UTC), ("a", "b"))), (Parcel, Parcel(Decimal("1.0"))),
    (Order, Order(ID, [("a", 1)])), (Path, Path("/srv/x")), (PurePosixPath, PurePosixPath("a/b")),
    (PureWindowsPath, PureWindowsPath("c:\\a")), (ZoneInfo, BERLIN), (complex, 1 - 2j), (list[complex], [1j]),
    (ipaddress.IPv4Address, ipaddress.ip_address("10.0.0.1")),
    (User, User(name="a", born=date(2000, 1, 1), tags={"x"})),
    (list[User], [User(name="a")]), (dict[str, User], {"a": User(name="b", tags={"c"})}), (User | None, None),
    (Signup, Signup(User(name="a"))), (Aliased, Aliased.model_validate({"userId": 3})),
    (Strict, Strict(when=NOON, data=b"ab")),
    (Nested, Nested(user=User(name="a"), others={"b": [User(name="c")]}, at=NOON.replace(tzinfo=INDIA))),
    (pydantic.HttpUrl, pydantic.HttpUrl("https://example.org/a?b=1")), (Annotated[int, msgspec.Meta(ge=1)], 1),
    (Annotated[str, pydantic.Field(max_length=3)], "abc"), (dict[str, Any], {"a": [1, None, {"b": 1.5}]}),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=repr)
def test_a_value_of_the_annotated_type_arrives_as_it_was_sent(annotation: object, value: object) -> None:
    """By type: human-readable JSON without any mark of ours."""
    arrived = arrives(annotation, value)

    assert difference(value, arrived) is None
    assert b'"value$"' not in task_of(annotation).encode_call((value,), {})


TAGGED: list[tuple[object, object]] = [
    (Any, (1, (2, [3]))), (Any, {1, 2}), (Any, frozenset({"a"})), (Any, b"\xff"), (Any, bytearray(b"x")), (Any, NOON),
    (Any, NOON.replace(tzinfo=BERLIN, fold=1)), (Any, NOON.replace(tzinfo=INDIA)), (Any, date(2026, 1, 1)),
    (Any, time(2, 30, fold=1)), (Any, time(1, tzinfo=BERLIN)), (Any, timedelta.min), (Any, ID), (Any, Decimal("1.10")),
    (Any, 1 + 2j), (Any, complex(math.nan, math.inf)), (Any, Path("a/b")), (Any, PurePosixPath("a")), (Any, BERLIN),
    (Any, PureWindowsPath("c:/a")), (Any, math.nan), (Any, -math.inf), (Any, {1: "a", (2, 3): None}),
    (Any, {"$": "uuid"}),
    (Any, {"a": {"$": {"$": (1,)}}}), (Any, 2**70), (Any, True), (Any, None), (object, {"a": (1,)}),
    (Any, {None: True}),
    (UUID | str, ID), (UUID | str, str(ID)), (datetime | date, date(2026, 1, 1)), (list[int] | set[int], {1}),
    (dict[tuple[int, int], str], {(1, 2): "a"}), (float, math.nan), (float, math.inf), (list[float], [1.0, math.nan]),
    (float, 3), (list[float], [1, 2.0]), (datetime, NOON.replace(tzinfo=BERLIN)), (datetime, NOON.replace(fold=1)),
    (datetime, NOON.replace(tzinfo=ZoneInfo("UTC"))), (datetime | None, NOON.replace(tzinfo=BERLIN)),
    (datetime, NOON.replace(tzinfo=timezone(timedelta(seconds=30)))), (Sequence[int], (1, 2)), (Iterable[int], {1}),
    (dict[str, Any], {"a": (1, ID)}), (list[Any], [NOON]), (dict, {1: 2}), (AbstractSet[int], frozenset({1})),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), TAGGED, ids=repr)
def test_a_value_that_json_by_type_would_change_arrives_by_the_tagged_form(annotation: object, value: object) -> None:
    """The payload says by itself which form was used, so that the worker need not guess."""
    arrived = arrives(annotation, value)

    assert difference(value, arrived) is None
    assert b'"value$"' in task_of(annotation).encode_call((value,), {})


MISFITS: list[tuple[object, object, str]] = [
    (int, "1", "str '1' is not int"), (int, 1.0, "float 1.0 is not int"), (int, True, "got `bool`"),
    (str, 1, "int 1 is not str"), (str, None, "None is not str"), (UUID, str(ID), "is not uuid.UUID"),
    (datetime, "2026-01-01T00:00:00", "is not datetime.datetime"), (list[int], ["a"], "is not list[int]"),
    (list[int], (1, 2), "is not list[int]"), (set[int], [1], "is not set[int]"),
    (tuple[int, int], (1,), "is not tuple"),
    (dict[str, int], {1: 1}, "is not dict[str, int]"), (Colour, "red", "is not"), (Point, {"x": 1.0}, "is not"),
    (User, {"name": "a"}, "is not"), (Literal["a"], "b", "is not"), (UUID | str, 1, "int 1 is not"),
    (Annotated[int, msgspec.Meta(ge=1)], 0, ">= 1"), (Annotated[float, msgspec.Meta(ge=0)], math.nan, ">= 0"),
    (Path, "a", "is not"), (Options, {"size": "a"}, "Expected `int`, got `str`"), (float, "x", "is not float"),
    (float, True, "got `bool`"), (None, 1, "is not None"), (int, Plain(), "is not int"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "words"), MISFITS, ids=repr)
def test_an_argument_of_the_wrong_type_is_refused_at_the_enqueue(annotation: object, value: object, words: str) -> None:
    """A wrong argument is a clear error at the caller, never a crash in the worker."""
    with pytest.raises(InvalidArguments) as caught:
        task_of(annotation).encode_call((value,), {})

    assert "argument 'value'" in str(caught.value)
    assert words in str(caught.value)


class PytzLike(tzinfo):
    """A zone whose offset depends on the date, and that is no ZoneInfo."""

    def utcoffset(self, when: datetime | None, /) -> timedelta | None:
        return None if when is None else timedelta(hours=when.month)

    dst = utcoffset

    def tzname(self, when: datetime | None, /) -> str:
        return "Odd/Zone"


CYCLE: list[object] = []
CYCLE.append(CYCLE)
EXACTLY = "exactly what the annotations say"
ANNOTATE = "nnotate the parameter with its type"
REFUSALS: list[tuple[object, object, str, str]] = [
    (str, Text("a"), "Text", "plain data"), (str, Word.HELLO, "Word", EXACTLY), (int, Level.LOW, "Level", EXACTLY),
    (User, Admin(name="a"), "would become User", EXACTLY), (Point, Point3(1.0), "would become Point(", EXACTLY),
    (list[User], [Admin(name="a")], "at [0]", EXACTLY),
    (Point, Point(1), "at .x, int 1 would become float 1.0", EXACTLY),
    (Meeting, Meeting(NOON.replace(tzinfo=BERLIN)), "at .starts_at", EXACTLY),
    (Hidden, Hidden(shown=1, hidden=2), "at .hidden, int 2 would become int 0", EXACTLY),
    (dict[str, Any], {"a": User(name="b")}, "at ['a']", EXACTLY), (Point, Point(math.nan), "got `null`", "plain data"),
    (Any, User(name="a"), "User", "Annotate the parameter with its type (User)"), (Any, Colour.RED, "Colour", ANNOTATE),
    (Any, Point(1.0), "Point", ANNOTATE), (Any, [{"a": Pair(1, "b")}], "at [0]['a']", ANNOTATE),
    (Any, Plain(), "Plain", ANNOTATE), (Any, Text("a"), "Text", ANNOTATE), (Any, CYCLE, "recursion", ANNOTATE),
    (User | Point, User(name="a"), "JSON cannot follow its annotation", "one of the alternatives"),
    (Mixed, Mixed.ONE, "Enums must contain either all str or all int values", "one of the alternatives"),
    (datetime, NOON.replace(tzinfo=PytzLike()), "would become", EXACTLY), (str, "\ud800", "surrogates", "plain data"),
    (int, -10**4299, "out of range", "Pass plain data"),  # written it could not be read again: the sign counts
    (Any, NOON.replace(tzinfo=PytzLike()), "not a zoneinfo.ZoneInfo", ANNOTATE),
    (Plain, Plain(), "holds a Plain, which has no JSON form", "Pass an id"),
    (Login, Login(name="a", password=pydantic.SecretStr("hunter2")), "holds a secret (SecretStr)", "Pass an id"),
    (Row, Row(id=1), "an ORM instance (Row)", "Pass an id"), (Callable[[], int], int, "holds a function", "Pass an id"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "words", "remedy"), REFUSALS, ids=lambda value: type(value).__name__)
def test_what_would_not_arrive_as_it_was_sent_is_refused(
    annotation: object, value: object, words: str, remedy: str
) -> None:
    """Never a changed value in the worker; the message names the argument, the change and the remedy."""
    with pytest.raises(NotSerializable) as caught:
        task_of(annotation).encode_call((value,), {})

    message = str(caught.value)
    assert message.startswith("Argument 'value' of 'job' cannot travel to a worker: ")
    assert words in message
    assert remedy in message
    assert "hunter2" not in message


def test_a_model_arrives_knowing_which_fields_were_set() -> None:
    """A PATCH handler asks for model_dump(exclude_unset=True): filled-in defaults would overwrite data."""
    arrived = typing.cast("Patch", arrives(Patch, Patch(age=3)))

    assert arrived.model_dump(exclude_unset=True) == {"age": 3}


def test_a_model_with_defaults_made_on_demand_arrives_with_those_it_had() -> None:
    """default_factory gives another value each time: leaving the field out would change it."""
    sent = Made()

    arrived = typing.cast("Made", arrives(Made, sent))

    assert arrived == sent
    assert task_of(Made).encode_call((sent,), {}, check=False) == task_of(Made).encode_call((sent,), {})


def test_a_constant_offset_inside_an_object_may_lose_its_name_but_not_its_instant() -> None:
    """ZoneInfo("UTC") and timezone.utc are the same zone; a dataclass's field has no tagged form."""
    sent = Meeting(NOON.replace(tzinfo=ZoneInfo("UTC")))

    arrived = typing.cast("Meeting", arrives(Meeting, sent))

    assert arrived.starts_at.isoformat() == sent.starts_at.isoformat()


# -- calls --------------------------------------------------------------------------------


def everything(
    ctx: Any, first: Any, /, second: int = 2, *rest: int, third: float = 3.0, ctx2: object = None, **more: Any
) -> tuple[object, ...]:
    return first, second, rest, third, more, ctx, ctx2


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 5), {}),
        ((1,), {"second": 5}),
        (((1, 2), 3, 4, 5), {"third": 1.5, "x": ID}),
        ((1,), {"first": "for **more", "third": math.nan}),
    ],
)
def test_a_call_reaches_the_function_as_if_called_directly(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    """Positional-only, *args, keyword-only and **kwargs, around parameters that the worker fills in."""
    codec = CallCodec(everything, task="everything", skip={"ctx", "ctx2"})
    decoded = codec.decode_call(codec.encode_call(args, kwargs))

    placed_args, placed_kwargs = codec.place(*decoded, {"ctx": "C", "ctx2": "C2"})

    function = typing.cast("Callable[..., object]", everything)
    directly = function("C", *args, ctx2="C2", **kwargs)
    assert difference(directly, function(*placed_args, **placed_kwargs)) is None


def send(user_id: int, email: str = "nobody", *, ctx: object = None) -> str:
    return email


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'user_id'"),
        ((1, "a", 2), {}, "too many positional arguments"),
        ((1,), {"mail": "a"}, "got an unexpected keyword argument 'mail'"),
        ((1,), {"user_id": 2}, "multiple values for argument 'user_id'"),
        ((1,), {"ctx": None}, "ctx is filled in by the worker"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(
    args: tuple[object, ...], kwargs: dict[str, object], words: str
) -> None:
    """In Python's own words, with the signature, and before anything is written."""
    codec = CallCodec(send, task="send", skip={"ctx"})

    with pytest.raises(InvalidArguments) as caught:
        codec.encode_call(args, kwargs)

    assert words in str(caught.value)
    assert "send(user_id: int, email: str = 'nobody')" in str(caught.value)


def test_a_worker_side_parameter_cannot_slip_in_through_the_keyword_arguments() -> None:
    """**kwargs would swallow its name, and the worker's own value would meet it there."""

    def job(ctx: object, **more: object) -> None: ...

    with pytest.raises(InvalidArguments, match=r"ctx is filled in by the worker"):
        CallCodec(job, task="job", skip={"ctx"}).encode_call((), {"ctx": 1})


def test_star_arguments_are_named_in_errors_as_they_are_written() -> None:
    """The caller knows ``*numbers``, not our place for it."""

    def job(*numbers: int) -> None: ...

    with pytest.raises(InvalidArguments, match=r"argument '\*numbers': tuple \(1, 'a'\) is not tuple\[int, ...\]"):
        CallCodec(job, task="job").encode_call((1, "a"), {})


def test_a_payload_reads_as_the_call_was_written() -> None:
    """It is what one sees in redis-cli. Defaults are left out: those of the worker's version apply."""
    codec = CallCodec(send, task="send", skip={"ctx"})

    assert codec.encode_call((1,), {}) == b'{"user_id":1}'
    assert codec.encode_call((), {"email": "a@b.c", "user_id": 1}) == b'{"email":"a@b.c","user_id":1}'


def test_an_unchecked_call_of_plain_types_is_written_the_same() -> None:
    """Routes have validated already; only a value that could be changed on its way is looked at again."""
    codec = CallCodec(send, task="send", skip={"ctx"})

    assert codec.encode_call((1, "a"), {}, check=False) == codec.encode_call((1, "a"), {})
    assert task_of(float).encode_call((math.nan,), {}, check=False) == b'{"value$":{"$":"float","v":"nan"}}'


# -- versions of the code -----------------------------------------------------------------


def test_a_parameter_added_with_a_default_leaves_queued_jobs_readable() -> None:
    """Also in front of *args, where the others would move up by one."""

    def old(user_id: int, *rest: int) -> None: ...

    def new(user_id: int, page: int = 1, *rest: int) -> None: ...

    payload = CallCodec(old, task="job").encode_call((7, 8), {})

    assert CallCodec(new, task="job").decode_call(payload) == ((7, 1, 8), {})


def job_of_two(user_id: int, email: str) -> None: ...


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"user_id":1,"email":"a","gone":2}', "unknown field `gone`"),
        (b'{"user_id":1}', "no value for email"),
        (b'{"user_id":"x","email":"a"}', "Expected `int`, got `str` - at `$.user_id`"),
        (b'{"user_id$":"x","email":"a"}', "user_id: str 'x' is not int"),
        (b'{"user_id$":{"$":"future","v":1},"email":"a"}', "'future' is not a kind of value"),
        (b'{"user_id$":{"$":["list"]},"email":"a"}', "unhashable"),
        (b'{"email$":{"$":"zone","v":"No/Where"},"user_id":1}', "No time zone found"),
        (b"[1]", "Expected `object`, got `array`"),
        (b"\x80\x04", "malformed"),
        (b"", "truncated"),
    ],
)
def test_a_payload_of_another_version_is_undecodable_and_says_why(payload: bytes, words: str) -> None:
    """Then the job is parked: a worker with the other version may know it."""
    with pytest.raises(UndecodablePayload) as caught:
        CallCodec(job_of_two, task="job").decode_call(payload)

    assert words in str(caught.value)


def test_typed_json_does_not_decode_for_a_parameter_that_lost_its_annotation() -> None:
    """It would arrive as a str that was a UUID."""
    payload = task_of(UUID).encode_call((ID,), {})

    with pytest.raises(UndecodablePayload):
        task_of(Any).decode_call(payload)


def test_a_value_sent_without_annotation_decodes_for_one_that_it_fits() -> None:
    """Adding annotations must not orphan queued jobs."""
    payload = task_of(Any).encode_call((ID,), {})

    assert task_of(UUID).decode_call(payload) == ((), {"value": ID})


def test_keyword_arguments_that_became_a_parameter_are_undecodable() -> None:
    """They were never checked against its annotation."""

    def old(**more: object) -> None: ...

    def new(size: int = 1, **more: object) -> None: ...

    payload = CallCodec(old, task="job").encode_call((), {"size": "large"})

    with pytest.raises(UndecodablePayload, match=r"size was one of its"):
        CallCodec(new, task="job").decode_call(payload)


# -- results ------------------------------------------------------------------------------


@pytest.mark.parametrize(("annotation", "value"), [*ROUND_TRIPS, *TAGGED], ids=repr)
def test_a_result_is_read_as_it_was_returned(annotation: object, value: object) -> None:
    """Results travel like arguments."""
    codec = task_of(annotation)

    assert difference(value, codec.decode_result(codec.encode_result(value))) is None


def test_a_result_that_is_not_what_the_annotation_says_is_still_kept_as_it_was() -> None:
    """The work is done: a sloppy annotation must not fail it."""
    codec = task_of(str)

    assert codec.decode_result(codec.encode_result(None)) is None
    assert codec.decode_result(codec.encode_result((1, 2))) == (1, 2)


def test_a_result_that_cannot_be_read_again_is_unstorable() -> None:
    """The task's author is told the type and what to do."""
    with pytest.raises(UnstorableResult, match=r"Plain is not a type that describes itself.*keep_result=0"):
        task_of(Any).encode_result(Plain())


def test_a_result_of_another_type_is_undecodable() -> None:
    """Another version of the task may have stored it."""
    with pytest.raises(UndecodableResult, match=r"Expected `int`, got `str`"):
        task_of(int).decode_result(b'{"r":"a"}')
    with pytest.raises(UndecodableResult):
        task_of(int).decode_result(b"{}")


@pytest.mark.parametrize(
    ("annotation", "value", "shown"),
    [
        (User, User(name="a"), b'{"name":"a"}'),
        (Any, (1, NOON), b'[1,"2026-03-01T12:30:15.123456"]'),
        (Any, {(1, 2): 3}, b'{"$":"dict","v":[[{"$":"tuple","v":[1,2]},3]]}'),
    ],
)
def test_a_result_is_shown_as_plain_json_without_knowing_its_type(
    annotation: object, value: object, shown: bytes
) -> None:
    """The dashboard and the HTTP contract do not import the user's classes."""
    assert result_json(task_of(annotation).encode_result(value)) == shown


def test_bytes_that_are_no_result_are_not_shown() -> None:
    """Not ours."""
    with pytest.raises(msgspec.DecodeError):
        result_json(b"{}")


def test_json_helpers_know_models_and_paths() -> None:
    """The same hooks, for whoever has the type at hand."""
    value = {"a": [User(name="b")]}

    assert decode_json(encode_json(value), dict[str, list[User]]) == value
    assert decode_json(encode_json(Path("a")), Path) == Path("a")


# -- definition ---------------------------------------------------------------------------


@pytest.mark.parametrize("annotation", ["NoSuchName", list["NoSuchName"]])  # type: ignore[name-defined]  # noqa: F821
def test_an_annotation_that_cannot_be_resolved_is_named(annotation: object) -> None:
    """For example a name imported under TYPE_CHECKING: better at import than in the worker."""
    with pytest.raises(InvalidTask, match=r"of 'value' cannot be resolved.*NoSuchName.*TYPE_CHECKING"):
        task_of(annotation)


def test_an_annotation_of_a_skipped_parameter_need_not_resolve() -> None:
    """A context is often imported under TYPE_CHECKING, and is no part of a call."""

    def job(ctx: "NoSuchName", user_id: "int") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    codec = CallCodec(job, task="job", skip={"ctx"})

    assert str(codec.signature) == "(user_id: int) -> None"


def test_a_worker_side_parameter_between_those_that_go_by_position_is_refused() -> None:
    """Nothing could be passed before it without passing it, too."""

    def job(first: int, ctx: object, *rest: int) -> None: ...

    with pytest.raises(InvalidTask, match=r"'ctx' is filled by the worker.*keyword-only"):
        CallCodec(job, task="job", skip={"ctx"})


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (pydantic.SecretStr, "a secret (SecretStr)"),
        (list[pydantic.SecretBytes] | None, "a secret (SecretBytes)"),
        (Login, "a secret (SecretStr)"),
        (dict[str, Logins], "a secret (SecretStr)"),
        (Row, "an ORM instance (Row)"),
        (Annotated[tuple[Row, ...], []], "an ORM instance (Row)"),
        (typing.BinaryIO, "an open file (BinaryIO)"),
        (io.BytesIO, "an open file (BytesIO)"),
        (Callable[[], int], "a function"),
        (typing.Callable[..., None], "a function"),
        (type[int], "a class"),
        (Iterator[int], "only once"),
        (Plain, "a Plain, which has no JSON form"),
        (list[Plain], "a Plain, which has no JSON form"),
    ],
    ids=repr,
)
def test_an_annotation_that_can_never_travel_is_known_at_import(annotation: object, words: str) -> None:
    """So that a route is refused when it is defined, not when it is called."""
    refusal = refused_types(annotation)

    assert refusal is not None
    assert words in refusal


@pytest.mark.parametrize(
    "annotation",
    [*(annotation for annotation, _ in ROUND_TRIPS), *(annotation for annotation, _ in TAGGED)],
    ids=repr,
)
def test_an_annotation_that_can_travel_is_not_refused(annotation: object) -> None:
    """Whatever round-trips must pass the check at import."""
    assert refused_types(annotation) is None


# -- properties ---------------------------------------------------------------------------

ZONES = st.sampled_from([None, UTC, INDIA, BERLIN, ZoneInfo("America/New_York")])
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
HASHABLE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(max_size=8), st.dates(), st.timedeltas(),
    st.datetimes(timezones=ZONES, allow_imaginary=True), st.times(timezones=ZONES), st.uuids(), st.complex_numbers(),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.builds(Path, TEXT.filter(lambda text: "\0" not in text)),
)  # fmt: skip
FROZEN = st.recursive(HASHABLE, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
KEYS = TEXT | st.just("$") | FROZEN
ANYTHING = st.recursive(
    FROZEN | st.sets(FROZEN, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | st.tuples(inner),
    max_leaves=8,
)


@given(ANYTHING)
@settings(max_examples=200, deadline=None)
def test_any_nest_of_builtins_arrives_without_annotation(value: object) -> None:
    """The tagged form keeps every type that it takes."""
    assert difference(value, arrives(Any, value)) is None


TYPES = [
    int,
    float,
    str,
    bytes,
    datetime,
    UUID | str,
    dict[str, Any],
    list[float],
    Sequence[int],
    set[int] | None,
    Point,
]


@given(st.sampled_from(TYPES), ANYTHING | st.builds(Point, st.integers() | st.floats()) | st.lists(st.integers()))
@settings(max_examples=300, deadline=None)
def test_whatever_is_passed_arrives_as_it_was_or_is_refused(annotation: object, value: object) -> None:
    """Right or wrong for its annotation: never changed, and never another exception."""
    try:
        arrived = arrives(annotation, value)
    except EnqueueError:
        return

    assert difference(value, arrived) is None


@given(st.integers(), st.emails(), st.lists(st.datetimes(timezones=ZONES)), st.dictionaries(TEXT, st.floats()))
@settings(max_examples=100, deadline=None)
def test_a_typed_call_arrives(number: int, email: str, times: list[datetime], sizes: dict[str, float]) -> None:
    """Each argument chooses its own form."""

    def job(number: int, email: str, times: list[datetime], *, sizes: dict[str, float]) -> None: ...

    codec = CallCodec(job, task="job")

    args, kwargs = codec.decode_call(codec.encode_call((number, email, times), {"sizes": sizes}))

    sent = {"number": number, "email": email, "times": times, "sizes": sizes}
    assert args == ()
    assert difference(sent, {name: kwargs[name] for name in sent}) is None


@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | TEXT, lambda x: st.dictionaries(st.just("$") | TEXT, x)).map(encode_json)
)
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_not_ours_are_undecodable_and_nothing_else(payload: bytes) -> None:
    """A worker must survive whatever stands in Redis."""
    with pytest.raises(UndecodablePayload):
        CallCodec(job_of_two, task="job").decode_call(payload)
