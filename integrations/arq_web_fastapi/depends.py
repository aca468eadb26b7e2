"""What a route or a job can ask for by annotation: the queue, and dependencies that say when they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, params
from starlette.requests import HTTPConnection

import arq_web
from arq_web.errors import InvalidRoute
from arq_web.hub import Hub
from arq_web.queue import DEFAULT_QUEUE

STATE = "arq_web"
"""The attribute of ``app.state`` that holds the app's hub."""


def FromQueue(name: str, *, sync: bool = False) -> Any:  # noqa: N802 - it stands where Depends stands
    """Ask for a queue by its name.

    ::

        async def signup(user: SignUp, emails: Annotated[arq_web.Queue, FromQueue("emails")]) -> None: ...

    Args:
        name: one of ``ArqWeb(queues=[...])``.
        sync: for a ``def`` route: ``Annotated[arq_web.SyncQueue, FromQueue("emails", sync=True)]``.
    """
    return Depends(SyncQueueProvider(name) if sync else QueueProvider(name))


def RequestTime(dependency: Callable[..., Any] | None = None, *, use_cache: bool = True) -> Any:  # noqa: N802
    """Resolve a job's dependency in the request, and send its value.

    ::

        async def resize(image_id: int, owner: Annotated[int, RequestTime(current_user_id)]) -> Image: ...

    Dependencies that read the request are resolved there anyway. This says so, and does it for those that do not.
    In an ordinary route it is ``Depends``.
    """
    return RequestTimeDepends(dependency=dependency, use_cache=use_cache)


class RequestTimeDepends(params.Depends):
    """What ``RequestTime(...)`` returns."""


@dataclass(frozen=True, slots=True)
class QueueProvider:
    """Gives a queue of the running app, in requests, websockets and jobs."""

    name: str | None = None

    async def __call__(self, connection: HTTPConnection) -> arq_web.Queue:
        """The queue; no Redis command is sent."""
        return queue_of(hub_of(connection), self.name)


@dataclass(frozen=True, slots=True)
class SyncQueueProvider:
    """The same for code that runs in a thread."""

    name: str | None = None

    async def __call__(self, connection: HTTPConnection) -> arq_web.SyncQueue:
        """The queue, bound to the loop: that is why this is async."""
        return sync_queue_of(hub_of(connection), self.name)


Queue = Annotated[arq_web.Queue, Depends(QueueProvider())]
"""Annotate a parameter with it: ``async def signup(user: SignUp, queue: Queue)``; websockets and jobs too."""

SyncQueue = Annotated[arq_web.SyncQueue, Depends(SyncQueueProvider())]
"""The same for ``def`` routes, which FastAPI runs in a thread."""


def hub_of(connection: HTTPConnection) -> Hub:
    """The hub of the app that answers.

    Raises:
        InvalidRoute: that app has none.
    """
    hub = getattr(connection.app.state, STATE, None)
    if not isinstance(hub, Hub):
        raise InvalidRoute(connection.url.path, "its app has no ArqWeb", "Call ArqWeb(app) for that app.")
    return hub


def queue_of(hub: Hub, name: str | None) -> arq_web.Queue:
    """The queue of that name; without one the app's default: ``default``, or the first of those it declares."""
    if name is None:
        name = DEFAULT_QUEUE if DEFAULT_QUEUE in hub.queue_names else hub.queue_names[0]
    return hub.queue(name)


def sync_queue_of(hub: Hub, name: str | None) -> arq_web.SyncQueue:
    """The same for threads; called on the loop."""
    return arq_web.SyncQueue(queue_of(hub, name), asyncio.get_running_loop())
