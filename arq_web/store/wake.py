"""Waiting for the wake markers of several queues at once, wherever they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from arq_web.store.blocking import BlockingConnection


class WakeWaiter:
    """The blocking wait of a worker; one at a time. Made by ``Connections.waiter``.

    In a cluster no command may name keys of two queues, so each queue has a connection of its own there; elsewhere one
    connection waits for all.

    Args:
        parts: connections, each with the markers it waits for.
    """

    def __init__(self, parts: Sequence[tuple[BlockingConnection, Sequence[bytes]]]) -> None:
        self._parts = tuple(parts)
        self._is_woken = False

    async def wait(self, timeout_s: float) -> bytes | None:
        """Wait for a marker and take it.

        Returns:
            The marker's key; None when ``timeout_s`` passed, or when ``wake`` was called.

        Raises:
            StoreError: as ``BlockingConnection.wait``; when one node of a cluster is gone, too.
        """
        try:
            if len(self._parts) == 1:
                return await self._wait_for(*self._parts[0], timeout_s)
            return await self._wait_for_any(timeout_s)
        finally:
            self._is_woken = False

    def wake(self) -> None:
        """End the wait that is going on, or else the next one, at once. The connections stay as they are."""
        self._is_woken = True
        for connection, _ in self._parts:
            connection.wake()

    def tell_spare(self, on_spare: Callable[[], None]) -> None:
        """Call ``on_spare`` whenever a marker is taken while nobody waits; the next wait ends with it at once."""
        for connection, _ in self._parts:
            connection.on_spare = on_spare

    async def aclose(self) -> None:
        """Close for good; a wait that is going on raises StoreUnavailable. Safe to repeat."""
        for connection, _ in self._parts:
            await connection.aclose()

    async def _wait_for_any(self, timeout_s: float) -> bytes | None:
        waits = [asyncio.ensure_future(self._wait_for(*part, timeout_s)) for part in self._parts]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()  # its pop stays outstanding: the next wait takes it over
            await asyncio.wait(waits)
        ended = [waiting for waiting in waits if not waiting.cancelled()]
        failures = [waiting.exception() for waiting in ended]
        # One marker is as good as several, and as an error elsewhere: a claim of all queues follows, and meets it too.
        for waiting, failure in zip(ended, failures, strict=True):
            if failure is None and (key := waiting.result()) is not None:
                return key
        for failure in failures:
            if failure is not None:
                raise failure
        return None

    async def _wait_for(self, connection: BlockingConnection, keys: Sequence[bytes], timeout_s: float) -> bytes | None:
        """Wait the whole time, also when a pop that was taken over ends early: the waits of a group end as one."""
        loop = asyncio.get_running_loop()
        until, left_s = loop.time() + timeout_s, timeout_s
        while True:
            key = await connection.wait(keys, left_s)
            left_s = until - loop.time()
            if key is not None or left_s <= 0 or self._is_woken:
                return key
