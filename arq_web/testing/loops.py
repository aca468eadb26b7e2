"""Where a test's work is done: on the loop that the app lives on, else on that of who asks, else on one of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class Loops:
    """The loops that one test has to do with.

    What a job uses (a pool of connections, a lock) often belongs to the loop on which the app's lifespan runs, and a
    test client may run that in a thread. So jobs run there, if there is such a loop.
    """

    def __init__(self) -> None:
        self._lived_on: list[asyncio.AbstractEventLoop] = []
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def life(self) -> Life:
        """A companion of the app, which notes the loop on which it lives."""
        return Life(self._lived_on)

    @property
    def app_loop(self) -> asyncio.AbstractEventLoop | None:
        """Where the app lives now; the newest place, if it lives more than once."""
        return next((loop for loop in reversed(self._lived_on) if loop.is_running()), None)

    def look(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what is bound to no loop in particular (a question to Redis), from anywhere, and wait for it."""
        return self._own().call(work)

    async def run(self, work: Work[T]) -> T:
        """Do ``work`` where the app lives, or here."""
        loop = self.app_loop
        if loop is None or loop is asyncio.get_running_loop():
            return await work()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))

    def run_sync(self, work: Work[T], instead: str) -> T:
        """Do ``work`` where the app lives, or in a thread of our own, and wait for it.

        Raises:
            RuntimeError: called on an event loop, which must not be held up; ``instead`` says what to write there.
        """
        if running_loop() is not None:
            raise RuntimeError(f"This is an async function, whose event loop it would block: write `{instead}`.")
        loop = self.app_loop
        if loop is None:
            return self._own().call(work)
        return asyncio.run_coroutine_threadsafe(work(), loop).result()

    def close(self) -> None:
        """End our own thread, if there is one."""
        self._portal = None
        self._stack.close()

    def _own(self) -> BlockingPortal:
        if self._portal is None:
            self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
        return self._portal


class Life:
    """Lives beside the app, and does nothing but know where that is."""

    name = "testing"

    def __init__(self, lived_on: list[asyncio.AbstractEventLoop]) -> None:
        self._lived_on = lived_on

    async def run(self) -> None:
        """Be there until cancelled."""
        loop = asyncio.get_running_loop()
        self._lived_on.append(loop)
        try:
            await asyncio.Event().wait()
        finally:
            self._lived_on.remove(loop)

    async def catch_up(self) -> None:
        """There is nothing to do."""


def check_loop(instead: str) -> None:
    """Refuse at once what nobody here can await: a coroutine that is thrown away is but a warning.

    Raises:
        RuntimeError: no asyncio loop runs here; ``instead`` says what to write.
    """
    if running_loop() is None:
        raise RuntimeError(f"No asyncio loop runs here (trio is none): in a plain test write `{instead}`.")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of who calls; None in plain code."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
