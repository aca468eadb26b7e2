"""A look at each route that the app registers: what cannot work is refused."""

from __future__ import annotations

from typing import Any

from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler

from arq_web.errors import InvalidRoute
from arq_web.queue import Queue
from arq_web.sync_queue import SyncQueue
from arq_web_litestar._compat import providers_of
from arq_web_litestar.depends import AppHub, FromQueue
from arq_web_litestar.routes import JobRoute
from arq_web_litestar.sides import async_queue_in_def

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def check_queues(name: str, handler: HTTPRouteHandler, *, is_async: bool) -> None:
    """Look at the queues that a handler asks for.

    Raises:
        InvalidRoute: a ``def`` asks for the async one, or a parameter's name and what it is for do not agree.
    """
    providers = providers_of(handler)
    for asked in handler.parsed_fn_signature.parameters.values():
        if asked.annotation is Queue and not is_async:
            raise async_queue_in_def(name, asked.name)
        marker = next((each for each in asked.metadata if isinstance(each, FromQueue)), None)
        provider = providers.get(asked.name)
        if marker is not None and getattr(provider, "dependency", None) != marker:
            why = f"Litestar injects by name, and {asked.name!r} is not the queue {marker.name!r}"
            remedy = f"Call the parameter {marker.name!r}, or provide it: Provide(FromQueue({marker.name!r}))."
            raise InvalidRoute(name, why, remedy, asked.name)
        if not asked.is_di_field and asked.annotation not in (Queue, SyncQueue) and _is_ours(provider):
            why = "it is the name of a queue, and Litestar would pass the queue whatever the annotation says"
            remedy = f"Call it otherwise: other_name: Annotated[..., QueryParameter(name={asked.name!r})]."
            raise InvalidRoute(name, why, remedy, asked.name)


def check_job(name: str, handler: HTTPRouteHandler, job: JobRoute[..., Any], hub: AppHub) -> None:
    """Look at a handler whose requests become jobs.

    Raises:
        InvalidRoute: its method, a parameter's name or its queue cannot be.
    """
    if safe := handler.http_methods & _SAFE_METHODS:
        why = f"{min(safe)} must change nothing: browsers, proxies and crawlers repeat it as they like"
        raise InvalidRoute(name, why, "Make it a POST: @post(...).")
    if handler.cache:
        why = "it is cached, and the cache would answer with the first request's job"
        raise InvalidRoute(name, why, "Leave cache= out.")
    bare = [each for each, side in job.sides.items() if side == "request" and each in providers_of(handler)]
    if bare:
        why = "it is the name of a dependency, and nothing says which side resolves it"
        remedy = "Mark it NamedDependency[...] for the worker to resolve, or RequestTime[...] for the request."
        raise InvalidRoute(name, why, remedy, bare[0])
    queue = job.policy.queue
    if queue is not None and queue not in hub.queue_names:
        why = f"its queue {queue!r} is none of the app's {list(hub.queue_names)}"
        raise InvalidRoute(name, why, f"Declare it: ArqWeb(queues=[..., {queue!r}]).")


def _is_ours(provider: Provide | None) -> bool:
    module = str(getattr(getattr(provider, "dependency", None), "__module__", ""))
    return module.partition(".")[0] == __name__.partition(".")[0]
