"""What a relay does to the outbox's table: short transactions, none of which is open while Redis is asked.

A row is claimed for a while, by a token, before it is relayed, and deleted when Redis has answered. So a relay that
dies blocks its rows for that while and nobody else's, whatever the database does with the locks of lost connections;
and a claim is safe without locks, too: of two that read the same row, one changes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from arq_web.outbox.rows import StoredRow, row_of
from arq_web.outbox.table import now_ms

CLAIM_MS = 30_000
"""Nobody else takes a claimed row for so long."""
BATCH_COUNT = 100


T = TypeVar("T")
E = TypeVar("E", Engine, AsyncEngine)
AnyEngine = AsyncEngine | Engine
_HAVE_LEVELS = ("postgresql", "mysql", "mariadb")
_READ = ("id", "queue", "task", "job_id", "payload", "options", "receipt", "refusals")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row could not be relayed, and when it is to be tried again."""

    error: str
    wait_ms: int
    refusals: int
    """With this one."""
    is_certain: bool = True
    """It is known that nothing was enqueued for it."""

    def values(self) -> dict[str, Any]:
        """The columns to change."""
        # ASCII: whatever the character set of the column.
        error = self.error[:2000].encode("ascii", "backslashreplace").decode()
        until = now_ms() + self.wait_ms
        noted = {"claim": None, "claimed_until_ms": until, "refusals": self.refusals, "error": error}
        return {**noted, "tried_ms": None} if self.is_certain else noted


class OutboxDatabase:
    """The table in its database; any kind of engine."""

    def __init__(self, engine: AnyEngine | Callable[[], AnyEngine], table: Table) -> None:
        self._engine, self._table = engine, table

    async def waiting_queues(self) -> list[str]:
        """The queues of the rows that come next; none: there is nothing to do. Changes and locks nothing."""
        t = self._table
        first = select(t.c.queue).where(t.c.claimed_until_ms <= now_ms()).order_by(t.c.id).limit(BATCH_COUNT)
        asked = select(first.subquery().c.queue).distinct()
        return await self._run(lambda connection: list(connection.scalars(asked)))

    async def claim(self, token: str, queues: Sequence[str]) -> list[StoredRow]:
        """Take the first rows of ``queues`` that nobody has; in their order."""
        return await self._run(lambda connection: self._claim(connection, token, queues))

    async def end(
        self, token: str, done: Sequence[int], refused: Mapping[int, Refusal], released: Sequence[int]
    ) -> None:
        """End a claim: delete what was relayed, note what was refused, let go of the rest.

        Rows that the claim does not hold any more are left alone.
        """
        await self._run(lambda connection: self._end(connection, token, done, refused, released))

    def _claim(self, connection: Connection, token: str, queues: Sequence[str]) -> list[StoredRow]:
        t = self._table
        free = and_(t.c.claimed_until_ms <= now_ms(), t.c.queue.in_(queues))
        # Where rows can be locked, those of other relays, and of transactions that are not committed, are passed over.
        # Where not (SQLite), two may read the same, and the update takes what is still free when its turn comes.
        found = select(t.c.id).where(free).order_by(t.c.id).limit(BATCH_COUNT).with_for_update(skip_locked=True)
        ids = list(connection.scalars(found))
        if not ids:
            return []
        taken = {
            "claim": token,
            "claimed_until_ms": now_ms() + CLAIM_MS,
            "tried_ms": func.coalesce(t.c.tried_ms, now_ms()),
        }
        connection.execute(update(t).where(t.c.id.in_(ids), free).values(taken))
        columns = [t.c[name] for name in _READ]
        ages = [(now_ms() - t.c.created_ms).label("age_ms"), (now_ms() - t.c.tried_ms).label("tried_ms")]
        mine = select(*columns, *ages).where(t.c.claim == token).order_by(t.c.id)
        return [row_of({**each}) for each in connection.execute(mine).mappings()]

    def _end(
        self,
        connection: Connection,
        token: str,
        done: Sequence[int],
        refused: Mapping[int, Refusal],
        released: Sequence[int],
    ) -> None:
        t = self._table
        mine = t.c.claim == token
        if done:
            connection.execute(delete(t).where(t.c.id.in_(done), mine))
        if released:
            connection.execute(update(t).where(t.c.id.in_(released), mine).values(claim=None, claimed_until_ms=0))
        for row_id, refusal in refused.items():
            connection.execute(update(t).where(t.c.id == row_id, mine).values(refusal.values()))

    async def _run(self, work: Callable[[Connection], T]) -> T:
        engine = self._engine if isinstance(self._engine, (AsyncEngine, Engine)) else self._engine()
        if isinstance(engine, AsyncEngine):
            async with _leveled(engine).begin() as connection:
                return await connection.run_sync(work)
        return await asyncio.to_thread(_in_transaction, engine, work)


def _in_transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
    with _leveled(engine).begin() as connection:
        return work(connection)


def _leveled(engine: E) -> E:
    """Each statement is to see what is committed by then, however the user's own engine is set up."""
    return engine.execution_options(isolation_level="READ COMMITTED") if engine.dialect.name in _HAVE_LEVELS else engine
