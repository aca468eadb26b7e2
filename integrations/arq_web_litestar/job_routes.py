"""The routes of jobs, as Litestar carries them; its requests and responses as the core's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler, route
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from litestar.types import Guard, Receive, Scope, Send

from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.events import EventStream
from arq_web.http.front import Front
from arq_web.http.job_routes import JobRoutes, Route


def asked_by(request: Request[Any, Any, Any], front: Front) -> Asked:
    """A request as the core sees it."""
    job_id = str(request.path_params.get("job_id", ""))
    return Asked.of(request, front.jobs_path, job_id, request.scope.get("path_template", ""))


def response_of(answer: Answer | EventStream) -> Response[Any]:
    """One of the core's answers as Litestar's."""
    if isinstance(answer, EventStream):
        return EventResponse(answer)
    return CoreResponse(answer)


class CoreResponse(Response[bytes]):
    """Sends the core's bytes as they are."""

    def __init__(self, answer: Answer) -> None:
        """Take over what the core has said."""
        # As a header, so that nothing is put behind it.
        headers = {**answer.headers, **({"content-type": answer.media_type} if answer.media_type else {})}
        super().__init__(answer.body, status_code=answer.status, headers=headers)
        self._raw_cookies = answer.cookies

    def to_asgi_response(self, *args: Any, headers: dict[str, str] | None = None, **kwargs: Any) -> ASGIResponse:
        """Add the cookies, which come as they are to be sent."""
        response = super().to_asgi_response(*args, headers=_besides(self.headers, headers), **kwargs)
        for cookie in self._raw_cookies:
            response.headers.add("set-cookie", cookie)
        return response


class EventResponse(Stream):
    """Lets the core send its events; what hooks and layers have put to the headers goes with them."""

    def __init__(self, stream: EventStream) -> None:
        """Take over the core's headers."""
        super().__init__((), status_code=200, headers=stream.headers)
        self._stream = stream

    def to_asgi_response(self, *args: Any, headers: dict[str, str] | None = None, **kwargs: Any) -> Any:
        """The application that sends it."""
        layered = _besides(self.headers, headers)
        raw_headers = super().to_asgi_response(*args, headers=layered, **kwargs).encode_headers()

        async def serve(_: Scope, receive: Receive, send: Send) -> None:
            await self._stream.serve(cast("Any", receive), cast("Any", send), raw_headers)

        return serve


def _besides(own: dict[str, Any], layered: dict[str, str] | None) -> dict[str, str]:
    """What the layers say in headers that the core does not set itself; it writes names in lower case."""
    return {name: value for name, value in (layered or {}).items() if name.lower() not in own}


def job_handlers(front: Front, guards: Sequence[Guard]) -> list[HTTPRouteHandler]:
    """Those that the app has. ``HEAD`` is there where ``GET`` is, and not in the documentation."""
    return [
        route(
            (front.jobs_path + each.path).replace("{job_id}", "{job_id:str}"),
            http_method=[cast("Any", method)],
            status_code=200,
            guards=guards,
            include_in_schema=method != "HEAD",
        )(_handler(front, each))
        for each in JobRoutes(front).table()
        for method in each.methods
    ]


def _handler(front: Front, each: Route) -> Callable[..., Any]:
    async def handler(request: Request[Any, Any, Any]) -> Response[Any]:
        return response_of(await each.answer(asked_by(request, front)))

    handler.__name__ = f"job_{each.name}"  # Litestar makes the operation's id of it
    return handler
