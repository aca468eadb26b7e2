"""How FastAPI answers for a handler: its response model makes the bytes, and its app answers its exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from arq_web.http.answers import Answer, headers_with
from arq_web.http.asked import Asked
from arq_web.http.twin import VALUE, answer_by
from arq_web.task import Task
from arq_web_fastapi._compat import RouteView

_OPTIONS = (
    "response_model",
    "response_model_include",
    "response_model_exclude",
    "response_model_by_alias",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
    "response_class",
)
"""The options of a route that say how what its function returns is written."""


class FastAPIReplayer:
    """Answers as the routes of one app would."""

    def __init__(self) -> None:
        self._routes: dict[str, tuple[RouteView, int]] = {}
        self._twins: dict[str, FastAPI] = {}

    def bind(self, task: Task[..., Any], route: RouteView, status: int) -> None:
        """Answer for this task as its route does, with ``status``. A task of several routes: as the first."""
        self._routes.setdefault(task.name, (route, status))

    async def returned(self, task: Task[..., Any], value: object, asked: Asked) -> Answer | None:
        """The answer to a handler that has returned ``value``; None for a task that is no route's.

        Raises:
            ResponseValidationError: the value does not fit the route's response model.
        """
        if task.name not in self._routes:
            return None
        twin = self._twins.get(task.name)
        if twin is None:
            twin = self._twins[task.name] = _twin_of(*self._routes[task.name])
        return await answer_by(twin, value)

    def raised(self, said: Mapping[str, object], headers: Mapping[str, str]) -> Exception:
        """The HTTPException again: raised in a route of the app, it is answered by the app's own exception handlers."""
        own: Any = said.get("headers") or {}
        status: Any = said["status_code"]
        detail: Any = said.get("detail")
        return HTTPException(status, detail, headers_with(own, headers))


def _twin_of(route: RouteView, status: int) -> FastAPI:
    async def value(request: Request) -> Any:
        return request.scope[VALUE]

    app = FastAPI(openapi_url=None)
    options = {name: getattr(route, name) for name in _OPTIONS}
    app.add_api_route("/", value, methods=["GET"], status_code=status, **options)
    return app
