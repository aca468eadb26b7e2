"""Litestar's part in an attempt: a job's dependencies, and what an HTTPException means."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar.datastructures import State
from litestar.datastructures.state import ImmutableState
from litestar.di import Provide
from litestar.exceptions import HTTPException

from arq_web.codec import decode_json, encode_json
from arq_web.context import JobContext
from arq_web.errors import InvalidRoute
from arq_web.task import Task
from arq_web_litestar._compat import parameters_of
from arq_web_litestar.sides import Filled


@dataclass(frozen=True, slots=True)
class Bound:
    """A job's function as one route knows it: what its parameters are resolved from."""

    route: str
    asked: tuple[Filled, ...]
    providers: Mapping[str, Provide]
    state: State
    controller: object | None

    def check(self) -> None:
        """Walk all that the job asks for.

        Raises:
            InvalidRoute: something of it reads the request, or does not exist.
        """
        for name in self._dependencies():
            if name not in self.providers:
                remedy = f"Provide it: dependencies={{{name!r}: Provide(...)}}; or is it FromQuery[...] of the request?"
                raise InvalidRoute(self.route, f"its route sees no dependency named {name!r}", remedy, name)
            self._check((name,))

    def is_like(self, other: Bound) -> bool:
        """True when it makes no difference by which of the two a job is resolved."""
        return type(self.controller) is type(other.controller) and all(
            self.providers[name] == other.providers.get(name) for name in self._reached()
        )

    def _dependencies(self) -> list[str]:
        """Names of the dependencies that are asked for and not left to their default."""
        return [
            each.name
            for each in self.asked
            if each.source == "dependency" and (each.name in self.providers or each.default is inspect.Parameter.empty)
        ]

    def _check(self, path: tuple[str, ...]) -> None:
        for asked in parameters_of(self.providers[path[-1]]):
            way = " -> ".join((*path, asked.name))
            if asked.name in path:
                why = f"its dependency asks for itself ({way})"
                raise InvalidRoute(self.route, why, "Untie one of them.", path[0])
            if asked.name in self.providers:
                self._check((*path, asked.name))
            elif asked.name != "state" and not (asked.is_di_field and asked.has_default):
                why = f"its dependency reads the request ({way}), and the worker has none"
                remedy = f"Annotate it as {path[0]}: RequestTime[...]: then it is resolved in the request."
                raise InvalidRoute(self.route, why, remedy, path[0])

    def _reached(self) -> set[str]:
        found: set[str] = set()
        waiting = self._dependencies()
        while waiting:
            name = waiting.pop()
            if name in self.providers and name not in found:
                found.add(name)
                waiting += [asked.name for asked in parameters_of(self.providers[name])]
        return found


@dataclass(slots=True)
class JobValues:
    """The dependencies of one job: each resolved once, and cleaned up by ``stack``."""

    bound: Bound
    stack: AsyncExitStack
    _known: dict[str, object] = field(default_factory=dict)

    async def fill(self) -> dict[str, object]:
        """Everything that the job asks for."""
        return {asked.name: await self._fill(asked) for asked in self.bound.asked}

    async def _fill(self, asked: Filled) -> object:
        match asked.source:
            case "controller":
                return self.bound.controller
            case "state":
                return self._state(asked.kind)
            case "dependency" if asked.name in self.bound.providers:
                return await self._value(asked.name)
            case _:
                return asked.default

    async def _value(self, name: str) -> object:
        if name not in self._known:
            self._known[name] = await self._make(self.bound.providers[name])
        return self._known[name]

    def _state(self, kind: Any) -> object:
        is_copy = isinstance(kind, type) and issubclass(kind, ImmutableState) and kind is not State
        return kind(self.bound.state) if is_copy else self.bound.state

    async def _make(self, provider: Provide) -> object:
        arguments: dict[str, object] = {}
        for asked in parameters_of(provider):
            if asked.name in self.bound.providers:
                arguments[asked.name] = await self._value(asked.name)
            elif asked.name == "state":
                arguments[asked.name] = self._state(asked.annotation)
        made: Any = await provider(**arguments)
        if provider.has_async_generator_dependency:
            return await self.stack.enter_async_context(asynccontextmanager(lambda: made)())
        if provider.has_sync_generator_dependency:
            return self.stack.enter_context(contextmanager(lambda: made)())
        value: object = made
        return value


class LitestarResolver:
    """Litestar's part in an attempt: the dependencies of the routes of one app, and what its exceptions mean."""

    def __init__(self) -> None:
        self._bound: dict[str, Bound] = {}

    def bind(self, task: Task[..., Any], bound: Bound) -> None:
        """Resolve this task's parameters as one of its routes would.

        Raises:
            InvalidRoute: another route of the task would resolve them differently.
        """
        other = self._bound.setdefault(task.name, bound)
        if not other.is_like(bound):
            why = f"its function is also that of {other.route}, with other dependencies or another controller"
            raise InvalidRoute(bound.route, why, "Give each route a function of its own that calls the common one.")

    @asynccontextmanager
    async def resolve(self, task: Task[..., Any], ctx: JobContext) -> AsyncIterator[Mapping[str, object]]:
        """The task's parameters that are Litestar's to fill in; generators are closed when the block ends."""
        bound = self._bound.get(task.name)
        if bound is None:
            why = "it has dependencies, but is no route of this app"
            raise InvalidRoute(task.name, why, "Register its handler with the app, not only the task.")
        raised: BaseException | None = None
        async with AsyncExitStack() as stack:
            try:
                yield await JobValues(bound, stack).fill()
            except BaseException as error:
                raised = error
                raise
        if raised is not None:  # a generator caught it for its clean-up: the job failed all the same
            raise raised

    def describe(self, error: BaseException) -> dict[str, object] | None:
        """An HTTPException's status, detail and headers, to be replayed as the result; and its extra, if it has one."""
        if not isinstance(error, HTTPException):
            return None
        headers = dict(error.headers or {})
        said: dict[str, object] = {"status_code": error.status_code, "detail": error.detail, "headers": headers}
        if error.extra and (extra := _as_json(error.extra)) is not None:
            said["extra"] = extra
        return said


def _as_json(value: object) -> object | None:
    try:
        return decode_json(encode_json(value), Any)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return None
