"""One JSON object of named values, and the form in which each of them travels: typed, or self-describing."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from arq_web.codec.fidelity import PLAIN, difference, fits, short
from arq_web.codec.tagged import Untaggable, from_tagged, to_tagged
from arq_web.codec.typed import ENCODER, FULL_ENCODER, from_json, has_json_form, is_plain

MARK = "$"  # ends the name of a value that is in the self-describing form; no parameter's name can
_UNSET = msgspec.UNSET
_SCALARS: Mapping[Any, type] = {bool: bool, int: int, str: str, bytes: bytes, None: type(None), type(None): type(None)}
"""Annotation → type, of values that arrive as they were sent, or are refused when they are encoded."""
_LEAST, _MOST = -(2**63), 2**63 - 1
"""Longer ints have limits in Python (``sys.set_int_max_str_digits``), which may differ where they arrive."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in the object. Without a decoder, it always holds the self-describing form."""

    name: str
    annotation: Any
    decoder: msgspec.json.Decoder[Any] | None
    is_plain: bool
    why_tagged: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a value cannot travel. ``fits``: it is right for the annotation, but there is no form for it."""

    why: str
    remedy: str
    fits: bool


def make_slot(name: str, annotation: Any) -> Slot:
    """Decide how values of ``annotation`` travel.

    Raises:
        NameError: a field of a class in ``annotation`` has an annotation that cannot be resolved.
    """
    bare = annotation
    while typing.get_origin(bare) is typing.Annotated:
        bare = bare.__origin__
    kind = typing.get_origin(bare) or bare
    if annotation is inspect.Parameter.empty or kind in (Any, object) or isinstance(kind, typing.TypeVar):
        return Slot(name, Any, None, is_plain=False)
    if isinstance(kind, type) and not has_json_form(kind):
        return Slot(name, annotation, None, is_plain=False)
    try:
        decoder = msgspec.json.Decoder(annotation, dec_hook=from_json)
    except TypeError as error:  # msgspec on unions that JSON cannot tell apart
        return Slot(name, annotation, None, is_plain=False, why_tagged=str(error))
    return Slot(name, annotation, decoder, is_plain=is_plain(annotation))


class Record:
    """Encodes and decodes one JSON object of slots, all at once: the fast path.

    Args:
        slots: what it can hold; any of them may be absent.
        is_lenient: take self-describing values of another type than the annotation says.
    """

    def __init__(self, slots: Sequence[Slot], *, is_lenient: bool = False) -> None:
        self.slots = {slot.name: slot for slot in slots}
        self._is_lenient = is_lenient
        self._is_plain = all(slot.is_plain for slot in slots)
        self._always_tagged = frozenset(slot.name for slot in slots if slot.decoder is None)
        typed = [slot for slot in slots if slot.decoder is not None]
        self._typed_names = tuple(slot.name for slot in typed)
        self._typed_count = len(typed)
        plain = [slot for slot in typed if slot.is_plain]  # of the others the annotation may be unhashable
        self._scalars = {slot.name: _SCALARS[slot.annotation] for slot in plain if slot.annotation in _SCALARS}
        self._nothing_tagged = (_UNSET,) * len(slots)
        fields = [*((slot.name, slot.annotation) for slot in typed), *((slot.name + MARK, Any) for slot in slots)]
        self._decode = _object_decoder(fields)

    def encode(self, values: Mapping[str, object], *, check: bool = True) -> bytes | None:
        """Encode, decode and compare; None when one of the values needs a closer look (:func:`write`)."""
        try:
            encoded = ENCODER.encode(self._tag(values) if self._always_tagged else values)
            if self._is_plain and (not check or self._are_scalars(values)):
                return encoded
            if _is_same(values, self.decode(encoded)):
                return encoded
        except Exception:  # noqa: BLE001 - msgspec's, or the user's types': the closer look finds value and words
            return None
        return None

    def decode(self, data: bytes) -> dict[str, object]:
        """Decode what is there.

        Raises:
            Exception: it is not such an object: msgspec's errors, and those of the constructors of the user's types.
        """
        found = msgspec.structs.astuple(self._decode(data))
        # The typed fields come first, and zip stops after them.
        typed, tagged = found[: self._typed_count], found[self._typed_count :]
        if self._is_plain and tagged == self._nothing_tagged and _UNSET not in typed:
            return dict(zip(self._typed_names, typed, strict=True))
        values = {name: value for name, value in zip(self._typed_names, typed, strict=True) if value is not _UNSET}
        if tagged != self._nothing_tagged:
            values.update(self._untag(tagged))
        return values

    def _are_scalars(self, values: Mapping[str, object]) -> bool:
        """True when nothing can have been lost: each is exactly of the simple type that its annotation names."""
        scalars = self._scalars
        for name, value in values.items():
            kind = scalars.get(name)
            if type(value) is not kind or (kind is int and not _LEAST <= value <= _MOST):  # type: ignore[operator]
                return False
        return True

    def _tag(self, values: Mapping[str, object]) -> dict[str, object]:
        always = self._always_tagged
        return {
            (name + MARK if name in always else name): (to_tagged(value) if name in always else value)
            for name, value in values.items()
        }

    def _untag(self, tagged: tuple[object, ...]) -> Iterable[tuple[str, object]]:
        for slot, data in zip(self.slots.values(), tagged, strict=True):
            if data is _UNSET:
                continue
            value = from_tagged(data)
            # It may have been tagged for want of an annotation, which this version of the code now has.
            if not self._is_lenient and slot.annotation is not Any and not fits(value, slot.annotation):
                raise TypeError(f"{slot.name}: {misfit(value, slot.annotation)}")
            yield slot.name, value


def write(slot: Slot, value: object, *, must_fit: bool = True) -> tuple[str, msgspec.Raw] | Failure:
    """Find the form in which ``value`` arrives as it was sent, and return it with the name to put it under."""
    if must_fit and slot.decoder is None and slot.annotation is not Any and not fits(value, slot.annotation):
        return Failure(misfit(value, slot.annotation), "", fits=False)
    errors: list[Exception] = []
    for name, form in _forms(slot, value):
        try:
            return name, msgspec.Raw(form())
        except Exception as error:  # noqa: BLE001 - whatever the user's types raise, it is why this form fails
            errors.append(error)
        # The next forms are more tolerant: they must not let through what is wrong for the annotation.
        if must_fit and slot.decoder and len(errors) == 1 and (why := _misfit(slot, value, errors[0])):
            return Failure(why, "", fits=False)
    return _failure(slot, errors)


def misfit(value: object, annotation: Any) -> str:
    """Say that ``value`` is not what ``annotation`` asks for."""
    return f"{short(value)} is not {inspect.formatannotation(annotation)}"


class _Changed(ValueError):
    """What arrived is not what was sent."""


def _forms(slot: Slot, value: object) -> Iterable[tuple[str, Callable[[], bytes]]]:
    if slot.decoder is not None:
        yield slot.name, lambda: _typed(slot, value, ENCODER)
    yield slot.name + MARK, lambda: _tagged(value)
    if slot.decoder is not None:
        # Inside an object there is no tagged form: there, the same instant and the same fields must do.
        yield slot.name, lambda: _typed(slot, value, ENCODER, lenient=True)
        yield slot.name, lambda: _typed(slot, value, FULL_ENCODER, lenient=True)


def _typed(slot: Slot, value: object, encoder: msgspec.json.Encoder, *, lenient: bool = False) -> bytes:
    encoded = encoder.encode(value)
    arrived = typing.cast("msgspec.json.Decoder[Any]", slot.decoder).decode(encoded)
    return _unchanged(encoded, difference(value, arrived, lenient=lenient))


def _tagged(value: object) -> bytes:
    encoded = ENCODER.encode(to_tagged(value))
    return _unchanged(encoded, difference(value, from_tagged(msgspec.json.decode(encoded))))


def _unchanged(encoded: bytes, change: str | None) -> bytes:
    if change is not None:
        raise _Changed(change)
    return encoded


def _misfit(slot: Slot, value: object, error: Exception) -> str | None:
    if not fits(value, slot.annotation):
        return misfit(value, slot.annotation)
    if isinstance(error, _Changed):
        return None
    try:
        # The same check without JSON between: what JSON alone is to blame for (nan is null there) passes here.
        msgspec.convert(value, slot.annotation, dec_hook=_take_instance)
    except msgspec.ValidationError as invalid:
        return str(invalid)
    except Exception:  # noqa: BLE001 - not about the value
        return None
    return None


def _take_instance(kind: Any, value: object) -> object:
    if fits(value, kind):
        return value
    raise TypeError(misfit(value, kind))


def _failure(slot: Slot, errors: Sequence[Exception]) -> Failure:
    if slot.decoder is None:
        return _untyped_failure(slot, errors[-1])
    last = errors[-1]
    remedy = (
        "Pass exactly what the annotations say, or annotate with the type of what you pass."
        if isinstance(last, _Changed)
        else "Pass plain data, for example an id, and look the rest up in the task."
    )
    return Failure(words(last), remedy, fits=True)


def _untyped_failure(slot: Slot, error: Exception) -> Failure:
    if slot.why_tagged:
        remedy = "Annotate it with one of the alternatives, or give the alternatives parameters of their own."
        return Failure(f"{words(error)}; and JSON cannot follow its annotation: {slot.why_tagged}", remedy, fits=True)
    if isinstance(error, Untaggable) and slot.annotation is Any and has_json_form(error.kind):
        return Failure(words(error), f"Annotate the parameter with its type ({error.kind.__qualname__}).", fits=True)
    remedy = "Pass plain data, and annotate the parameter with its type (a dataclass, Struct or model works too)."
    return Failure(words(error), remedy, fits=True)


def words(error: Exception) -> str:
    """Return what ``error`` says, or at least what it is."""
    return str(error) or type(error).__name__


def _is_same(sent: Mapping[str, object], got: Mapping[str, object]) -> bool:
    for name, value in sent.items():
        arrived = got[name]
        if type(value) in PLAIN and type(value) is type(arrived) and value == arrived:
            continue
        if difference(value, arrived) is not None:
            return False
    return True


def _object_decoder(fields: Sequence[tuple[str, Any]]) -> Callable[[bytes], Any]:
    """Build the decoder of an object that may lack any of ``fields`` and must have no others."""
    numbered = [(f"f{number}", annotation, _UNSET) for number, (_, annotation) in enumerate(fields)]
    names = {f"f{number}": name for number, (name, _) in enumerate(fields)}
    struct = msgspec.defstruct("Payload", numbered, rename=names, forbid_unknown_fields=True)
    return msgspec.json.Decoder(struct, dec_hook=from_json).decode
