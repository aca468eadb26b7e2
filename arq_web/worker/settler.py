"""Sends settlements in groups, and keeps each until Redis has acknowledged it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from arq_web import events
from arq_web.errors import StoreCorrupt, StoreError
from arq_web.events import emit
from arq_web.store.store import Settled, Settlement, Store
from arq_web.worker.leases import LeaseKeeper
from arq_web.worker.outage import WRONG_TYPE, Outage

GROUP_COUNT = 500
GROUP_BYTES = 4 << 20
TRY_BROKEN_S = 2.0
"""Between looks whether somebody has mended a queue's index."""


class _Entry(msgspec.Struct, frozen=True):  # followed by the collector: `done` leads to the worker, and back
    store: Store
    settlement: Settlement
    done: Callable[[Settled], None]


class Settler:
    """One settle at a time: what comes meanwhile forms the next group, so load makes the groups larger by itself."""

    def __init__(self, worker: str, leases: LeaseKeeper, outage: Outage) -> None:
        self._worker, self._leases, self._outage = worker, leases, outage
        self._waiting: deque[_Entry] = deque()
        self._parked: dict[Store, list[_Entry]] = {}
        self._broken: set[Store] = set()
        self._arrived = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def put(self, store: Store, settlement: Settlement, done: Callable[[Settled], None]) -> None:
        """Settle; ``done`` is called with the answer, once Redis has given it."""
        self._waiting.append(_Entry(store, settlement, done))
        self._quiet.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Work until cancelled. A lost Redis is waited out; nothing is forgotten."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                group = self._next_group()
                await self._settle(group)
            self._quiet.set()

    async def wait_until_quiet(self) -> None:
        """Return when everything that was put is acknowledged (but what waits for a broken index to be mended)."""
        await self._quiet.wait()

    def _next_group(self) -> list[_Entry]:
        """Entries of one queue, in their order, within the limits of one command."""
        store, group, size = self._waiting[0].store, list[_Entry](), 0
        while self._waiting and self._waiting[0].store is store and len(group) < GROUP_COUNT and size < GROUP_BYTES:
            entry = self._waiting.popleft()
            size += len(entry.settlement.note)
            group.append(entry)
        return group

    async def _settle(self, group: list[_Entry]) -> None:
        store = group[0].store
        while True:
            if store in self._parked:
                self._parked[store].extend(group)
                return
            try:
                answers = await store.settle(self._worker, [entry.settlement for entry in group])
            except StoreCorrupt as error:
                if WRONG_TYPE in str(error):
                    self._park(group, error)
                else:
                    await self._settle_singly(group, error)
                return
            except StoreError as error:
                await self._outage.wait(error)
                await self._leases.renewed()  # owners first: what we settle must still be ours
                continue
            self._outage.over()
            self._broken.discard(store)
            for entry, answer in zip(group, answers, strict=True):
                _tell(entry, answer)
            return

    def _park(self, group: list[_Entry], error: StoreCorrupt) -> None:
        """Somebody overwrote an index of the queue: until it is mended nothing of the queue moves, and nothing is lost.

        Given up, the attempts would begin again as soon as it is mended: so they keep slot and lease, and nobody waits.
        """
        store = group[0].store
        if store not in self._broken:
            self._broken.add(store)
            emit(events.STORE_TROUBLE, redis=error.address, error=f"queue {store.queue!r} stands still: {error}")
        self._parked[store] = group
        asyncio.get_running_loop().call_later(TRY_BROKEN_S, self._unpark, store)

    def _unpark(self, store: Store) -> None:
        self._waiting.extend(self._parked.pop(store))
        self._arrived.set()

    async def _settle_singly(self, group: list[_Entry], error: StoreCorrupt) -> None:
        """One entry broke the script: the others must not suffer. The broken one's lease lapses: it is reclaimed."""
        if len(group) == 1:
            emit(events.STORE_TROUBLE, redis=error.address, error=str(error))
            _tell(group[0], Settled.LOST)
            return
        for entry in group:
            await self._settle([entry])


def _tell(entry: _Entry, answer: Settled) -> None:
    """One listener that fails must not keep the others of the group from hearing theirs."""
    try:
        entry.done(answer)
    except Exception as error:  # noqa: BLE001 - whatever it is, the group is settled
        emit(events.HELPER_FAILED, helper=f"settlement of {entry.settlement.job_id}", error=repr(error))
