"""Which side resolves what: each parameter of a job's function goes to the request, or to the worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Annotated, Any, Literal, get_args, get_origin

from litestar import Request, Response
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.connection import ASGIConnection
from litestar.datastructures import UploadFile
from litestar.di import Dependency
from litestar.dto import DTOData
from litestar.response.base import ASGIResponse

from arq_web.codec import refused_types
from arq_web.context import INJECT
from arq_web.errors import InvalidRoute
from arq_web.queue import Queue
from arq_web.task import INJECTED
from arq_web_litestar.depends import RequestTimeMarker

REQUEST = "request"
"""The endpoint's own parameter. A job's function cannot have one of this name, so it tells a request from a call."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A parameter that Litestar's part of the worker fills in."""

    name: str
    source: Literal["dependency", "state", "controller"]
    kind: Any
    default: object = inspect.Parameter.empty


@dataclass(slots=True)
class Plan:
    """Where each parameter of a job's function comes from."""

    name: str
    is_async: bool
    parameters: tuple[Parameter, ...]
    returns: Any
    is_method: bool = False
    request: list[Parameter] = field(default_factory=list)
    asked: list[Filled] = field(default_factory=list)
    injected: dict[str, str] = field(default_factory=dict)
    sides: dict[str, str] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)
    """Arguments that path, query and body give; not those of headers, cookies and whatever dependencies find out."""

    @classmethod
    def of(cls, name: str, fn: Callable[..., object]) -> Plan:
        """Read the function's signature.

        Raises:
            InvalidRoute: a parameter must not cross, or its annotation cannot be read.
        """
        try:
            signature = inspect.signature(fn, eval_str=True)
        except NameError as error:
            remedy = "Import it at run time, at module level and not under TYPE_CHECKING."
            raise InvalidRoute(name, f"an annotation cannot be resolved: {error}", remedy) from error
        parameters, returns = tuple(signature.parameters.values()), signature.return_annotation
        plan = cls(name, inspect.iscoroutinefunction(fn), parameters, returns)
        for index, parameter in enumerate(parameters):
            if index == 0 and parameter.name == "self":
                plan.is_method = True
                plan._ask(parameter, "controller", None)
            else:
                plan._place(parameter)
        if any(issubclass(kind, Response | ASGIResponse) for kind in _types_in(returns)):
            remedy = "Return the value itself; it becomes the job's result."
            raise InvalidRoute(name, "it returns a response, and the caller has had a 202 by then", remedy)
        return plan

    @property
    def signature(self) -> inspect.Signature:
        """The endpoint's: what Litestar is to read from the request, and the request itself."""
        first = [Parameter("self", Parameter.POSITIONAL_ONLY)] if self.is_method else []
        own = Parameter(REQUEST, Parameter.KEYWORD_ONLY, annotation=Request[Any, Any, Any])
        asked = [_without_injected(parameter).replace(kind=Parameter.KEYWORD_ONLY) for parameter in self.request]
        return inspect.Signature([*first, *asked, own], return_annotation=Response[bytes])

    @property
    def call_signature(self) -> inspect.Signature:
        """What an enqueue by hand is to see: the core is told by ``injected``, not by a default that only types use."""
        given = {parameter.name for parameter in self.request}
        shown = [_shown_to_core(parameter, is_given=parameter.name in given) for parameter in self.parameters]
        return inspect.Signature(sorted(shown, key=lambda each: each.kind), return_annotation=self.returns)

    def _place(self, parameter: Parameter) -> None:
        _refuse_kind(self.name, parameter)
        name, marks = parameter.name, Marks.of(parameter)
        own = marks.own_kind
        if marks.kind is Queue and not self.is_async:
            raise async_queue_in_def(self.name, name)
        if marks.is_request_time:
            self._cross(parameter, marks, "request (dependency)")
        elif own is not None and (name == own or not marks.is_dependency):
            self.injected[name], self.sides[name] = own, "worker (context)"
        elif marks.is_dependency:  # a queue by another name is one too, since Litestar finds it by that name
            side = "worker (dependency)" if own is None else "worker (context)"
            self._ask(parameter, "dependency", side)
        elif name == "state":
            self._ask(parameter, "state", "worker (context)")
        elif parameter.default is INJECTED:
            raise InvalidRoute(self.name, "it is INJECTED, but nothing says by what", _MARK_IT, name)
        else:
            self._cross(parameter, marks, "request")
            if not marks.is_of_head:
                self.compared.add(name)

    def _cross(self, parameter: Parameter, marks: Marks, side: str) -> None:
        _refuse_type(self.name, parameter.name, marks.kind)
        self.request.append(parameter)
        self.sides[parameter.name] = side

    def _ask(self, parameter: Parameter, source: Any, side: str | None) -> None:
        default = _without_injected(parameter).default
        self.asked.append(Filled(parameter.name, source, Marks.of(parameter).kind, default))
        self.injected[parameter.name] = source
        if side is not None:
            self.sides[parameter.name] = side


def async_queue_in_def(route: str, parameter: str) -> InvalidRoute:
    """The error for a ``def`` that asks for the queue of an ``async def``."""
    return InvalidRoute(
        route,
        "a def cannot await the Queue",
        "Ask for sync_queue: SyncQueue (from arq_web.litestar), or make it async def.",
        parameter,
    )


@dataclass(frozen=True, slots=True)
class Marks:
    """What an annotation says: the type itself, and the marks on it."""

    kind: Any
    marks: tuple[object, ...]

    @classmethod
    def of(cls, parameter: inspect.Parameter) -> Marks:
        """Read a parameter; also the default of Litestar's older style, ``db: Db = Dependency()``."""
        annotation = parameter.annotation
        if get_origin(annotation) is not Annotated:
            return cls(annotation, (parameter.default,))
        return cls(get_args(annotation)[0], (*get_args(annotation)[1:], parameter.default))

    @property
    def is_dependency(self) -> bool:
        """True when it is marked as a dependency."""
        return any(isinstance(each, Dependency) or type(each).__name__ == "DependencyKwarg" for each in self.marks)

    @property
    def is_request_time(self) -> bool:
        """True for ``RequestTime[...]``."""
        return any(isinstance(each, RequestTimeMarker) for each in self.marks)

    @property
    def is_of_head(self) -> bool:
        """True for a header or a cookie."""
        kinds = {type(each).__name__: each for each in self.marks}
        older = kinds.get("ParameterKwarg")  # what Parameter(header="...") makes
        said = getattr(older, "header", None) or getattr(older, "cookie", None)
        return bool(said) or not kinds.keys().isdisjoint(("HeaderParameter", "CookieParameter"))

    @property
    def own_kind(self) -> str | None:
        """``context``, ``progress``, ``queue``, ``sync_queue`` for our own classes."""
        kind = getattr(self.kind, INJECT, None)
        return kind if isinstance(kind, str) else None


def _shown_to_core(parameter: Parameter, *, is_given: bool) -> Parameter:
    if parameter.default is not INJECTED:
        return parameter
    if is_given:  # by the request; an enqueue by hand must give it too
        return parameter.replace(default=Parameter.empty, kind=Parameter.KEYWORD_ONLY)
    return parameter.replace(default=None)


def _without_injected(parameter: Parameter) -> Parameter:
    return parameter.replace(default=Parameter.empty) if parameter.default is INJECTED else parameter


# -- what must not cross ----------------------------------------------------------------------

_NO_REQUEST = "the worker has no request"
_ONE_VALUE = "Ask for the values that the job needs: FromHeader[str], FromCookie[str], FromQuery[int]."
_RESERVED = {
    "request": (_NO_REQUEST, _ONE_VALUE),
    "socket": (_NO_REQUEST, "Enqueue an ordinary task from the websocket handler."),
    "scope": (_NO_REQUEST, _ONE_VALUE),
    "headers": ("all headers, credentials too, would stand readable in Redis", _ONE_VALUE),
    "cookies": ("all cookies, credentials too, would stand readable in Redis", _ONE_VALUE),
    "query": ("it is of the request, not a value", _ONE_VALUE),
}
_TYPES: tuple[tuple[tuple[type, ...], str, str], ...] = (
    ((ASGIConnection,), _NO_REQUEST, _ONE_VALUE),
    (
        (UploadFile,),
        "an upload belongs to the request and is gone with it",
        "Store it in a plain handler, and enqueue a task with its key.",
    ),
    ((Response, ASGIResponse), "the response is sent before the job runs", "Return the value; it becomes the result."),
    (
        (BackgroundTask, BackgroundTasks),
        "they run in the web process, after the response",
        "Enqueue what they would do, or do it in the job.",
    ),
    ((DTOData,), "a DTO's data belongs to the request", "Annotate data with the model itself."),
)
_MARK_IT = "Mark it NamedDependency[...] for the worker to resolve, or annotate it with JobContext, Progress or Queue."
_DEFAULT_REMEDY = "Pass an id, and look it up in the job; or mark it NamedDependency[...], for the worker to resolve."


def _refuse_kind(route: str, parameter: Parameter) -> None:
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD, Parameter.POSITIONAL_ONLY):
        why = "Litestar passes parameters by name, and this has none to pass"
        raise InvalidRoute(route, why, "Write each parameter by its name.", parameter.name)
    if parameter.name in _RESERVED:
        why, remedy = _RESERVED[parameter.name]
        raise InvalidRoute(route, why, remedy, parameter.name)


def _refuse_type(route: str, parameter: str, annotation: Any) -> None:
    for kind in _types_in(annotation):
        for classes, why, remedy in _TYPES:
            if issubclass(kind, classes):
                raise InvalidRoute(route, why, remedy, parameter)
    if annotation is not Parameter.empty and (why_not := refused_types(annotation)) is not None:
        raise InvalidRoute(route, f"it holds {why_not}", _DEFAULT_REMEDY, parameter)


def _types_in(annotation: Any) -> Iterator[type]:
    origin = get_origin(annotation) or annotation
    if isinstance(origin, type):
        yield origin
    for argument in get_args(annotation):
        yield from _types_in(argument)
