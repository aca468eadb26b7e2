"""The relay: claims rows, enqueues them, deletes them. Each process of the app has one, and may die at any point.

What makes it once: the row is deleted only when Redis has answered, so it is relayed again if anything fails before;
and Redis knows by the row's receipt what it has answered before. A relay that stood still between its claim and its
request comes too late by the clock of Redis, and is told so. That clock is read before the claim, so that the time of
the request ends before that of the claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from arq_web import events
from arq_web.errors import StoreError, StoreFull, StoreUnavailable
from arq_web.events import emit
from arq_web.outbox.database import CLAIM_MS, OutboxDatabase, Refusal
from arq_web.outbox.rows import StoredRow, job_of
from arq_web.queue import QueueSet
from arq_web.store.relaying import RECEIPT_MS, RelayAnswer, RelayedRow, RelayOutcome, RelayStore

VALID_MS = 20_000
"""How long a request may be on its way: less than a claim holds."""
UNKNOWN_AFTER_MS = RECEIPT_MS - 86_400_000
"""A row that was tried so long ago may have been enqueued, and its receipt be gone: it is shown, not guessed at."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
LONGEST_REFUSAL_S = 3600
FINISH_S = 1.0
"""A relay that is to stop has so long to end what it has begun: else its rows wait until its claim has passed."""

T = TypeVar("T")


@dataclass(slots=True)
class _Batch:
    """One claim, and what became of its rows."""

    token: str
    done: list[StoredRow] = field(default_factory=list)
    refused: list[tuple[StoredRow, Refusal]] = field(default_factory=list)
    released: list[StoredRow] = field(default_factory=list)
    trouble: StoreError | None = None


class Relay:
    """Enqueues the rows of an outbox, in one process. See ``arq_web.worker.companion``."""

    name = "outbox"

    def __init__(self, database: OutboxDatabase, queues: QueueSet, *, poll_s: float, running: set[Relay]) -> None:
        self._database, self._queues, self._poll_s, self._running = database, queues, poll_s, running
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._relaying = asyncio.Lock()
        """``catch_up`` is to return when a batch of ``run`` is enqueued, too: a burst looks for its jobs then."""
        self._stalled_since_s: float | None = None
        self._trouble = ""
        self._tries = 0

    async def run(self) -> None:
        """Relay what is there, and what comes, until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._running.add(self)
        try:
            while True:
                self._wake.clear()
                if await self._relay_all():
                    await self._sleep_until_woken(self._poll_s * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret
                else:
                    await asyncio.sleep(self._wait_s())
        finally:
            self._running.discard(self)

    async def catch_up(self) -> None:
        """Relay what is there now."""
        await self._relay_all()

    def wake(self) -> None:
        """Look now. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                self._loop.call_soon_threadsafe(self._wake.set)

    async def relay_batch(self) -> int:
        """Relay the rows that come next, as many as one claim takes; how many there were.

        Raises:
            StoreError: Redis is away; the rows are there still.
            Exception: whatever the database and its driver raise.
        """
        names = await self._database.waiting_queues()
        if not names:
            return 0
        stores = {name: self._store(name) for name in names}
        clocks = await asyncio.gather(*(store.server_now_ms() for store in stores.values()))
        until_ms = {name: now_ms + VALID_MS for name, now_ms in zip(stores, clocks, strict=True)}
        batch = _Batch(secrets.token_hex(16))
        rows = await self._database.claim(batch.token, names)
        groups = [[row for row in rows if row.queue == name] for name in names]
        await asyncio.gather(
            *(self._send(batch, stores[group[0].queue], group, until_ms[group[0].queue]) for group in groups if group)
        )
        await self._end(batch, stores)
        if batch.trouble is not None:
            raise batch.trouble
        return len(rows)

    async def _send(self, batch: _Batch, store: RelayStore, rows: Sequence[StoredRow], until_ms: int) -> None:
        """Enqueue the rows of one queue."""
        sent: list[tuple[StoredRow, RelayedRow]] = []
        for row in rows:
            try:
                sent.append((row, _checked(row)))
            except ValueError as error:
                is_certain = row.tried_ms < UNKNOWN_AFTER_MS
                batch.refused.append((row, _refusal(row, str(error), is_certain=is_certain)))
        try:
            answers = await store.relay([job for _, job in sent], valid_until_ms=until_ms)
        except (StoreUnavailable, StoreFull) as error:  # it is for all of them, and passes
            batch.released += [row for row, _ in sent]
            batch.trouble = error
        except StoreError as error:
            batch.refused += [(row, _refusal(row, str(error), is_certain=False)) for row, _ in sent]
        else:
            for (row, _), answer in zip(sent, answers, strict=True):
                self._note(batch, row, answer)

    def _note(self, batch: _Batch, row: StoredRow, answer: RelayAnswer) -> None:
        match answer.outcome:
            case RelayOutcome.CREATED | RelayOutcome.EXISTS:
                batch.done.append(row)
                is_new = answer.outcome is RelayOutcome.CREATED
                emit(events.JOB_ENQUEUED, job=answer.word, task=row.task, queue=row.queue, created=is_new)
            case RelayOutcome.CONFLICT:
                why = f"its id belongs to a job of {answer.word!r}"
                batch.refused.append((row, _refusal(row, why)))
            case RelayOutcome.CORRUPT:
                why = f"what Redis holds for job {row.job_id!r} is not one of our records"
                batch.refused.append((row, _refusal(row, why)))
            case RelayOutcome.LATE:  # our claim has passed, or soon will: whoever takes the row next sees to it
                pass

    async def _end(self, batch: _Batch, stores: dict[str, RelayStore]) -> None:
        refused = {row.id: refusal for row, refusal in batch.refused}
        done, released = [row.id for row in batch.done], [row.id for row in batch.released]
        if done or refused or released:
            await self._database.end(batch.token, done, refused, released)
        for row, refusal in batch.refused:
            emit(
                events.OUTBOX_REFUSED,
                row=row.id,
                job=row.job_id,
                task=row.task,
                queue=row.queue,
                refusals=refusal.refusals,
                error=refusal.error,
            )
        # Only now that the rows are gone. If this fails the receipts go by themselves, later.
        with contextlib.suppress(StoreError):
            for name, store in stores.items():
                await store.forget([row.receipt for row in batch.done if row.queue == name])

    async def _relay_all(self) -> bool:
        """Relay until nothing is left; False when something stands in the way."""
        try:
            async with self._relaying:
                while await _to_its_end(self.relay_batch()):
                    pass
        except Exception as error:  # noqa: BLE001 - the database, its driver, Redis: the rows wait until it is back
            self._note_trouble(error)
            return False
        if self._stalled_since_s is not None:
            emit(events.OUTBOX_RESUMED, after_s=time.monotonic() - self._stalled_since_s)
            self._stalled_since_s, self._trouble, self._tries = None, "", 0
        return True

    def _note_trouble(self, error: Exception) -> None:
        self._tries += 1
        self._stalled_since_s = self._stalled_since_s or time.monotonic()
        words = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"  # without SQLAlchemy's page of SQL
        if type(error).__name__ != self._trouble:  # once for each kind: it may last for hours
            self._trouble = type(error).__name__
            emit(events.OUTBOX_STALLED, error=words)

    def _wait_s(self) -> float:
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._tries - 1, 10))
        return wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret

    async def _sleep_until_woken(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._wake.wait()

    def _store(self, name: str) -> RelayStore:
        """Of any name: who wrote the row knew its queues, and may be a newer version of the app."""
        return RelayStore(self._queues.connections, self._queues.config.namespace, name)


def _checked(row: StoredRow) -> RelayedRow:
    if row.tried_ms >= UNKNOWN_AFTER_MS:
        raise ValueError(
            f"it was tried {row.tried_ms // 86_400_000} days ago, and nobody knows any more if it was enqueued then. "
            "Delete the row if its job has run; else set its tried_ms to NULL"
        )
    try:
        return job_of(row)
    except ValueError as error:
        raise ValueError(f"its columns cannot be read: {error}") from error


def _refusal(row: StoredRow, error: str, *, is_certain: bool = True) -> Refusal:
    wait_s = min(LONGEST_REFUSAL_S, 2 ** min(row.refusals + 1, 12))
    return Refusal(error, wait_s * 1000, row.refusals + 1, is_certain)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, for as long as its claim holds; when cancelled, let it come to its end first, for a moment."""
    running = asyncio.ensure_future(asyncio.wait_for(work, CLAIM_MS / 1000))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,), timeout=FINISH_S)
        running.cancel()
        raise
