"""Claims jobs for free slots, and waits well when there are none."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, Protocol

from arq_web import events
from arq_web.errors import StoreCorrupt, StoreError
from arq_web.events import emit
from arq_web.store.record import ClaimedJob
from arq_web.store.store import ClaimReply, Store, WorkerKind
from arq_web.worker.clock import ServerClock
from arq_web.worker.leases import LeaseKeeper
from arq_web.worker.outage import Outage
from arq_web.worker.running import RunningTable
from arq_web.worker.settler import Settler

IDLE_S = 1.9
"""Longest wait for a wake marker: it is a hint, and a claim follows anyway. A lost one costs two seconds at most."""

BURST_LOOK_S = 0.1
"""In a burst: the end of the last running job sets no marker."""

FORGET_S = 5.0
"""A queue that was not claimed for so long (the worker is full, or an earlier queue never empties) is looked at all the
same: so its due jobs are promoted, its dead workers noticed, and this worker counts as listening."""

NOTHING = ClaimReply([], [], now_ms=0, next_due_ms=0, lease_count=0, ready_count=0, standby=False)

OnClaimed = Callable[[Store, str, list[ClaimedJob]], None]


class Burst(Enum):
    """What a worker in a burst waits for before it ends."""

    READY = "ready"
    """What is ready, runs here, or was to be retried by itself."""
    ALL = "all"
    """Everything: what is due later as well, and what runs elsewhere."""
    NOW = "now"
    """What is ready or runs here, and nothing that is due later, its own retries neither."""


class Waiter(Protocol):
    """The blocking wait for wake markers of some queues."""

    async def wait(self, timeout_s: float) -> bytes | None:
        """Until a marker was taken, the time passed, or somebody woke it."""

    def wake(self) -> None:
        """End a wait early."""

    def tell_spare(self, on_spare: Callable[[], None]) -> None:
        """Call it when a marker is taken while nobody waits."""

    async def aclose(self) -> None:
        """Close its connections."""


class Claimer:
    """Takes jobs from the queues in strict order, for all free slots at once."""

    def __init__(
        self,
        stores: list[Store],
        table: RunningTable,
        make_waiter: Callable[[Sequence[bytes]], Waiter],
        *,
        worker: str,
        kind: WorkerKind,
        lease_ms: int,
        settler: Settler,
        leases: LeaseKeeper,
        outage: Outage,
        clock: ServerClock,
        on_claimed: OnClaimed,
        most_jobs: int | None = None,
    ) -> None:
        self._stores, self._table, self._make_waiter = stores, table, make_waiter
        self._waiter_bases = [store.base for store in stores]
        self._waiter = make_waiter(self._waiter_bases)
        self._worker, self._kind, self._lease_ms = worker, kind, lease_ms
        self._settler, self._leases, self._outage, self._clock = settler, leases, outage, clock
        self._on_claimed, self._most_jobs = on_claimed, most_jobs
        self._stopping = asyncio.Event()
        self._called_up = asyncio.Event()
        """Set by a stop, and by a marker that was taken while nobody waited for it."""
        self._waiter.tell_spare(self._called_up.set)
        self._claim_count = 0
        self._claimed_at_s: dict[str, float] = {}
        self._broken: set[str] = set()
        self._broken_until_s: dict[str, float] = {}
        self._standby: set[str] = set()
        self._pending_retry_until_s = 0.0
        self.lease_counts: dict[str, int] = {}
        self._next_due_ms: dict[str, int] = {}

    def stop(self) -> None:
        """No claim begins any more; the wait ends."""
        self._stopping.set()
        self._called_up.set()
        self._waiter.wake()

    async def aclose(self) -> None:
        """Close the connection of the wait. Safe to repeat."""
        await self._waiter.aclose()

    def expect_retry(self, delay_ms: int) -> None:
        """A burst does not end before the retries that it caused itself have had their turn."""
        self._pending_retry_until_s = max(self._pending_retry_until_s, time.monotonic() + delay_ms / 1000 + 0.5)

    async def run(self, *, burst: Burst | None) -> None:
        """Claim until stopped, or until ``most_jobs`` were; in a ``burst``, until nothing is left of what it is for."""
        while not self._stopping.is_set() and self._most_jobs != 0:
            if not await self._wait_for_slot():
                await self._look_at_forgotten()
                continue
            wanted, got, ready_left = self._wanted(), 0, 0
            for store in self._usable_stores():
                reply = await self._claim(store, wanted - got)
                if reply is None:
                    return
                got += len(reply.jobs)
                ready_left += 0 if reply.standby else reply.ready_count
                if got >= wanted:
                    break
            if self._most_jobs is not None:
                self._most_jobs -= got
            await self._look_at_forgotten()
            if got >= wanted or ready_left:
                continue
            if burst and not got and self._has_finished(burst):
                return
            await self._wait_for_jobs(burst)

    def _wanted(self) -> int:
        return self._table.free if self._most_jobs is None else min(self._table.free, self._most_jobs)

    def _has_finished(self, burst: Burst) -> bool:
        """Nothing was ready: is nothing left either that a burst waits for?"""
        if len(self._table):
            return False
        if burst is Burst.NOW:
            return True
        if burst is Burst.READY:
            return time.monotonic() >= self._pending_retry_until_s
        return not any(self._next_due_ms.values()) and not any(self.lease_counts.values())

    def _usable_stores(self) -> list[Store]:
        """A broken index stops its own queue until somebody mends it, and not the others."""
        now_s = time.monotonic()
        return [store for store in self._stores if self._broken_until_s.get(store.queue, 0.0) <= now_s]

    async def _look_at_forgotten(self) -> None:
        """Claim nothing from queues that were not claimed for a while.

        Nor from any, when this worker is full and took a marker all the same: that sets it again, for one that is not.
        """
        is_spare = self._called_up.is_set() and self._table.free <= 0 and not self._stopping.is_set()
        self._called_up.clear()
        for store in self._usable_stores():
            if is_spare or time.monotonic() - self._claimed_at_s.get(store.queue, 0.0) > FORGET_S:
                await self._claim(store, 0)

    async def _claim(self, store: Store, limit: int) -> ClaimReply | None:
        """One claim, sent with one token until it is answered; None when the worker stops meanwhile."""
        self._claim_count += 1
        token = f"{self._claim_count}.{secrets.token_urlsafe(8)}"  # the count tells a late copy from the newest claim
        self._table.expect_claim(store)
        while True:
            sent_at_s = time.monotonic()
            try:
                reply = await store.claim(
                    self._worker, self._kind, token, limit, self._lease_ms, slots=self._table.slots
                )
            except StoreCorrupt as error:
                self._broken_until_s[store.queue] = time.monotonic() + IDLE_S
                self._next_due_ms.pop(store.queue, None)
                self._table.forget_claim(store)
                if store.queue not in self._broken:
                    self._broken.add(store.queue)
                    emit(
                        events.STORE_TROUBLE, redis=error.address, error=f"queue {store.queue!r} stands still: {error}"
                    )
                return NOTHING
            except StoreError as error:
                if self._stopping.is_set():
                    return None
                await self._outage.wait(error)
                await self._or_stop(self._leases.renewed())  # after an outage: renew, settle, claim
                await self._or_stop(self._settler.wait_until_quiet())
                continue
            if reply.jobs and (time.monotonic() - sent_at_s) * 1000 > self._lease_ms / 2:
                # The loop was blocked, or Redis slow: others may have taken these meanwhile, or our own renewals have
                # handed them back (renew.lua counts on this limit). The same token again renews and returns what is
                # still ours.
                continue
            break
        self._outage.over()
        self._broken.discard(store.queue)
        self._note(store, reply)
        self._on_claimed(store, token, reply.jobs)
        return reply

    def _note(self, store: Store, reply: ClaimReply) -> None:
        self._clock.saw(reply.now_ms)
        self._claimed_at_s[store.queue] = time.monotonic()
        self.lease_counts[store.queue] = reply.lease_count
        self._next_due_ms[store.queue] = reply.next_due_ms
        if reply.standby and store.queue not in self._standby:
            emit(events.WORKER_STANDBY, worker=self._worker, queue=store.queue)
            self._standby.add(store.queue)
        elif not reply.standby:
            self._standby.discard(store.queue)

    async def _wait_for_slot(self) -> bool:
        """Wait until a slot is free; False when the worker stops, or has something else to look at."""
        if self._table.free > 0:
            return True
        await _first_of(self._table.wait_for_slot(), self._called_up.wait(), timeout_s=FORGET_S)
        return self._table.free > 0 and not self._stopping.is_set()

    async def _wait_for_jobs(self, burst: Burst | None) -> None:
        """Until a wake marker, the next due time, or two seconds."""
        timeout_s = BURST_LOOK_S if burst and (burst is not Burst.ALL or len(self._table)) else IDLE_S
        due_ms = min((at_ms for at_ms in self._next_due_ms.values() if at_ms), default=0)
        if due_ms:
            timeout_s = min(timeout_s, max(0.001, self._clock.seconds_until(due_ms)))
        # The marker of a queue that an external worker serves is for that worker: do not take it away.
        bases = [store.base for store in self._stores if store.queue not in self._standby]
        if not bases:
            await self._waiter.aclose()  # a pop that it left outstanding would take a marker of theirs
            self._waiter_bases = bases
            await self._or_stop(asyncio.sleep(IDLE_S))
            return
        try:
            await self._wait_for_marker(bases, timeout_s)
        except StoreError as error:
            await self._outage.wait(error)

    async def _wait_for_marker(self, bases: list[bytes], timeout_s: float) -> None:
        if bases != self._waiter_bases:
            await self._waiter.aclose()
            self._waiter, self._waiter_bases = self._make_waiter(bases), bases
            self._waiter.tell_spare(self._called_up.set)
        if not self._stopping.is_set():
            await self._waiter.wait(timeout_s)

    async def _or_stop(self, event: Coroutine[Any, Any, None]) -> None:
        """Wait for ``event``, but no longer than until the worker stops."""
        await _first_of(event, self._stopping.wait())


async def _first_of(*events: Coroutine[Any, Any, object], timeout_s: float | None = None) -> None:
    waits = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
