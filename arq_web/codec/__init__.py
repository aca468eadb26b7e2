"""Values ↔ bytes: a call's arguments, typed by the task's signature, and its result.

A payload is one JSON object, parameter name → value, as one would write it by hand::

    send_welcome(42, email="a@b.c")         {"user_id":42,"email":"a@b.c"}

Defaults are not filled in: those of the worker's version apply. ``*args`` stand under ``"*"``, ``**kwargs`` under
``"**"``. A name followed by ``$`` says that its value is in the self-describing form (``tagged.py``): always
for a parameter whose annotation JSON cannot follow (none, ``Any``, ``UUID | str``), and for the single values that
would not arrive as they were sent otherwise (nan, a datetime in a ``ZoneInfo``, an int for a float). A result is
``{"r": value}`` or ``{"r$": value}``.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import msgspec

from arq_web.codec.canonical import canonical
from arq_web.codec.slots import MARK, Failure, Record, Slot, make_slot, words, write
from arq_web.codec.tagged import from_tagged
from arq_web.codec.typed import ENCODER, decode_json, encode_json, refused_types
from arq_web.errors import (
    InvalidArguments,
    InvalidTask,
    NotSerializable,
    UndecodablePayload,
    UndecodableResult,
    UnstorableResult,
)

__all__ = ["CallCodec", "canonical", "decode_json", "encode_json", "refused_types", "result_json"]

_RESULT = "r"
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC: dict[object, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


class CallCodec:
    """Encodes and decodes the calls and results of one task. Everything that can be prepared is, here.

    Args:
        fn: the task's function.
        task: its name, for messages.
        skip: parameters that are filled in the worker (a context, a dependency). They are no part of a call.

    Raises:
        InvalidTask: an annotation cannot be resolved, or a parameter in ``skip`` stands where it cannot be filled.
    """

    signature: inspect.Signature  # without the skipped parameters, annotations resolved

    def __init__(self, fn: Callable[..., object], *, task: str, skip: Collection[str] = ()) -> None:
        self._task, self._skip = task, frozenset(skip)
        whole = _signature(fn, task)
        self._leading = _leading(whole, self._skip, task)
        self.signature = _resolved(fn, whole, self._skip, task)
        parameters = self.signature.parameters.values()
        self._positional = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._positional_only = tuple(p.name for p in parameters if p.kind is Parameter.POSITIONAL_ONLY)
        self._keywords = frozenset(p.name for p in parameters if p.kind in _BY_KEYWORD)
        self._labels = {_slot_name(p): f"{_slot_name(p)}{p.name}" for p in parameters if p.kind in _VARIADIC}
        self._required = frozenset(p.name for p in parameters if p.default is p.empty and p.kind not in _VARIADIC)
        self._is_by_name = not self._positional_only and not any(p.kind in _VARIADIC for p in parameters)
        self._call = Record([_slot(p.name, _slot_name(p), _slot_annotation(p), task) for p in parameters])
        result = _slot("return", _RESULT, self.signature.return_annotation, task)
        self._result = Record([result], is_lenient=True)

    def encode_call(self, args: tuple[object, ...], kwargs: Mapping[str, object], *, check: bool = True) -> bytes:
        """Bind a call to the signature and encode its arguments.

        Args:
            args: the positional arguments, without those in ``skip``.
            kwargs: the keyword arguments.
            check: decode again and compare. False trusts arguments whose annotations alone decide how they are
                written (int, str, bool, bytes, UUID, date, and containers of them); a call with others is checked
                anyway, since there it depends on the value.

        Raises:
            InvalidArguments: they do not fit the signature, by number, name or type.
            NotSerializable: one of them would not arrive as it was sent.
        """
        named = self._bind(args, kwargs)
        encoded = self._call.encode(named, check=check)
        if encoded is not None:
            return encoded
        return ENCODER.encode(dict(self._write_argument(name, value) for name, value in named.items()))

    def decode_call(self, payload: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Decode the arguments of a call: by keyword, but for those that only go by position (see :meth:`place`).

        Raises:
            UndecodablePayload: it does not fit the signature; another version of the task may know it.
        """
        try:
            named = self._call.decode(payload)
        except Exception as error:  # msgspec's own, and whatever the constructors of the user's types raise
            raise UndecodablePayload(self._task, words(error)) from error
        if not self._required <= named.keys():
            missing = ", ".join(sorted(self._required - named.keys()))
            raise UndecodablePayload(self._task, f"it has no value for {missing}")
        return ((), named) if self._is_by_name else self._unbind(named)

    def place(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], filled: Mapping[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Put worker-side values (one per name in ``skip``) and decoded arguments where the function takes them."""
        if not args and not self._leading.must_be_positional:
            return (), {**kwargs, **filled}
        first = tuple(filled[name] for name in self._leading.names)
        rest = {name: value for name, value in filled.items() if name not in self._leading.names}
        return (*first, *args), {**kwargs, **rest}

    def encode_result(self, value: object) -> bytes:
        """Encode what the task returned, whether or not it fits the return annotation.

        Raises:
            UnstorableResult: it could not be read again as it was.
        """
        encoded = self._result.encode({_RESULT: value})
        if encoded is not None:
            return encoded
        written = write(self._result.slots[_RESULT], value, must_fit=False)
        if isinstance(written, Failure):
            raise UnstorableResult(self._task, written.why)
        return ENCODER.encode(dict([written]))

    def decode_result(self, body: bytes) -> object:
        """Decode what :meth:`encode_result` made.

        Raises:
            UndecodableResult: it does not fit the return annotation here.
        """
        try:
            return self._result.decode(body)[_RESULT]
        except Exception as error:
            raise UndecodableResult(self._task, words(error)) from error

    def _bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Bind by hand: ``Signature.bind`` takes longer than all the rest of an enqueue."""
        named = dict(zip(self._positional, args, strict=False))
        if len(args) > len(self._positional) or not self._keywords >= kwargs.keys() or named.keys() & kwargs.keys():
            return self._bind_slowly(args, kwargs)
        named.update(kwargs)
        return named if self._required <= named.keys() else self._bind_slowly(args, kwargs)

    def _bind_slowly(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Bind a call with ``*args`` or ``**kwargs``, or find the words for one that does not fit."""
        filled = self._skip & kwargs.keys()
        if filled:
            why = f"{', '.join(sorted(filled))} is filled in by the worker, it cannot be passed"
            raise InvalidArguments(self._task, why, str(self.signature))
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArguments(self._task, str(error), str(self.signature)) from error
        return {_slot_name(self.signature.parameters[name]): value for name, value in bound.items()}

    def _write_argument(self, name: str, value: object) -> tuple[str, msgspec.Raw]:
        slot = self._call.slots[name]
        written = write(slot, value)
        if not isinstance(written, Failure):
            return written
        name = self._labels.get(name, name)
        if not written.fits:
            raise InvalidArguments(self._task, f"argument {name!r}: {written.why}", str(self.signature))
        refused = refused_types(slot.annotation)
        if refused is not None:
            raise NotSerializable(self._task, name, f"it holds {refused}", "Pass an id, and look it up in the task.")
        raise NotSerializable(self._task, name, written.why, written.remedy)

    def _unbind(self, named: dict[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        extra = typing.cast("tuple[object, ...]", named.pop("*", ()))
        extra_named = typing.cast("dict[str, object]", named.pop("**", {}))
        taken = extra_named.keys() & (self._keywords | self._skip)
        if taken:
            raise UndecodablePayload(self._task, f"{', '.join(sorted(taken))} was one of its **kwargs when it was sent")
        # A default that this version added in front of *args must be passed, or the others would move up.
        by_position = self._positional if extra else self._positional_only
        args = [named.pop(name, self.signature.parameters[name].default) for name in by_position]
        return (*args, *extra), {**named, **extra_named}


def result_json(body: bytes) -> bytes:
    """Return the plain JSON of a stored result, for people and HTTP clients. Needs no type and keeps none.

    Raises:
        msgspec.DecodeError: ``body`` is not a stored result.
    """
    stored = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if _RESULT in stored:
        return bytes(stored[_RESULT])
    if _RESULT + MARK not in stored:
        raise msgspec.DecodeError("not a stored result")
    raw = stored[_RESULT + MARK]
    try:
        return encode_json(from_tagged(msgspec.json.decode(raw)))
    except (TypeError, ValueError, KeyError):  # for example a dict with tuples for keys: show it as it is stored
        return bytes(raw)


# -- reading the signature ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leading:
    """The skipped parameters in front of all others, which go first when anything goes by position."""

    names: tuple[str, ...]
    must_be_positional: bool


def _signature(fn: Callable[..., object], task: str) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise InvalidTask(task, f"it has no signature ({error})", "Wrap it in a function of your own.") from error


def _leading(whole: inspect.Signature, skip: Collection[str], task: str) -> _Leading:
    names: list[str] = []
    for parameter in whole.parameters.values():
        if parameter.name not in skip or parameter.kind not in _POSITIONAL:
            break
        names.append(parameter.name)
    kinds = {name: parameter.kind for name, parameter in whole.parameters.items()}
    takes_more = Parameter.VAR_POSITIONAL in kinds.values()
    for name in kinds.keys() & set(skip) - set(names):
        if kinds[name] is Parameter.POSITIONAL_ONLY or (takes_more and kinds[name] is Parameter.POSITIONAL_OR_KEYWORD):
            why = f"parameter {name!r} is filled by the worker, but stands among those that go by position"
            raise InvalidTask(task, why, f"Put {name!r} first, or make it keyword-only (after *).")
    return _Leading(tuple(names), any(kinds[name] is Parameter.POSITIONAL_ONLY for name in names))


def _resolved(
    fn: Callable[..., object], whole: inspect.Signature, skip: Collection[str], task: str
) -> inspect.Signature:
    """Return the signature without ``skip``, with annotations for strings; those of ``skip`` need not resolve."""
    names = _globals(fn)
    parameters = [
        parameter.replace(annotation=_evaluated(parameter.annotation, names, parameter.name, task))
        for parameter in whole.parameters.values()
        if parameter.name not in skip
    ]
    returned = _evaluated(whole.return_annotation, names, "return", task)
    return inspect.Signature(parameters, return_annotation=returned)


def _globals(fn: Any) -> dict[str, Any]:
    while True:
        inner = getattr(fn, "__wrapped__", None) or getattr(fn, "func", None) or getattr(fn, "__func__", None)
        if inner is None:
            break
        fn = inner
    if not hasattr(fn, "__globals__"):
        fn = getattr(type(fn).__call__, "__func__", type(fn).__call__)
    return getattr(fn, "__globals__", {})


def _evaluated(annotation: Any, names: dict[str, Any], parameter: str, task: str) -> Any:
    if annotation is Parameter.empty:
        return annotation
    holder = types.SimpleNamespace(__annotations__={parameter: annotation})
    try:
        evaluated = typing.get_type_hints(holder, names, include_extras=True)[parameter]
    except Exception as error:
        raise _unresolved(parameter, annotation, error, task) from error
    return None if evaluated is types.NoneType else evaluated


def _unresolved(parameter: str, annotation: object, error: Exception, task: str) -> InvalidTask:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    why = f"the annotation {text!r} of {parameter!r} cannot be resolved ({words(error)})"
    return InvalidTask(task, why, "Import the name at run time, at module level and not under TYPE_CHECKING.")


def _slot_name(parameter: Parameter) -> str:
    return _VARIADIC.get(parameter.kind, parameter.name)


def _slot_annotation(parameter: Parameter) -> Any:
    one: Any = parameter.annotation
    if parameter.kind not in _VARIADIC:
        return one
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return tuple if one is Parameter.empty else types.GenericAlias(tuple, (one, ...))
    if typing.get_origin(one) is typing.Unpack:
        return typing.get_args(one)[0]
    return dict if one is Parameter.empty else types.GenericAlias(dict, (str, one))


def _slot(parameter: str, name: str, annotation: Any, task: str) -> Slot:
    try:
        return make_slot(name, annotation)
    except NameError as error:
        raise _unresolved(parameter, annotation, error, task) from error
