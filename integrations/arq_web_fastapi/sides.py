"""Which side resolves what: each parameter of a job's function goes to the request, or to the worker."""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from inspect import Parameter
from typing import Annotated, Any, Literal

import pydantic
from fastapi import BackgroundTasks, Request, Response, UploadFile, params
from fastapi.security import SecurityScopes
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.datastructures import UploadFile as StarletteUploadFile
from starlette.requests import HTTPConnection

from arq_web.codec import refused_types
from arq_web.context import INJECT
from arq_web.errors import InvalidRoute, InvalidTask
from arq_web.task import INJECTED
from arq_web_fastapi._compat import Dependant, dependant_of, reads_body, reads_request
from arq_web_fastapi.depends import QueueProvider, RequestTimeDepends, SyncQueueProvider

Side = Literal["request", "request (dependency)", "worker (dependency)", "worker (context)"]

REQUEST_NAME, RESPONSE_NAME = "_arq_web_request", "_arq_web_response"
DEPENDENCY, NAMED_QUEUE = "dependency", "named_queue"
"""What the resolver fills in, beside the kinds of the core's own."""


@dataclass(slots=True)
class Plan:
    """What became of a function's parameters."""

    sides: dict[str, Side] = field(default_factory=dict)
    injected: dict[str, str] = field(default_factory=dict)
    """Worker-side parameter → kind, as ``Task`` takes it."""
    queues: dict[str, QueueProvider | SyncQueueProvider] = field(default_factory=dict)
    """Parameters that ask for a named queue."""
    request: list[Parameter] = field(default_factory=list)
    """What FastAPI is to see."""
    call: list[Parameter] = field(default_factory=list)
    """The arguments of the job: the request's side without FastAPI's words."""
    worker: list[Parameter] = field(default_factory=list)
    """The worker-side dependencies."""
    defaults: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Defaults written as ``= Query(5)``: Python itself would pass the ``Query``."""
    compared: set[str] = field(default_factory=set)
    """Arguments that path, query and body give; not those of headers, cookies and whatever dependencies find out."""
    returns: Any = Parameter.empty

    def request_signature(self) -> inspect.Signature:
        """What FastAPI is shown: the request's side, and the request itself."""
        own = [
            Parameter(REQUEST_NAME, Parameter.KEYWORD_ONLY, annotation=Request),
            Parameter(RESPONSE_NAME, Parameter.KEYWORD_ONLY, annotation=Response),
        ]
        shown = self.returns if _is_model(self.returns) else Response
        return inspect.Signature([*self.request, *own], return_annotation=shown)

    def call_signature(self) -> inspect.Signature:
        """What the core is shown: the arguments, and names for what it is told to fill in (see ``injected``)."""
        filled = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in self.injected]
        return inspect.Signature([*_in_order(self.call), *filled], return_annotation=self.returns)

    def worker_dependant(self) -> Dependant:
        """The worker's dependencies, as FastAPI resolves them."""

        def stub() -> None: ...

        stub.__signature__ = inspect.Signature(self.worker)  # type: ignore[attr-defined]
        return dependant_of(stub)


def plan_of(fn: Callable[..., Any], job: str) -> Plan:
    """Decide the side of each parameter of ``fn``.

    Raises:
        InvalidRoute: one of them must not cross to the worker.
        InvalidTask: an annotation cannot be resolved.
    """
    try:
        signature = inspect.signature(fn, eval_str=True)
    except NameError as error:
        why = f"an annotation cannot be resolved: {error}"
        raise InvalidTask(job, why, "Import or define that name at module level, not under TYPE_CHECKING.") from error
    plan = Plan(returns=signature.return_annotation)
    for parameter in signature.parameters.values():
        _place(plan, parameter, job, is_async=inspect.iscoroutinefunction(fn))
    return plan


def is_queue_provider(call: object) -> bool:
    """True for what our own ``Queue`` annotations depend on: it looks like reading the request, but a worker has it."""
    return isinstance(call, QueueProvider | SyncQueueProvider)


def _place(plan: Plan, parameter: Parameter, job: str, *, is_async: bool) -> None:
    name, bare = parameter.name, _bare(parameter.annotation)
    if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        why = "a request gives values by name, one for each parameter"
        raise InvalidRoute(job, why, "Write it as an ordinary parameter.", name)
    depends = _depends_of(parameter)
    provider = depends.dependency if depends is not None else None
    kind = getattr(bare, INJECT, None)
    if kind == "queue" and not is_async:
        raise InvalidRoute(job, "a def job runs in a thread, where nothing can be awaited", ASK_SYNC_QUEUE, name)
    if isinstance(provider, QueueProvider | SyncQueueProvider) and provider.name is not None:
        plan.queues[name] = provider
        _to_worker(plan, parameter, NAMED_QUEUE, "worker (context)")
    elif isinstance(kind, str):
        _to_worker(plan, parameter, kind, "worker (context)")
    elif depends is None:
        _check_crossing(parameter, job, "Pass an id, and look it up in the job.")
        _to_request(plan, parameter, "request", job)
        if not any(isinstance(mark, params.Header | params.Cookie) for mark in _marks(parameter)):
            plan.compared.add(name)
    elif _is_for_request(depends, bare):
        _check_crossing(
            parameter,
            job,
            "Its dependency runs in the request: let it return plain data (an id), or not read the request.",
        )
        _to_request(plan, parameter, "request (dependency)", job)
        if reads_body(dependant_of(depends.dependency or bare)):
            plan.compared.add(name)
    else:
        plan.worker.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
        _to_worker(plan, parameter, DEPENDENCY, "worker (dependency)")


def _to_worker(plan: Plan, parameter: Parameter, kind: str, side: Side) -> None:
    plan.sides[parameter.name] = side
    plan.injected[parameter.name] = kind


def _to_request(plan: Plan, parameter: Parameter, side: Side, job: str) -> None:
    name, default = parameter.name, parameter.default
    plan.sides[name] = side
    if default is INJECTED and side == "request":
        remedy = "Annotate it with Annotated[..., Depends(...)], JobContext, Progress or Queue."
        raise InvalidRoute(job, "it is INJECTED, but nothing says by what", remedy, name)
    if isinstance(default, params.Depends) or default is INJECTED:
        default = Parameter.empty
    info = next((mark for mark in _marks(parameter) if isinstance(mark, FieldInfo)), None)
    if info is not None and default in (info, Parameter.empty):
        default = _default_of(info)
        if default is not Parameter.empty:
            plan.defaults[name] = functools.partial(info.get_default, call_default_factory=True)
    shown = Parameter.empty if parameter.default is INJECTED else parameter.default
    plan.request.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, default=shown))
    plan.call.append(parameter.replace(annotation=_plain(parameter.annotation), default=default))


def _default_of(info: FieldInfo) -> Any:
    if info.default_factory is not None:
        return None  # stands for "not required"; the factory makes the value
    return Parameter.empty if info.default in (PydanticUndefined, ...) else info.default


def _in_order(parameters: Iterable[Parameter]) -> Iterator[Parameter]:
    """By position as long as Python allows it: a required one after one with a default, and all after it, by name."""
    has_default = by_name = False
    for parameter in parameters:
        has_default = has_default or parameter.default is not Parameter.empty
        breaks = has_default and parameter.default is Parameter.empty
        by_name = by_name or breaks or parameter.kind is Parameter.KEYWORD_ONLY
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY) if by_name else parameter


# -- reading annotations --------------------------------------------------------------------


def _bare(annotation: Any) -> Any:
    return annotation.__origin__ if typing.get_origin(annotation) is Annotated else annotation


def _marks(parameter: Parameter) -> Iterator[Any]:
    """FastAPI's words on a parameter: its default, then the last of its ``Annotated``."""
    yield parameter.default
    yield from reversed(getattr(parameter.annotation, "__metadata__", ()))


def _depends_of(parameter: Parameter) -> params.Depends | None:
    return next((mark for mark in _marks(parameter) if isinstance(mark, params.Depends)), None)


def _is_for_request(depends: params.Depends, bare: Any) -> bool:
    if isinstance(depends, RequestTimeDepends):
        return True
    return reads_request(dependant_of(depends.dependency or bare), ignoring=is_queue_provider)


def _is_model(returns: Any) -> bool:
    """Tell whether FastAPI can describe the type; it need not, since the answer is a 202."""
    if returns is Parameter.empty:
        return True
    try:
        pydantic.TypeAdapter(returns)
    except (pydantic.errors.PydanticUserError, NameError, TypeError):
        return False
    return True


_BY_VALIDATION: dict[Any, Any] = {
    pydantic.AwareDatetime: datetime,
    pydantic.NaiveDatetime: datetime,
    pydantic.PastDatetime: datetime,
    pydantic.FutureDatetime: datetime,
    pydantic.PastDate: date,
    pydantic.FutureDate: date,
    pydantic.EmailStr: str,
}
"""Classes whose values are of another class: FastAPI has validated them when they are sent."""


def _plain(annotation: Any) -> Any:
    """The type of the values that arrive, without the words that say where they come from."""
    if isinstance(annotation, type) and annotation in _BY_VALIDATION:
        return _BY_VALIDATION[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        rest = tuple(mark for mark in annotation.__metadata__ if not isinstance(mark, FieldInfo | params.Depends))
        plain = _plain(annotation.__origin__)
        return Annotated[(plain, *rest)] if rest else plain
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, map(_plain, inner))
    if origin in (list, set, frozenset, tuple, dict):
        return types.GenericAlias(origin, tuple(map(_plain, inner)))
    return annotation


# -- what must not cross ----------------------------------------------------------------------

ASK_SYNC_QUEUE = "Annotate it with SyncQueue (from arq_web.fastapi), or make the function an async def."
_IN_DEPENDENCY = "Take what you need of it in a dependency, and send that: Annotated[..., RequestTime(dependency)]."
_REFUSED: tuple[tuple[tuple[type, ...], str, str], ...] = (
    (
        (StarletteUploadFile, UploadFile),
        "an upload is gone when its request ends",
        "Store it in an ordinary route or a RequestTime dependency, and send the key.",
    ),
    ((HTTPConnection,), "there is no request any more when the job runs", _IN_DEPENDENCY),
    (
        (Response,),
        "the response was sent before the job runs",
        "Set its headers in a dependency of the route: dependencies=[Depends(...)].",
    ),
    (
        (StarletteBackgroundTasks, BackgroundTasks),
        "they belong to the response, which was sent before the job runs",
        "Ask for the Queue, and enqueue a task.",
    ),
    ((SecurityScopes,), "they belong to the request", _IN_DEPENDENCY),
)


def _check_crossing(parameter: Parameter, job: str, remedy: str) -> None:
    """Raises InvalidRoute for what cannot be an argument of a job."""
    name, annotation = parameter.name, parameter.annotation
    if any(isinstance(mark, params.File) for mark in _marks(parameter)):
        [(_, why, instead), *_] = _REFUSED
        raise InvalidRoute(job, why, instead, name)
    for kind in _classes_in(annotation):
        for refused, why, instead in _REFUSED:
            if issubclass(kind, refused):
                raise InvalidRoute(job, why, instead, name)
    if annotation is Parameter.empty:
        return
    plain = _plain(annotation)
    held = refused_types(plain)
    if held is not None:
        raise InvalidRoute(job, f"it would have to travel to the worker, and it holds {held}", remedy, name)
    if _is_ambiguous(plain):
        wrapped = "Give the alternatives a model of their own: class Pet(RootModel[Cat | Dog])."
        raise InvalidRoute(job, "the worker could not tell the alternatives of its annotation apart", wrapped, name)


def _is_ambiguous(annotation: Any) -> bool:
    """Tell whether a union of records is in it: JSON has one kind of object only, and no model says which is meant."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType) and sum(map(_is_record, inner)) > 1:
        return True
    return origin is not typing.Literal and any(map(_is_ambiguous, inner))


def _is_record(annotation: Any) -> bool:
    return hasattr(annotation, "__pydantic_fields__") or hasattr(annotation, "__dataclass_fields__")


def _classes_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        yield annotation
    elif typing.get_origin(annotation) is not typing.Literal:
        for inner in typing.get_args(annotation):
            yield from _classes_in(inner)
