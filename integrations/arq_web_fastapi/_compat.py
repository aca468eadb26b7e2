"""The parts of FastAPI that it does not promise to keep: two functions, and the walk over routes.

``get_dependant`` and ``solve_dependencies`` have kept the keywords that are used here from FastAPI 0.115 to today;
``tests/integrations/test_fastapi.py`` runs on the oldest version we allow and on the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

import fastapi.routing
from fastapi import FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, solve_dependencies

__all__ = [
    "Dependant",
    "RouteView",
    "dependant_of",
    "methods_of",
    "reads_body",
    "reads_request",
    "routes_of",
    "solve",
    "template_of",
]

_READS = (
    "path_params",
    "query_params",
    "header_params",
    "cookie_params",
    "body_params",
    "request_param_name",
    "websocket_param_name",
    "http_connection_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
)


class RouteView(Protocol):
    """A route as it answers: with the prefixes and dependencies of the routers that it was included by."""

    path: str
    endpoint: Callable[..., Any]


def methods_of(route: RouteView) -> set[str]:
    """Its HTTP methods; none for a websocket."""
    return getattr(route, "methods", None) or set()


def dependant_of(call: Callable[..., Any]) -> Dependant:
    """FastAPI's analysis of a callable: what its parameters are taken from."""
    return get_dependant(path="/", call=call)


def reads_request(dependant: Dependant, *, ignoring: Callable[[object], bool]) -> bool:
    """Tell whether anything in the tree is taken from the request; ``ignoring`` names callables that do not count."""
    if ignoring(dependant.call):
        return False
    if any(getattr(dependant, field, None) for field in _READS):
        return True
    return any(reads_request(each, ignoring=ignoring) for each in dependant.dependencies)


def reads_body(dependant: Dependant) -> bool:
    """Tell whether anything in the tree is taken from the request's body."""
    return bool(dependant.body_params) or any(map(reads_body, dependant.dependencies))


def template_of(request: Request) -> str:
    """The path of the route that answers, with the names of its parameters."""
    context = request.scope.get("fastapi", {}).get("effective_route_context")  # of an included router, since 0.137
    return str(getattr(context or request.scope.get("route"), "path_format", ""))


def routes_of(routes: Sequence[Any]) -> Iterator[RouteView]:
    """All routes, those of included routers too (FastAPI 0.137 stopped copying them into the app's list)."""
    walk: Callable[[Sequence[Any]], Iterable[Any]] = getattr(fastapi.routing, "iter_route_contexts", iter)
    for route in walk(routes):
        if getattr(route, "endpoint", None) is not None:
            yield cast("RouteView", route)


async def solve(
    dependant: Dependant, app: FastAPI, request_stack: AsyncExitStack, function_stack: AsyncExitStack
) -> dict[str, Any]:
    """Resolve the dependencies of ``dependant`` where there is no request; what they open is closed by the stacks.

    Raises:
        RuntimeError: one of them reads the request (an override may: the analysis at import did not see it).
    """
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "JOB",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "path_params": {},
        "client": None,
        "server": None,
        "state": {},
        "app": app,
        "fastapi_inner_astack": request_stack,
        "fastapi_function_astack": function_stack,
        "fastapi_middleware_astack": request_stack,
    }
    solved = await solve_dependencies(
        request=Request(scope),
        dependant=dependant,
        dependency_overrides_provider=app,
        async_exit_stack=request_stack,
        embed_body_fields=False,
    )
    if solved.errors:
        raise RuntimeError(
            f"A dependency of a job reads the request, and there is none in the worker: {solved.errors}. "
            "Was it put in by dependency_overrides? Mark the job's parameter with RequestTime(...) instead."
        )
    return solved.values
