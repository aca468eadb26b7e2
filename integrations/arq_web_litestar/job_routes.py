"""The routes of jobs, as Litestar carries them; and its requests and responses as the core's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream
from litestar.types import Guard

from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.events import EventStream
from arq_web.http.front import Front
from arq_web.http.job_routes import JobRoutes
from arq_web.queue import DEFAULT_QUEUE
from arq_web.task import Task
from arq_web_litestar.openapi import problem


class LitestarReplayer:
    """How Litestar answers for a handler."""

    async def returned(self, task: Task[..., Any], value: object, asked: Asked) -> Answer | None:
        """The answer to a handler that has returned ``value``."""
        return None

    def raised(self, said: Mapping[str, object], headers: Mapping[str, str]) -> Exception:
        """The HTTPException again."""
        own: Any = said.get("headers") or {}
        status: Any = said["status_code"]
        detail: Any = said.get("detail", "")
        extra: Any = said.get("extra")
        return HTTPException(status_code=status, detail=detail, headers={**own, **headers}, extra=extra)


def asked_by(request: Request[Any, Any, Any], front: Front) -> Asked:
    """A request as the core sees it."""
    return Asked.of(request, front.jobs_path, str(request.path_params.get("job_id", "")))


def response_of(answer: Answer | EventStream) -> Response[Any]:
    """One of the core's answers as Litestar's."""
    if isinstance(answer, EventStream):
        return Stream(answer.chunks, status_code=200, headers=answer.headers, media_type=answer.media_type)
    content = None if answer.media_type is None else answer.body
    return Response(content, status_code=answer.status, headers=answer.headers, media_type=answer.media_type)


def job_handlers(front: Front, guards: Sequence[Guard]) -> list[HTTPRouteHandler]:
    """Those that the app has."""
    routes = JobRoutes(front)
    one = front.jobs_path + "/{job_id:str}"
    table: tuple[tuple[str, str, str, Callable[[Asked], Awaitable[Answer | EventStream]]], ...] = (
        ("status", "GET", one, routes.status),
        ("result", "GET", one + "/result", routes.result),
        ("events", "GET", one + "/events", routes.events),
        ("cancel", "POST", one + "/cancel", routes.cancel),
    )
    return [
        HTTPRouteHandler(
            path,
            http_method=method,  # type: ignore[arg-type]
            status_code=200,
            guards=guards,
            tags=["jobs"],
            responses={
                404: problem("There is no such job (any more)"),
                503: problem("The job store does not answer; try again"),
            },
        )(_handler(front, verb))
        for name, method, path, verb in table
        if name in front.routes
    ]


def _handler(front: Front, verb: Callable[[Asked], Awaitable[Answer | EventStream]]) -> Callable[..., Any]:
    async def handler(
        request: Request[Any, Any, Any],
        job_id: FromPath[str],
        queue_name: Annotated[str, QueryParameter(name="queue")] = DEFAULT_QUEUE,
    ) -> Response[Any]:
        return response_of(await verb(asked_by(request, front)))

    return handler
