"""What the apps of both frameworks share: a task, and what their routes note."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from arq_web import Hub, Queue, task
from arq_web.errors import NothingToTieTo
from arq_web.tied.tie import Tie

Build = Callable[..., tuple[Any, Hub]]

seen: list[str] = []
"""What happened, in order."""
kept: list[Tie] = []
"""Ties that outlive their request."""


@task(name="tied.note")
async def note(text: str) -> str:
    return text


async def look(what: str, queue: Queue) -> None:
    """Note what happens, and how many jobs are there by then."""
    count = await queue.store.connections.get().execute("ZCARD", queue.store.base + b"ready")
    seen.append(f"{what}, {count!r} jobs")


async def parts(queue: Queue) -> AsyncIterator[bytes]:
    """A stream; the job is not there before its end."""
    yield b"a"
    await look("last part", queue)
    yield b"b"


async def broken_parts() -> AsyncIterator[bytes]:
    """A stream that breaks."""
    yield b"a"
    raise ValueError("the source of the stream is gone")


def fails_in_background() -> None:
    """A background task that does not end well."""
    raise ValueError("in background")


def told(queue: Queue) -> str:
    """What a websocket hears that asks for a response."""
    try:
        queue.after_response.enqueue(note, "socket")
    except NothingToTieTo as error:
        return str(error)
    return "tied"
