"""A web process that writes an order and ties a job to it, and is killed just before its n-th message to anybody.

Between two messages (to the database, to Redis) it changes nothing that anybody else could see. So these are all points
at which its end can make a difference.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from asyncio import selector_events
from collections.abc import Callable
from typing import Any

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.outbox import shop
from tests.support.forked import Request

KILLED = 9


def live(request: Request) -> None:
    """Entry of the forked process."""
    _die_before(int(request["nth"]))
    asyncio.run(_live(request))


async def _live(request: Request) -> None:
    engine = create_async_engine(request["database"])
    hub = shop.make_hub(request["url"], request["namespace"], engine)
    async with AsyncSession(engine) as session:
        queue = hub.queue()
        tie = queue.outbox(session) if request["by"] == "outbox" else queue.after_commit(session)
        session.add(shop.Order(name="a"))
        tie.enqueue(shop.send_receipt.options(id="receipt", keep_result=0), "a")
        await session.commit()
    while await shop.relay_of(hub).relay_batch():
        pass
    await hub.aclose()
    await engine.dispose()


def _die_before(nth: int) -> None:
    """Count what is sent, where drivers send it; end without a word before the ``nth``."""
    numbers = itertools.count(1)

    def counting(send: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if next(numbers) == nth:
                os._exit(KILLED)
            return send(*args, **kwargs)

        return counted

    transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    transport.write, transport.writelines = counting(transport.write), counting(transport.writelines)
    file: Any = aiosqlite.Connection
    file._execute = counting(file._execute)
