"""The ASGI lifespan as ``app-worker`` (and a child process of its) drives it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arq_web.loading import LifespanFailed, app_lifespan


async def test_the_state_of_the_lifespan_reaches_whoever_runs_it() -> None:
    """The app fills it in at start-up; requests (and jobs) read it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["state"]["db"] = "open"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async with app_lifespan(app) as state:
        assert state == {"db": "open"}


async def test_start_and_end_happen_in_one_task_of_the_apps_own() -> None:
    """An app that holds a task group or a cancel scope over its yield would break otherwise."""
    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.TaskGroup() as group:
            tasks.append(asyncio.current_task())
            await receive()
            helper = group.create_task(asyncio.sleep(60))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            tasks.append(asyncio.current_task())
            helper.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async with app_lifespan(app):
        pass

    assert tasks[0] is tasks[1]
    assert tasks[0] is not asyncio.current_task()


async def test_a_startup_failure_carries_the_apps_message_and_its_exception() -> None:
    """Starlette sends the traceback and raises; Litestar likewise."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback ..."})
        raise RuntimeError("no database")

    with pytest.raises(LifespanFailed) as failed:
        async with app_lifespan(app):
            pass

    assert failed.value.message == "Traceback ..."
    assert repr(failed.value.error) == "RuntimeError('no database')"


async def test_an_app_that_goes_on_after_its_failure_does_not_hold_us() -> None:
    """It has said no; what it waits for now is its own affair."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        await receive()

    with pytest.raises(LifespanFailed):
        async with asyncio.timeout(5), app_lifespan(app):
            pass


@pytest.mark.parametrize("error", [None, AssertionError("not http"), NotImplementedError()])
async def test_an_app_without_a_lifespan_is_started_by_doing_nothing(error: Exception | None) -> None:
    """It raises, or returns, before it has answered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if error is not None:
            raise error

    async with app_lifespan(app) as state:
        assert state == {}


async def test_an_exit_in_the_startup_is_a_failure() -> None:
    """``sys.exit("no config")`` in a start-up means it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise SystemExit("no config")

    with pytest.raises(LifespanFailed, match="no config"):
        async with app_lifespan(app):
            pass


async def test_an_exception_in_the_shutdown_is_a_failure_even_without_a_message() -> None:
    """Raw apps raise instead of sending shutdown.failed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise OSError("the pool is stuck")

    with pytest.raises(LifespanFailed, match="OSError: the pool is stuck"):
        async with app_lifespan(app):
            pass


async def test_an_interrupted_startup_cancels_the_app() -> None:
    """Its own ``finally`` blocks run, so that nothing half-open is left."""
    closed = asyncio.Event()
    waiting = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            waiting.set()
            await asyncio.sleep(60)
        finally:
            closed.set()

    async def start() -> None:
        async with app_lifespan(app):
            pass

    starting = asyncio.create_task(start())
    await waiting.wait()
    starting.cancel()
    await asyncio.wait((starting,))

    assert starting.cancelled()
    assert closed.is_set()
