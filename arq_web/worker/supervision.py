"""Keeps the parts of a worker alive beside its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from arq_web import events
from arq_web.events import emit

AGAIN_AFTER_S = 1.0


def supervised(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """A helper that goes on for the worker's life: what ends it unasked is logged, and it begins again."""

    async def run() -> None:
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker must not lose this part
                emit(events.HELPER_FAILED, helper=name, error=repr(error))
                await asyncio.sleep(AGAIN_AFTER_S)

    return asyncio.create_task(run(), name=f"arq_web.{name}")
