"""The health routes, as Litestar carries them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from litestar import Request, Response
from litestar.handlers import HTTPRouteHandler, route
from litestar.types import Guard

from arq_web.http.health import AppHealth
from arq_web.hub import Hub
from arq_web_litestar.job_routes import response_of

QUEUE = "arq_web_queue"
"""A parameter of the path; no dependency of the app may be called so, and ``queue`` is one of ours."""


def health_handlers(hub: Hub, path: str | None, guards: Sequence[Guard]) -> list[HTTPRouteHandler]:
    """Those that the app has below ``path``; they are in no documentation.

    Args:
        hub: the app's.
        path: None for no routes.
        guards: of all of them.

    Raises:
        InvalidConfig: the path is none.
    """
    health = AppHealth(hub, path)
    return [
        route(
            place.replace("{queue}", f"{{{QUEUE}:str}}"),
            http_method=["GET", "HEAD"],
            status_code=200,
            guards=guards,
            include_in_schema=False,
        )(_handler(health, template))
        for template, place in health.templates.items()
    ]


def _handler(health: AppHealth, template: str) -> Callable[..., Any]:
    async def handler(request: Request[Any, Any, Any]) -> Response[Any]:
        queue, accept = str(request.path_params.get(QUEUE, "")), request.headers.get("accept", "")
        return response_of(
            await health.answer(template, queue=queue, accept=accept, with_body=request.method != "HEAD")
        )

    return handler
