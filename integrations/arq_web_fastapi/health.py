"""The health routes, as FastAPI carries them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Request, Response, params

from arq_web.http.health import AppHealth
from arq_web.hub import Hub
from arq_web_fastapi.job_routes import response_of


def add_health_routes(app: FastAPI, hub: Hub, path: str | None, dependencies: Sequence[params.Depends]) -> None:
    """Add them below ``path``; they are in no documentation.

    Args:
        app: the application.
        hub: its hub.
        path: None for no routes.
        dependencies: of all of them.

    Raises:
        InvalidConfig: the path is none.
    """
    health = AppHealth(hub, path)
    for template, place in health.templates.items():
        app.add_api_route(
            place,
            _endpoint(health, template),
            methods=["GET", "HEAD"],
            dependencies=dependencies,
            include_in_schema=False,
            response_class=Response,
        )


def _endpoint(health: AppHealth, template: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        queue, accept = str(request.path_params.get("queue", "")), request.headers.get("accept", "")
        return response_of(
            await health.answer(template, queue=queue, accept=accept, with_body=request.method != "HEAD")
        )

    return endpoint
