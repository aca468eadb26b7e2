"""The smallest web app with a hub: a framework's dependency, and a lifespan that opens something."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from arq_web import Hub, JobContext, Task


def make_app() -> App:
    """A factory, as uvicorn's --factory wants one."""
    return App()


class App:
    """An ASGI app that knows only the lifespan protocol."""

    def __init__(self) -> None:
        self.opened: list[str] = []

        async def use_database(db: str) -> tuple[str, int]:
            return db, os.getpid()

        self.task = Task[Any, tuple[str, int]](use_database, name="use_database", injected={"db": "database"})
        self.task.is_async = True
        self.hub = Hub(tasks=[self.task])
        self.hub.resolver = Resolver(self)
        self.state = SimpleNamespace(arq_web=self.hub)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        self.opened.append("database")
        async with self.hub.lifespan():
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})


class Resolver:
    """Fills in what the lifespan has opened."""

    def __init__(self, app: App) -> None:
        self._app = app

    @asynccontextmanager
    async def resolve(self, task: Task[..., Any], ctx: JobContext) -> AsyncIterator[Mapping[str, object]]:
        yield {"db": self._app.opened[0]}

    def describe(self, error: BaseException) -> dict[str, object] | None:
        return None
