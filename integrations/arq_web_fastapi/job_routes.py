"""The routes of jobs, as FastAPI carries them; and its requests and responses as the core's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response, params
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.events import EventStream
from arq_web.http.front import Front
from arq_web.http.job_routes import JobRoutes
from arq_web.queue import DEFAULT_QUEUE
from arq_web.task import Task
from arq_web_fastapi.openapi import content_of, problem

FRONT_STATE = "arq_web_front"
"""Attribute of ``app.state``: the HTTP side of the app."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The job", "content": content_of("JobBody")},
    404: problem("There is no such job (any more)"),
    503: problem("The job store does not answer; try again"),
}


class FastAPIReplayer:
    """How FastAPI answers for a handler."""

    async def returned(self, task: Task[..., Any], value: object, asked: Asked) -> Answer | None:
        """The answer to a handler that has returned ``value``."""
        return None

    def raised(self, said: Mapping[str, object], headers: Mapping[str, str]) -> Exception:
        """The HTTPException again."""
        own: Any = said.get("headers") or {}
        status: Any = said["status_code"]
        return HTTPException(status, said.get("detail"), {**own, **headers})  # type: ignore[arg-type]


def front_of(request: Request) -> Front:
    """The HTTP side of the app that answers."""
    front = getattr(request.app.state, FRONT_STATE)
    assert isinstance(front, Front)
    return front


def asked_by(request: Request, front: Front) -> Asked:
    """A request as the core sees it."""
    return Asked.of(request, front.jobs_path, str(request.path_params.get("job_id", "")))


def response_of(answer: Answer | EventStream) -> Response:
    """One of the core's answers as Starlette's."""
    if isinstance(answer, EventStream):
        return StreamingResponse(answer.chunks, 200, answer.headers, answer.media_type)
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


def add_job_routes(router: APIRouter, front: Front, dependencies: Sequence[params.Depends]) -> None:
    """Add those that the app has."""
    routes = JobRoutes(front)
    one = front.jobs_path + "/{job_id}"
    table: tuple[tuple[str, str, str, Callable[[Asked], Awaitable[Answer | EventStream]]], ...] = (
        ("status", "GET", one, routes.status),
        ("result", "GET", one + "/result", routes.result),
        ("events", "GET", one + "/events", routes.events),
        ("cancel", "POST", one + "/cancel", routes.cancel),
    )
    for name, method, path, verb in table:
        if name in front.routes:
            router.add_api_route(
                path,
                _endpoint(verb),
                methods=[method],
                name=f"job_{name}",
                tags=["jobs"],
                dependencies=dependencies,
                response_class=Response,
                responses=RESPONSES,
            )


def _endpoint(verb: Callable[[Asked], Awaitable[Answer | EventStream]]) -> Callable[..., Awaitable[Response]]:
    async def endpoint(request: Request, job_id: str, queue: str = DEFAULT_QUEUE) -> Response:
        return response_of(await verb(asked_by(request, front_of(request))))

    return endpoint
