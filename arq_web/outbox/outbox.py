"""``Outbox``: one per app. Writes rows in the user's sessions, and makes the relay that enqueues them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Session, registry

from arq_web.config import seconds
from arq_web.errors import InvalidConfig
from arq_web.outbox.database import AnyEngine, OutboxDatabase
from arq_web.outbox.relay import Relay
from arq_web.outbox.rows import values_of
from arq_web.outbox.table import check_table
from arq_web.queue import QueueSet
from arq_web.tied.pending import PendingJob
from arq_web.tied.tie import Target
from arq_web.tied.transaction import AnySession, TransactionEnd, Wait, session_of


class Outbox:
    """The outbox of an app: ``ArqWeb(app, outbox=Outbox(engine, outbox_rows))``."""

    def __init__(
        self, engine: AnyEngine | Callable[[], AnyEngine], table: Table, *, poll: timedelta | float = 5.0
    ) -> None:
        """Open nothing yet.

        Args:
            engine: of the database that has the table, async or not, or a function that returns it. The relay uses it
                in every process of the app, beside your own sessions.
            table: what ``outbox_table(metadata)`` returned.
            poll: how often each process looks for rows that others have left, seconds or timedelta. Its own are
                relayed at once after their commit.

        Raises:
            InvalidConfig: the table is not an outbox's, or poll is not between 0.1 s and an hour.
        """
        self._table = check_table(table)
        self._poll_s = seconds(poll)
        if not 0.1 <= self._poll_s <= 3600:
            raise InvalidConfig("poll", poll, "between 0.1 seconds and an hour")
        self._database = OutboxDatabase(engine, table)
        # A class for the unit of work: it knows savepoints, the order of inserts, and how to insert many at once.
        self._row_class: type[Any] = type("OutboxRow", (), {})
        registry().map_imperatively(self._row_class, table)
        self._relays: set[Relay] = set()

    def target(self, session: AnySession) -> Target:
        """Where ``queue.outbox(session)`` puts its jobs."""
        return _Rows(self, session_of(session, "outbox"))

    def relay(self, queues: QueueSet) -> Relay:
        """What enqueues the rows, in one process: its ``run()`` goes on until cancelled."""
        return Relay(self._database, queues, poll_s=self._poll_s, running=self._relays)

    def wake(self) -> None:
        """There is a new row: let this process relay it now. From any thread."""
        for relay in tuple(self._relays):
            relay.wake()

    def add(self, session: Session, jobs: Sequence[PendingJob[Any]]) -> None:
        """Add the rows of ``jobs`` to a session: they are inserted with its next flush."""
        for job in jobs:
            row = self._row_class()
            for column, value in values_of(job.queue.name, job.new).items():
                setattr(row, column, value)
            session.add(row)


@dataclass(frozen=True, slots=True)
class _Rows:
    outbox: Outbox
    session: Session

    def put(self, jobs: Sequence[PendingJob[Any]]) -> None:
        TransactionEnd(self.session, _Stored(self.outbox), "outbox").put(jobs)
        self.outbox.add(self.session, jobs)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The rows are committed: they cannot be lost any more, and need no more be waited for."""

    outbox: Outbox

    def __call__(self, jobs: Sequence[PendingJob[Any]]) -> Wait:
        for job in jobs:
            job.store()
        self.outbox.wake()
        return _nothing


def _nothing() -> None: ...
