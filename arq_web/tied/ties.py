"""The three ways to tie an enqueue, for both queues: the one that is awaited and the one of threads."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from arq_web.errors import MissingExtra, NothingToTieTo
from arq_web.tied.response import awaited_response
from arq_web.tied.tie import Target, Tie

if TYPE_CHECKING:
    from arq_web.queue import Queue
    from arq_web.tied.transaction import AnySession

OutboxTarget: TypeAlias = "Callable[[AnySession], Target]"
"""What an app's outbox makes of a session."""


class Ties(ABC):
    """A queue whose enqueues may wait for a response, or be part of a transaction."""

    @property
    def after_response(self) -> Tie:
        """Enqueue when the request has ended, and only if it went well: ``queue.after_response.enqueue(task, ...)``.

        Went well: the response was below 400 and was handed over, and nothing was raised before or after it (by
        dependencies that close, by background tasks). The weakest of the three: a process that is killed after the
        response, or a Redis that does not answer then, loses the job (and logs ``enqueue.failed``).

        Raises:
            NothingToTieTo: no request is answered here.
        """
        queue, _ = self._anchor()
        return Tie(queue, awaited_response(), "after_response")

    def after_commit(self, session: AnySession) -> Tie:
        """Enqueue when the session's transaction was committed: ``queue.after_commit(session).enqueue(task, ...)``.

        Dropped by a rollback, also by that of a savepoint. All that one transaction enqueues leaves in one round trip,
        before ``commit()`` returns. The commit stands whatever happens then: a process that is killed in between, or a
        Redis that does not answer, loses the job (and logs ``enqueue.failed``). The outbox does not.

        Args:
            session: a ``Session`` or ``AsyncSession`` of SQLAlchemy (2.0 or newer), or a scoped one.

        Raises:
            NothingToTieTo: it is no session, or has no transaction and may begin none.
        """
        try:
            from arq_web.tied.transaction import Enqueue, TransactionEnd, session_of  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise MissingExtra("SQLAlchemy (for queue.after_commit)", "sqlalchemy") from error
        queue, loop = self._anchor()
        if loop is None:
            why = "this is a thread, in which nothing can be awaited"
            raise NothingToTieTo("after_commit", why, "Ask for a SyncQueue here, or call it on the event loop.")
        return Tie(queue, TransactionEnd(session_of(session, "after_commit"), Enqueue(loop)), "after_commit")

    def outbox(self, session: AnySession) -> Tie:
        """Write the job into your own database, with your own rows: ``queue.outbox(session).enqueue(task, ...)``.

        Both or none: whoever is killed, whenever. A relay enqueues it soon after the commit, once. ``delay=`` and
        ``expires=`` count from this call on.

        Args:
            session: a ``Session`` or ``AsyncSession`` of SQLAlchemy (2.0 or newer), or a scoped one, on the database
                that has the outbox's table.

        Raises:
            NothingToTieTo: the app has no outbox, or it is no session.
        """
        queue, _ = self._anchor()
        target = queue.queues.outbox
        if target is None:
            remedy = "Make one: ArqWeb(..., outbox=Outbox(engine, outbox_table(metadata))), from arq_web.outbox."
            raise NothingToTieTo("outbox", "this app has none", remedy)
        return Tie(queue, target(session), "outbox")

    @abstractmethod
    def _anchor(self) -> tuple[Queue, asyncio.AbstractEventLoop | None]:
        """The queue itself, and the loop on which it sends; None: there is none here."""
