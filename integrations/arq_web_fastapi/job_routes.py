"""The routes of jobs, as FastAPI carries them; its requests and responses as the core's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, Request, Response, params
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.events import EventStream
from arq_web.http.front import Front
from arq_web.http.job_routes import JobRoutes, Route
from arq_web_fastapi._compat import template_of

FRONT_STATE = "arq_web_front"
"""Attribute of ``app.state``: the HTTP side of the app."""


def front_of(request: Request) -> Front:
    """The HTTP side of the app that answers."""
    front = getattr(request.app.state, FRONT_STATE)
    assert isinstance(front, Front)
    return front


def asked_by(request: Request, front: Front) -> Asked:
    """A request as the core sees it."""
    return Asked.of(request, front.jobs_path, str(request.path_params.get("job_id", "")), template_of(request))


def response_of(answer: Answer | EventStream) -> Response:
    """One of the core's answers as Starlette's."""
    if isinstance(answer, EventStream):
        return EventResponse(answer)
    # As a header, so that nothing is put behind it.
    headers = {**answer.headers, **({"content-type": answer.media_type} if answer.media_type else {})}
    response = Response(answer.body, answer.status, headers)
    for cookie in answer.cookies:
        response.headers.append("set-cookie", cookie)
    return response


class EventResponse(StreamingResponse):
    """Lets the core send its events; what dependencies have put to the headers goes with them."""

    def __init__(self, stream: EventStream) -> None:
        """Take over the core's headers."""
        super().__init__((), 200, stream.headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await self._stream.serve(receive, send, self.raw_headers)


def add_job_routes(router: APIRouter, front: Front, dependencies: Sequence[params.Depends]) -> None:
    """Add those that the app has. ``HEAD`` is there where ``GET`` is, and not in the documentation."""
    for route in JobRoutes(front).table():
        for method in route.methods:
            router.add_api_route(
                front.jobs_path + route.path,
                _endpoint(front, route),
                methods=[method],
                name=f"job_{route.name}",
                dependencies=dependencies,
                include_in_schema=method != "HEAD",
                response_class=Response,
                status_code=200,
            )


def _endpoint(front: Front, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return response_of(await route.answer(asked_by(request, front)))

    return endpoint
