"""A look at the app's routes: its jobs are registered, and what cannot work is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

from arq_web.errors import InvalidRoute
from arq_web.hub import Hub
from arq_web_fastapi._compat import Dependant, RouteView, methods_of, routes_of
from arq_web_fastapi.depends import STATE, QueueProvider
from arq_web_fastapi.replay import FastAPIReplayer
from arq_web_fastapi.routes import MADE_A_JOB, JobRoute
from arq_web_fastapi.sides import ASK_SYNC_QUEUE

_SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}


def collect_routes(app: FastAPI, hub: Hub, replayer: FastAPIReplayer) -> None:
    """Register the jobs among the app's routes.

    Raises:
        InvalidRoute: a route, its queue, its decorators or its mounted app cannot work.
        DuplicateTask: two jobs have one name.
    """
    routes = list(routes_of(app.routes))
    jobs: dict[JobRoute[..., Any], list[str]] = {}
    for route in routes:
        if isinstance(route.endpoint, JobRoute):
            _check_methods(route)
            _check_queue(route, route.endpoint, hub)
            jobs.setdefault(route.endpoint, []).append(name_of(route))
            replayer.bind(route.endpoint, route, route.endpoint.http.result_status)
    for route in routes:
        _check_order(route, jobs)
        _check_threads(route)
    for job, names in jobs.items():
        job.route = ", ".join(names)
        hub.add_task(job)
    _check_mounted(app.routes)


def name_of(route: RouteView) -> str:
    """``POST /images/{image_id}/resize``."""
    return f"{','.join(sorted(methods_of(route)))} {route.path}".strip()


def _check_methods(route: RouteView) -> None:
    safe = _SAFE_METHODS & methods_of(route)
    if safe:
        why = f"{min(safe)} must change nothing: browsers, proxies and crawlers repeat it as they like"
        raise InvalidRoute(name_of(route), why, "Use POST.")


def _check_queue(route: RouteView, job: JobRoute[..., Any], hub: Hub) -> None:
    queue = job.policy.queue
    if queue is not None and queue not in hub.queue_names:
        why = f"its queue {queue!r} is none of the app's {list(hub.queue_names)}"
        raise InvalidRoute(name_of(route), why, f"Declare it: ArqWeb(app, queues=[..., {queue!r}]).")


def _check_order(route: RouteView, jobs: dict[JobRoute[..., Any], list[str]]) -> None:
    job = getattr(route.endpoint, MADE_A_JOB, None)
    if isinstance(job, JobRoute) and not isinstance(route.endpoint, JobRoute) and job not in jobs:
        why = (
            "@background_job stands above the route's decorator, which got the plain function and would run it at once"
        )
        raise InvalidRoute(name_of(route), why, "Swap them: @background_job goes next to the function.")


def _check_threads(route: RouteView) -> None:
    tree = getattr(route, "dependant", None)
    if tree is not None:
        _check_tree(tree, name_of(route))
    if isinstance(route.endpoint, JobRoute):
        for each in route.endpoint.worker_dependant.dependencies:
            _check_tree(each, name_of(route))


def _check_tree(tree: Dependant, route: str) -> None:
    for each in tree.dependencies:
        if isinstance(each.call, QueueProvider) and _runs_in_thread(tree.call):
            where = getattr(tree.call, "__name__", "?")
            why = f"{where}() is a def, which runs in a thread, where the Queue cannot be awaited"
            raise InvalidRoute(route, why, ASK_SYNC_QUEUE, each.name)
        _check_tree(each, route)


def _runs_in_thread(call: object) -> bool:
    """True for a def; a class is fine, it keeps the queue for its async methods."""
    plain = inspect.unwrap(call) if callable(call) else call
    is_def = inspect.isfunction(plain) or inspect.ismethod(plain)
    return is_def and not (inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain))


def _check_mounted(routes: Sequence[Any]) -> None:
    """The lifespan of a mounted app never runs: it must have an ArqWeb of its own, or its jobs would be nobody's."""
    for sub, path in _mounted(routes, ""):
        if not hasattr(sub.state, STATE):
            for route in routes_of(sub.routes):
                if isinstance(route.endpoint, JobRoute):
                    why = f"it is in an app mounted at {path!r} that has no ArqWeb"
                    remedy = "Call ArqWeb(...) for that app too, or include its router instead of mounting it."
                    raise InvalidRoute(name_of(route), why, remedy)


def _mounted(routes: Sequence[Any], prefix: str) -> Iterator[tuple[FastAPI, str]]:
    for route in routes:
        if isinstance(route, Mount):
            path = prefix + route.path
            if isinstance(route.app, FastAPI):
                yield route.app, path
            yield from _mounted(route.routes or (), path)
