"""The end of a request, as ``queue.after_response`` sees it: an ASGI middleware, the same for both frameworks.

The jobs are enqueued when the app has returned: the response was handed to the server by then, background tasks have
run, and dependencies with ``yield`` have closed (in FastAPI it is then that they commit). So a job never runs before
the rows that its request wrote are there; for a guarantee that it does run there is the outbox.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from arq_web.tied.response import awaiting_response

ASGIReceive = Callable[[], Awaitable[Any]]
ASGISend = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
REFUSED_FROM = 400


class AfterResponse:
    """Wraps an app: what its requests tied to their response is enqueued after it, or dropped."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: ASGIReceive, send: ASGISend) -> None:
        """Answer one request (or pass on whatever else it is)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with awaiting_response() as awaited:
            try:
                await self.app(scope, receive, noted)
            except BaseException as error:
                awaited.drop(f"the request ended with {type(error).__name__}")
                raise
            if 0 < status < REFUSED_FROM:
                await awaited.send()
            else:
                awaited.drop(f"the response was {status}" if status else "there was no response")
