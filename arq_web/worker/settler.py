"""Sends settlements in groups, and keeps each until Redis has acknowledged it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from arq_web import events
from arq_web.errors import StoreCorrupt, StoreError
from arq_web.events import emit
from arq_web.store.store import Settled, Settlement, Store
from arq_web.worker.leases import LeaseKeeper
from arq_web.worker.outage import Outage

GROUP_COUNT = 500
GROUP_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _Entry:
    store: Store
    settlement: Settlement
    done: Callable[[Settled], None]


class Settler:
    """One settle at a time: what comes meanwhile forms the next group, so load makes the groups larger by itself."""

    def __init__(self, worker: str, leases: LeaseKeeper, outage: Outage) -> None:
        self._worker, self._leases, self._outage = worker, leases, outage
        self._waiting: deque[_Entry] = deque()
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
        """Return when everything that was put is acknowledged."""
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
        while True:
            try:
                answers = await group[0].store.settle(self._worker, [entry.settlement for entry in group])
            except StoreCorrupt as error:
                await self._settle_singly(group, error)
                return
            except StoreError as error:
                await self._outage.wait(error)
                await self._leases.renewed()  # owners first: what we settle must still be ours
                continue
            self._outage.over()
            for entry, answer in zip(group, answers, strict=True):
                _tell(entry, answer)
            return

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
