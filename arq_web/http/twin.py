"""How a framework answers for a value: asked of the framework itself, by an app of one route that returns the value.

The route has the options of the handler's own (its response model, its encoders), so that the bytes are those with
which the handler would have been answered without a job in between, whatever version of the framework makes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from arq_web.http.answers import WITHOUT_CONTENT, Answer

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
VALUE: Final = "arq_web_value"
"""Key of the request's ASGI scope: what the route returns."""


async def answer_by(twin: AsgiApp, value: object) -> Answer:
    """Let ``twin`` answer for ``value``.

    Raises:
        Exception: what the framework raises when the value does not fit the route, as it would without a job.
    """
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await twin({**_SCOPE, "headers": [], "path_params": {}, "state": {}, VALUE: value}, _receive, send)
    start, *chunks = sent
    body = b"".join(chunk.get("body", b"") for chunk in chunks)
    return _answer(start["status"], start.get("headers", ()), body)


_SCOPE: Final = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "root_path": "",
    "query_string": b"",
    "client": None,
    "server": None,
}


async def _receive() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _answer(status: int, raw_headers: Any, body: bytes) -> Answer:
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        elif name != "content-length":  # counted again where it is sent
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    media_type = headers.pop("content-type", None)
    return Answer(status, headers, body, None if status in WITHOUT_CONTENT else media_type, tuple(cookies))
