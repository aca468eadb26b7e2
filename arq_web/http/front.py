"""What the HTTP side of one app shares: its hub, the routes it has, who may look, who waits, and its framework."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from arq_web.ears import Ear, ears
from arq_web.errors import InvalidConfig
from arq_web.http.access import Access, Authorize, OwnerOf
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.paths import DEFAULT_ROUTES, ROUTE_NAMES, JobPaths, RouteName
from arq_web.http.waiting import MAX_WAITING_COUNT, Waiters
from arq_web.hub import Hub
from arq_web.queue import DEFAULT_QUEUE, Queue
from arq_web.task import Task

WAIT_S, DEVELOPMENT_WAIT_S = 25.0, 5.0
"""The longest a long poll or a stream lasts: then it ends by itself, so that it never holds up a shutdown."""


class Replayer(Protocol):
    """What only the web framework knows: how it answers for a handler."""

    async def returned(self, task: Task[..., Any], value: object, asked: Asked) -> Answer | None:
        """The answer to a handler that has returned ``value``; None for a task that is no route's."""
        ...

    def raised(self, said: Mapping[str, object], headers: Mapping[str, str]) -> Exception:
        """The framework's HTTP exception again, from what was stored of it, with ``headers`` besides its own.

        Where both name a header, in whatever case, its own stays.
        """
        ...


@dataclass(slots=True)
class Front:
    """Made by the plugin, one per app."""

    hub: Hub
    replayer: Replayer
    access: Access = field(default_factory=Access)
    waiters: Waiters = field(default_factory=Waiters)
    jobs_path: str = "/jobs"
    """Without the prefix of a proxy or a mount: that is in every request."""
    routes: Collection[RouteName] = DEFAULT_ROUTES
    """Those that the app has; none with ``jobs_path=None``."""
    _ears: list[Ear] | None = field(default=None, init=False)

    @classmethod
    def of(
        cls,
        hub: Hub,
        replayer: Replayer,
        *,
        jobs_path: str | None = "/jobs",
        routes: Collection[RouteName] = DEFAULT_ROUTES,
        authorize: Authorize | None = None,
        owner: OwnerOf | None = None,
        max_streams: int = MAX_WAITING_COUNT,
    ) -> Front:
        """From the options of ``ArqWeb``.

        Raises:
            InvalidConfig: an option is outside its range, or the list would show everybody's jobs to everybody.
        """
        if jobs_path is not None and not re.fullmatch(r"(/[^/{}?#]+)+", jobs_path):
            raise InvalidConfig("jobs_path", jobs_path, "a path such as '/jobs', or None")
        if isinstance(routes, str) or not set(routes) <= set(ROUTE_NAMES):
            raise InvalidConfig("routes", routes, f"some of {list(ROUTE_NAMES)}")
        if "list" in routes and owner is None and authorize is None:
            raise InvalidConfig(
                "routes", routes, "without 'list', or with owner= or authorize=: it would show everybody's jobs"
            )
        if max_streams < 1:
            raise InvalidConfig("max_streams", max_streams, "1 or more")
        shown = frozenset(routes) if jobs_path is not None else frozenset()
        return cls(hub, replayer, Access(authorize, owner), Waiters(max_streams), jobs_path or "", shown)

    def paths(self, asked: Asked) -> JobPaths:
        """Where jobs are, for this client."""
        return JobPaths(asked.jobs_path, self.routes)

    def tell_answered(self, status: int, *, is_replayed: bool) -> None:
        """Tell the observers of a job route's answer."""
        if self._ears is None:  # the hub's list is complete with the first request
            self._ears = ears(self.hub.observers, "request_answered")
        for each in self._ears:
            each.tell(status, is_replayed=is_replayed)

    @property
    def default_queue(self) -> Queue:
        """Where jobs go whose task names no queue: ``default``, or the first of those that the app declares."""
        names = self.hub.queue_names
        return self.hub.queue(DEFAULT_QUEUE if DEFAULT_QUEUE in names else names[0])

    @property
    def is_detailed(self) -> bool:
        """True while developing: answers then name workers and the words of errors."""
        return self.hub.is_development

    @property
    def longest_wait_s(self) -> float:
        """Of a long poll or a stream."""
        return DEVELOPMENT_WAIT_S if self.hub.is_development else WAIT_S
