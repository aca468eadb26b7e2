"""An app on a Redis of a test's own: moved there, watched there, and given back as it was."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from arq_web.errors import InvalidConfig
from arq_web.hub import Hub
from arq_web.job import JobInfo
from arq_web.middleware import OutgoingJob
from arq_web.queue import Queue
from arq_web.store.store import EnqueueReply, NewJob
from arq_web.testing.crashes import Crashes, CrashOrder
from arq_web.testing.loops import Loops
from arq_web.testing.running import Key, Runs
from arq_web.testing.seen import Asked, EnqueuedJob, seen
from arq_web.testing.server import URL_ENV, in_memory_url
from arq_web.worker.companion import Companion

PATIENT: Final[Mapping[str, Any]] = {"lease_s": 60.0, "command_deadline_s": 10.0}
"""The machines of test runs are busy, and somebody may look at a job in a debugger: that is no outage."""
OUTBOX: Final = "outbox"
"""The name of its relay, which this layer does not know."""
_ORDER: Final = (
    "one that does not live yet: `jobs` (JobTester) comes before its client, so let the client's fixture ask for `jobs`"
)
OnCreated = Callable[[Queue, Sequence[str]], Awaitable[None]]


class Stage:
    """Where one test's jobs are. Nothing of it is global: two stages, of two apps, do not meet."""

    def __init__(self, hub: Hub, redis_url: str | None, *, concurrency: int, most_attempts: int) -> None:
        """See ``JobTester``."""
        self.namespace = f"test-{secrets.token_hex(8)}"
        self.loops, self.crashes = Loops(), Crashes()
        self.on_created: OnCreated | None = None
        """Told of new jobs before their enqueue returns."""
        self._hub, self._redis_url = hub, redis_url
        self._concurrency, self._most_attempts = concurrency, most_attempts
        self._stack = ExitStack()
        self._runs: Runs | None = None
        self._asked: dict[Key, Asked] = {}
        """Of the jobs in the order of their enqueueing."""
        self._payloads: dict[Key, bytes] = {}

    @property
    def runs(self) -> Runs:
        """What makes jobs run.

        Raises:
            RuntimeError: it is not open.
        """
        if self._runs is None:
            raise RuntimeError("This JobTester is not open: use it within `with JobTester(app) as jobs:`.")
        return self._runs

    def check_open(self) -> None:
        """Raise RuntimeError unless it is open: the app has its own Redis then, which is none of a test's business."""
        _ = self.runs

    @property
    def has_outbox(self) -> bool:
        """True for an app with an outbox, whose jobs come late."""
        self.check_open()
        return self._hub.queues.outbox is not None

    def open(self) -> None:
        """Move the app here. Raises what a first look at its routes raises.

        Raises:
            RuntimeError: it is open already.
            InvalidConfig: the app has begun to live elsewhere.
            StoreUnavailable: the Redis that was named does not answer.
        """
        hub = self._hub
        if self._runs is not None:
            raise RuntimeError("This JobTester is open already.")
        if hub.is_alive:
            raise InvalidConfig("app", _Started(), _ORDER)
        self._config = replace(hub.config, namespace=self.namespace, embedded="never", **PATIENT)
        named = self._redis_url or os.environ.get(URL_ENV)
        with ExitStack() as stack:
            stack.callback(self.loops.close)
            stack.enter_context(hub.stand_in(named or in_memory_url(), self._config))
            hub.queues.on_sent = self._on_sent
            runs = Runs(hub, concurrency=self._concurrency, most_attempts=self._most_attempts)
            stack.callback(self.loops.look, hub.queues.connections.aclose)  # those of other loops end with them
            if named:
                self.loops.look(runs.ping)
            stack.callback(self.loops.look, runs.wipe)
            stack.callback(hub.companions.__setitem__, slice(None), list(hub.companions))
            hub.companions[:] = [self.loops.life, *(functools.partial(_on_demand, make) for make in hub.companions)]
            if hub.enqueue_middleware:  # what they make of the arguments, only they can read
                _lend(stack, hub.enqueue_middleware, self._note_payload)
            self._stack, self._runs = stack.pop_all(), runs

    def close(self) -> None:
        """Wipe what is here, and give the app back.

        Raises:
            RuntimeError: another JobTester of the app was opened after this one, and is open still.
        """
        if self._runs is not None and self._hub.config is not self._config:
            raise RuntimeError("Another JobTester of this app was opened after this one: close that one first.")
        self._runs = None
        self._stack.close()

    def order_crash(self, order: CrashOrder) -> None:
        """Let an attempt die. Raises RuntimeError when it is not open."""
        self.check_open()
        if self.crashes not in self._hub.middleware:
            _lend(self._stack, self._hub.middleware, self.crashes)
        self.crashes.order(order)

    def seen(self, keys: Collection[Key] | None = None) -> list[EnqueuedJob]:
        """The jobs of these keys (all), in the order of their enqueueing."""
        infos = self.loops.look(self.runs.jobs)
        places = {key: place for place, key in enumerate(self._asked)}
        infos.sort(key=lambda info: places.get((info.queue, info.id), len(places)))
        return [self._seen(info) for info in infos if keys is None or (info.queue, info.id) in keys]

    def forget(self) -> None:
        """Every job so far."""
        self.loops.look(self.runs.wipe)
        self._asked.clear()
        self._payloads.clear()

    def _seen(self, info: JobInfo) -> EnqueuedJob:
        key = info.queue, info.id
        return seen(info, self._hub.registry, payload=self._payloads.get(key), asked=self._asked.get(key))

    async def _on_sent(self, queue: Queue, jobs: Sequence[NewJob], reply: EnqueueReply) -> None:
        created = [new for new, answer in zip(jobs, reply.jobs, strict=True) if answer.created]
        if not created:
            return
        first = await queue.store.read(created[0].id)
        now_ms = first.enqueued_at_ms if first else await queue.store.server_now_ms()
        self._asked.update({(queue.name, new.id): Asked.by(new, now_ms) for new in created})
        if self.on_created is not None:
            await self.on_created(queue, [new.id for new in created])

    async def _note_payload(self, job: OutgoingJob, call_next: Callable[[OutgoingJob], Awaitable[Any]]) -> Any:
        self._payloads[job.queue, job.id] = job.payload
        return await call_next(job)


class _Started:
    def __repr__(self) -> str:
        return "(one that lives already)"


def _on_demand(make: Callable[[], Companion]) -> Companion:
    companion = make()
    return _OnDemand(companion) if companion.name == OUTBOX else companion


class _OnDemand:
    """Relays an outbox only when it is told to: a test would not know how far another relay has come."""

    name = OUTBOX

    def __init__(self, relay: Companion) -> None:
        self.catch_up = relay.catch_up

    async def run(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()


def _lend(stack: ExitStack, to: list[Any], what: object) -> None:
    """Put ``what`` in front of a list, until the stack closes."""
    to.insert(0, what)
    stack.callback(to.remove, what)
