"""A client of event streams: hears each event as the app sends it, and may go away in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.http.site import ASGIApp

LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """One event, as a browser's EventSource gives it to the page."""

    name: str
    id: str
    data: Any


@dataclass
class Parser:
    """Server-sent events from chunks, wherever these were cut (WHATWG HTML, 9.2.6)."""

    comments: list[str] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)
    _text: str = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete by now."""
        *blocks, self._text = (self._text + chunk.decode()).split("\n\n")
        return [event for block in blocks if (event := self._event(block)) is not None]

    def _event(self, block: str) -> Event | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            else:
                self.comments.append(value.strip())
        if "retry" in fields:
            self.retries.append(int(fields["retry"]))
        return Event(fields["event"], fields["id"], json.loads(fields["data"])) if "data" in fields else None


@dataclass
class Stream:
    """One response, while it comes."""

    parser: Parser = field(default_factory=Parser)
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    _events: asyncio.Queue[Event | None] = field(default_factory=asyncio.Queue)
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _left: asyncio.Event = field(default_factory=asyncio.Event)
    _is_asked: bool = False

    async def next(self) -> Event | None:
        """The next event; None when the stream has ended."""
        return await asyncio.wait_for(self._events.get(), LIMIT_S)

    async def rest(self) -> list[Event]:
        """All events to the end of the stream."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    def leave(self) -> None:
        """The client is gone."""
        self._left.set()

    async def receive(self) -> MutableMapping[str, Any]:
        """What the server tells the app."""
        if self._is_asked:
            await self._left.wait()
            return {"type": "http.disconnect"}
        self._is_asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """What the app tells the server."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self._started.set()
            return
        self.body += message.get("body", b"")
        for event in self.parser.feed(message.get("body", b"")) if self.status == 200 else ():
            self._events.put_nowait(event)
        if not message.get("more_body"):
            self._events.put_nowait(None)


@asynccontextmanager
async def streaming(
    app: ASGIApp, url: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> AsyncGenerator[Stream]:
    """Ask for a stream; the body begins when the response has. At the end the client goes away."""
    stream = Stream()
    serving = asyncio.create_task(_serve(app, scope_of(url, headers, method), stream))
    started = asyncio.create_task(stream._started.wait())
    try:
        await asyncio.wait((started, serving), timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        yield stream
        stream.leave()
        await asyncio.wait_for(serving, LIMIT_S)
    finally:
        for task in (serving, started):
            task.cancel()
        await asyncio.wait((serving, started))


def scope_of(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> dict[str, Any]:
    """A request as an ASGI server gives it to the app."""
    parts = urlsplit(url)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(b"host", b"web"), *((k.lower().encode(), v.encode()) for k, v in (headers or {}).items())],
        "client": ("127.0.0.1", 1),
        "server": ("web", 80),
        "state": {},
    }


async def _serve(app: ASGIApp, scope: dict[str, Any], stream: Stream) -> None:
    await app(scope, stream.receive, stream.send)


async def events_of(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events of a real server's response."""
    parser = Parser()
    async for chunk in chunks:
        for event in parser.feed(chunk):
            yield event
