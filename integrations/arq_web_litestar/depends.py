"""What a handler or a job can ask for by annotation: the queue, and dependencies that say when they run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias, TypeVar

from litestar.datastructures import State
from litestar.datastructures.state import ImmutableState
from litestar.di import Dependency, NamedDependency

from arq_web import queue as core_queue
from arq_web import sync_queue as core_sync_queue
from arq_web.errors import InvalidRoute
from arq_web.http.front import Front
from arq_web.hub import Hub

T = TypeVar("T")

STATE_KEY = "arq_web"
"""Where the hub is in ``app.state``."""

Queue: TypeAlias = NamedDependency[core_queue.Queue]
"""The app's queue: ``async def signup(queue: Queue)``. Litestar injects by name: ``queue`` is the default one, another
declared queue is the parameter of its name (``emails: Queue``)."""

SyncQueue: TypeAlias = NamedDependency[core_sync_queue.SyncQueue]
"""The same for a ``def`` handler: ``def signup(sync_queue: SyncQueue)``."""


class RequestTimeMarker:
    """Says that a dependency is resolved in the request."""


RequestTime: TypeAlias = Annotated[T, Dependency("named"), RequestTimeMarker()]
"""A dependency of a job that is resolved in the request; its value becomes an argument: ``user: RequestTime[User]``."""


@dataclass(frozen=True)
class FromQueue(Dependency):
    """A queue by its name: ``emails: Annotated[arq_web.Queue, FromQueue("emails")]``.

    Litestar injects by name, so the parameter bears the name of the queue. For another parameter name, for a queue
    whose name is no identifier, or for a SyncQueue (``sync=True``), register it yourself, and ask for ``mail: Queue``:
    ``dependencies={"mail": Provide(FromQueue("mail-slow"))}``.
    """

    name: str
    sync: bool = field(default=False, kw_only=True)
    kind: Literal["named"] = field(default="named", init=False)

    async def __call__(self, state: State) -> core_queue.Queue | core_sync_queue.SyncQueue:
        """Provide it, from the app of the request (or of the job)."""
        queue = hub_of(state, f"FromQueue({self.name!r})").queue(self.name)
        return core_sync_queue.SyncQueue(queue, asyncio.get_running_loop()) if self.sync else queue


class AppHub(Hub):
    """The hub of one Litestar app, and what its routes need to know of the plugin."""

    front: Front

    def __deepcopy__(self, memo: object) -> AppHub:
        """It is in ``app.state``, which Litestar copies deeply for whoever asks for an ``ImmutableState``."""
        return self

    @property
    def default_queue(self) -> core_queue.Queue:
        """Where jobs go whose task names no queue."""
        name = core_queue.DEFAULT_QUEUE
        return self.queue(name if name in self.queue_names else self.queue_names[0])


def hub_of(state: ImmutableState, who: str) -> AppHub:
    """The hub in an app's state.

    Raises:
        InvalidRoute: the app has no ArqWeb plugin.
    """
    hub = state.get(STATE_KEY)
    if not isinstance(hub, AppHub):
        raise InvalidRoute(who, "its app has no ArqWeb", "Add it: Litestar(..., plugins=[ArqWeb()]).")
    return hub
