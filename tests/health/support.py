"""Asking for health as an orchestrator does: a connection of its own for each question."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from arq_web.health.exchange import BadAnswer, ask
from arq_web.health.routes import HealthAnswer
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
HEALTH_APP = "tests.health.app:app"


async def get(port: int, path: str, *, within_s: float = 5.0) -> HealthAnswer:
    """One question."""
    return await asyncio.wait_for(ask(HOST, port, path), within_s)


async def status(port: int, path: str) -> int:
    """Of the answer; 0 where nobody answers."""
    with suppress(OSError, BadAnswer):
        return (await get(port, path)).status
    return 0


async def body(port: int, path: str) -> dict[str, Any]:
    """The JSON of the answer."""
    found: dict[str, Any] = msgspec.json.decode((await get(port, path)).body)
    return found


async def reasons(port: int, path: str) -> set[str]:
    """Why not."""
    return set((await body(port, path)).get("reasons", {}))


async def becomes(port: int, path: str, wanted: int, *, timeout_s: float = 20.0) -> None:
    """Wait until a path is answered with a status."""

    async def is_there() -> bool:
        return await status(port, path) == wanted

    await wait_until(is_there, timeout_s=timeout_s, description=f"{path} is answered with {wanted}")


async def raw(port: int, request: bytes, *, within_s: float = 10.0) -> bytes:
    """Send these bytes; all that comes back until the other side ends it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(-1), within_s)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
