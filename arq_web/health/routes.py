"""Path → answer. Framework-free: the worker's own server carries it, and both plugins."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec

from arq_web.errors import StoreError, StoreUnavailable
from arq_web.health.facts import Facts
from arq_web.health.probes import MAX_LAG_S, Reasons, why_not_live, why_not_ready, why_not_started
from arq_web.health.scale import scale_of
from arq_web.store.store import Store

REDIS_LIMIT_S = 2.0
"""Longest wait for Redis: who asks gets the answer before his own time (3 s in our examples) is over."""
REDIS_KEPT_S = 1.0
"""However often somebody asks, Redis is asked once a second."""
METRICS_OFF = (
    "Metrics are off in this process. To turn them on: pip install 'arq-web[prometheus]', ArqWeb(metrics=True)."
)
PATHS = ("/livez", "/readyz", "/startupz", "/metrics", "/scale", "/scale/{queue}")


@runtime_checkable
class MetricsPage(Protocol):
    """What makes the text that Prometheus reads."""

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and text, in the form that an ``Accept`` header asks for."""
        ...


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """One HTTP answer."""

    status: int
    body: bytes
    media_type: str = "application/json"

    @classmethod
    def of(cls, status: int, body: dict[str, Any]) -> HealthAnswer:
        """JSON."""
        return cls(status, msgspec.json.encode(body))

    @classmethod
    def of_reasons(cls, reasons: Reasons, details: dict[str, Any]) -> HealthAnswer:
        """200 where there is no reason why not, else 503; what is known stands in both."""
        status = "failing" if reasons else "ok"
        return cls.of(503 if reasons else 200, {"status": status, "reasons": reasons, **details})


class HealthRoutes:
    """Answers for one process: of a worker, of a web app with an embedded one, or without."""

    def __init__(
        self,
        facts: Callable[[], Facts | None],
        stores: Callable[[], Sequence[Store]],
        *,
        metrics: Callable[[], object],
        max_lag_s: float = MAX_LAG_S,
    ) -> None:
        """Ask nothing yet.

        Args:
            facts: of this process's worker; None where it has none.
            stores: of the queues to look at; empty while they are not known.
            metrics: the app's ``Metrics``; anything else where they are off.
            max_lag_s: how late the worker's loop may be.
        """
        self._facts, self._stores, self._metrics = facts, stores, metrics
        self._max_lag_s = max_lag_s
        self._redis, self._asked_at_s = "", -math.inf

    async def answer(self, path: str, accept: str = "") -> HealthAnswer:
        """Answer a GET.

        Args:
            path: one of ``PATHS``, below the place where they are.
            accept: the request's header of that name.
        """
        verbs: dict[str, Callable[[], Awaitable[HealthAnswer]]] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/startupz": self._started,
            "/scale": self._scale,
        }
        if path in verbs:
            return await verbs[path]()
        if path == "/metrics":
            return await self._page(accept)
        if path.startswith("/scale/"):
            return await self._scale(path.removeprefix("/scale/"))
        return unknown_path(path)

    async def _live(self) -> HealthAnswer:
        facts = self._facts()
        return HealthAnswer.of_reasons(why_not_live(facts, self._max_lag_s), _details(facts))

    async def _started(self) -> HealthAnswer:
        facts = self._facts()
        return HealthAnswer.of_reasons(why_not_started(facts), _details(facts))

    async def _ready(self) -> HealthAnswer:
        redis = await self._trouble_with_redis()
        facts = self._facts()
        return HealthAnswer.of_reasons(why_not_ready(facts, redis, self._max_lag_s), _details(facts))

    async def _page(self, accept: str) -> HealthAnswer:
        metrics = self._metrics()
        if not isinstance(metrics, MetricsPage):
            return HealthAnswer.of(404, {"error": METRICS_OFF})
        media_type, text = metrics.render(accept)
        return HealthAnswer(200, text, media_type)

    async def _scale(self, queue: str | None = None) -> HealthAnswer:
        stores = self._stores()
        if not stores:
            return HealthAnswer.of(503, {"error": "The app is not up yet: its queues are not known."})
        chosen = [store for store in stores if queue in (None, store.queue)]
        if not chosen:
            known = ", ".join(store.queue for store in stores)
            return HealthAnswer.of(404, {"error": f"No queue {queue!r} is served here; these are: {known}."})
        try:
            async with asyncio.timeout(REDIS_LIMIT_S):
                scale = await scale_of(chosen)
        except (StoreError, TimeoutError) as error:
            return HealthAnswer.of(503, {"error": _in_words(error)})
        return HealthAnswer.of(200, asdict(scale))

    async def _trouble_with_redis(self) -> str:
        """What is wrong with it, as a sentence without its address; empty when nothing is."""
        stores = self._stores()
        if stores and time.monotonic() - self._asked_at_s > REDIS_KEPT_S:
            try:
                async with asyncio.timeout(REDIS_LIMIT_S):
                    await asyncio.gather(*(store.server_now_ms() for store in stores))
                self._redis = ""
            except (StoreError, TimeoutError) as error:
                self._redis = _in_words(error)
            self._asked_at_s = time.monotonic()
        return self._redis


def unknown_path(path: str) -> HealthAnswer:
    """404, with what there is."""
    return HealthAnswer.of(404, {"error": f"There is no {path} here, but: {', '.join(PATHS)}."})


def _details(facts: Facts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    known = {name: value for name, value in asdict(facts).items() if value is not None and name != "lease_s"}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in known.items()}


def _in_words(error: StoreError | TimeoutError) -> str:
    if isinstance(error, (StoreUnavailable, TimeoutError)):
        return "Redis does not answer"
    return f"Redis answers with an error ({type(error).__name__}): see the log of the worker, or app-worker doctor"
