"""How Litestar answers for a handler: its DTO, its encoders and its response class make the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter
from typing import Any, cast

from litestar import Litestar, Request
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler, route
from litestar.plugins import SerializationPlugin

from arq_web.http.answers import Answer, headers_with
from arq_web.http.asked import Asked
from arq_web.http.twin import VALUE, answer_by
from arq_web.task import Task
from arq_web_litestar._compat import response_options_of, without_wrapper


class LitestarReplayer:
    """Answers as the handlers of one app would."""

    def __init__(self) -> None:
        self._options: dict[str, dict[str, Any]] = {}
        self._twins: dict[str, Litestar] = {}

    def bind(self, task: Task[..., Any], handler: HTTPRouteHandler, returns: Any, status: int) -> None:
        """Answer for this task as its handler does, with ``status``. A task of several handlers: as the first."""
        options = {"status_code": status, **response_options_of(handler)}
        self._options.setdefault(task.name, {"returns": Any if returns is Parameter.empty else returns, **options})

    async def returned(self, task: Task[..., Any], value: object, asked: Asked) -> Answer | None:
        """The answer to a handler that has returned ``value``; None for a task that is no handler's.

        Raises:
            Exception: the value cannot be written as the handler says.
        """
        if task.name not in self._options:
            return None
        twin = self._twins.get(task.name)
        if twin is None:
            twin = self._twins[task.name] = _twin_of(asked.request.app, **self._options[task.name])
        return await answer_by(twin, value)

    def raised(self, said: Mapping[str, object], headers: Mapping[str, str]) -> Exception:
        """The HTTPException again: raised in a route of the app, it is answered by the app's own exception handlers."""
        own: Any = said.get("headers") or {}
        status: Any = said["status_code"]
        detail: Any = said.get("detail", "")
        extra: Any = said.get("extra")
        return HTTPException(status_code=status, detail=detail, headers=headers_with(own, headers), extra=extra)


def _twin_of(app: Litestar, *, returns: Any, **options: Any) -> Litestar:
    async def value(request: Request[Any, Any, Any]) -> Any:
        return cast("Mapping[str, Any]", request.scope)[VALUE]

    value.__annotations__ = {"request": Request[Any, Any, Any], "return": returns}
    # What the app says of all its routes, it says of the one that answers with the result, too.
    hook = options["after_request"]
    options["after_request"] = None if hook is app.after_request else without_wrapper(hook)
    for name in ("response_headers", "response_cookies"):
        options[name] = [each for each in options[name] if each not in getattr(app, name)]
    handler = route("/", http_method=["GET"], include_in_schema=False, **options)(value)
    plugins = [plugin for plugin in app.plugins if isinstance(plugin, SerializationPlugin)]
    handlers: Any = {Exception: _pass_on}
    return Litestar([handler], openapi_config=None, logging_config=None, plugins=plugins, exception_handlers=handlers)


def _pass_on(_: Request[Any, Any, Any], error: Exception) -> Any:
    """Let the app itself answer for a value that cannot be written."""
    raise error
