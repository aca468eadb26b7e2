"""Claims jobs for free slots, and waits well when there are none."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from arq_web import events
from arq_web.errors import StoreError
from arq_web.events import emit
from arq_web.store.record import ClaimedJob
from arq_web.store.store import ClaimReply, Store, WorkerKind
from arq_web.worker.clock import ServerClock
from arq_web.worker.leases import LeaseKeeper
from arq_web.worker.outage import Outage
from arq_web.worker.running import RunningTable
from arq_web.worker.settler import Settler

if TYPE_CHECKING:
    from arq_web.store.connection import BlockingConnection

IDLE_S = 2.0
"""Longest wait for a wake marker: the marker is a hint, and a claim follows anyway."""

OnClaimed = Callable[[Store, str, list[ClaimedJob]], None]


class Claimer:
    """Takes jobs from the queues in strict order, for all free slots at once."""

    def __init__(
        self,
        stores: list[Store],
        table: RunningTable,
        waiting: BlockingConnection,
        *,
        worker: str,
        kind: WorkerKind,
        lease_ms: int,
        settler: Settler,
        leases: LeaseKeeper,
        outage: Outage,
        clock: ServerClock,
        on_claimed: OnClaimed,
    ) -> None:
        self._stores, self._table, self._waiting = stores, table, waiting
        self._worker, self._kind, self._lease_ms = worker, kind, lease_ms
        self._settler, self._leases, self._outage, self._clock = settler, leases, outage, clock
        self._on_claimed = on_claimed
        self._stopping = asyncio.Event()
        self._is_standby = False
        self._pending_retry_until_s = 0.0
        self.lease_counts: dict[str, int] = {}
        self._next_due_ms: dict[str, int] = {}

    def stop(self) -> None:
        """No claim begins any more; the wait ends."""
        self._stopping.set()
        self._waiting.wake()

    async def aclose(self) -> None:
        """Close the connection of the wait. Safe to repeat."""
        await self._waiting.aclose()

    def expect_retry(self, delay_ms: int) -> None:
        """A burst does not end before the retries that it caused itself have had their turn."""
        self._pending_retry_until_s = max(self._pending_retry_until_s, time.monotonic() + delay_ms / 1000 + 0.5)

    async def run(self, *, burst: bool) -> None:
        """Claim until stopped; in a ``burst``, until nothing is ready or running."""
        while not self._stopping.is_set():
            await self._wait_for_slot()
            if self._stopping.is_set():
                return
            wanted, got, ready_left = self._table.free, 0, 0
            for store in self._stores:
                reply = await self._claim(store, wanted - got)
                if reply is None:
                    return
                got += len(reply.jobs)
                ready_left += reply.ready_count
                if got >= wanted:
                    break
            if got >= wanted or (ready_left and not self._is_standby):
                continue
            if burst and not got and not len(self._table) and time.monotonic() >= self._pending_retry_until_s:
                return
            await self._wait_for_jobs(burst)

    async def _claim(self, store: Store, limit: int) -> ClaimReply | None:
        """One claim, sent with one token until it is answered; None when the worker stops meanwhile."""
        token = secrets.token_urlsafe(8)
        while True:
            try:
                reply = await store.claim(self._worker, self._kind, token, limit, self._lease_ms)
            except StoreError as error:
                if self._stopping.is_set():
                    return None
                await self._outage.wait(error)
                await self._leases.renewed()  # after an outage: renew, settle, claim
                await self._settler.wait_until_quiet()
                continue
            break
        self._outage.over()
        self._note(store, reply)
        self._on_claimed(store, token, reply.jobs)
        return reply

    def _note(self, store: Store, reply: ClaimReply) -> None:
        self._clock.saw(reply.now_ms)
        self.lease_counts[store.queue] = reply.lease_count
        self._next_due_ms[store.queue] = reply.next_due_ms
        if reply.standby and not self._is_standby:
            emit(events.WORKER_STANDBY, queue=store.queue)
        self._is_standby = reply.standby

    async def _wait_for_slot(self) -> None:
        if self._table.free > 0:
            return
        slot = asyncio.ensure_future(self._table.wait_for_slot())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((slot, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            slot.cancel()
            stop.cancel()

    async def _wait_for_jobs(self, burst: bool) -> None:
        """Until a wake marker, the next due time, or two seconds."""
        timeout_s = IDLE_S if not burst else 0.1
        due_ms = min((at_ms for at_ms in self._next_due_ms.values() if at_ms), default=0)
        if due_ms:
            timeout_s = min(timeout_s, max(0.001, self._clock.seconds_until(due_ms)))
        if self._is_standby:  # the marker is for the external worker: do not take it away
            await self._pause(IDLE_S)
            return
        try:
            await self._waiting.wait([store.base + b"wake" for store in self._stores], timeout_s)
        except StoreError as error:
            await self._outage.wait(error)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
