"""What waits for the end of a SQLAlchemy session's transaction. Here, and in the outbox, SQLAlchemy is known.

A transaction of a session may have savepoints in it (``begin_nested``). What was put while one is open belongs to it:
to its parent when it is released, to nobody when it is rolled back. What belongs to the outermost one is acted upon
when that was committed; when it has ended in any other way, dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import event
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, SessionTransaction, scoped_session
from sqlalchemy.util import concurrency

from arq_web.errors import NothingToTieTo
from arq_web.tied import delivery
from arq_web.tied.pending import PendingJob

AnySession = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any]

_INFO_KEY = "arq_web_tied"
# Its name since SQLAlchemy 2.1 goes first, since the old one is to go.
_await: Any = getattr(concurrency, "await_", None) or concurrency.await_only


Wait = Callable[[], None]


class Action(Protocol):
    """What is done with jobs when their transaction was committed. Equal ones are done at once."""

    def __call__(self, jobs: Sequence[PendingJob[Any]]) -> Wait:
        """Begin it, in the thread of the commit; the commit calls what is returned before it returns itself.

        Neither raises. Not in one: a commit that is cancelled in between has been done, and so must this be.
        """
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Enqueue:
    """The action of ``after_commit``."""

    loop: asyncio.AbstractEventLoop
    """Where it is done if the commit comes in a thread."""

    def __call__(self, jobs: Sequence[PendingJob[Any]]) -> Wait:
        """Send them before the commit returns, wherever that can be waited for."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return delivery.begin_from_thread(jobs, "commit", self.loop)
        return functools.partial(_wait_in_greenlet, delivery.begin(jobs, "commit"))


@dataclass(frozen=True, slots=True)
class TransactionEnd:
    """The target of ``after_commit``."""

    session: Session
    action: Action
    what: str = "after_commit"

    def put(self, jobs: Sequence[PendingJob[Any]]) -> None:
        """Keep ``jobs`` until the session's transaction ends; begin one if there is none, as ``session.add`` does.

        Raises:
            NothingToTieTo: there is none, and the session does not begin any by itself.
        """
        _Waiting.of(self.session).put(jobs, self.action, _transaction_of(self.session, self.what))


def session_of(session: AnySession, what: str) -> Session:
    """The session underneath.

    Raises:
        NothingToTieTo: it is no session.
    """
    found: object = session
    if isinstance(found, scoped_session | async_scoped_session):
        found = found()
    if isinstance(found, AsyncSession):
        found = found.sync_session
    if not isinstance(found, Session):
        why = f"{type(session).__name__} is no session of SQLAlchemy"
        raise NothingToTieTo(what, why, "Pass the Session or AsyncSession whose commit it is to wait for.")
    return found


def _transaction_of(session: Session, what: str) -> SessionTransaction:
    if session.in_transaction():
        transaction = session.get_nested_transaction() or session.get_transaction()
        assert transaction is not None
        return transaction
    if not session.autobegin:
        why = "the session is in no transaction, and begins none by itself (autobegin=False)"
        raise NothingToTieTo(what, why, "Call session.begin() first.")
    return session.begin()


class _Waiting:
    """What waits in one session, by transaction. In the session's own ``info``, and gone with it."""

    def __init__(self, session: Session) -> None:
        self._by_transaction: dict[SessionTransaction | None, list[tuple[PendingJob[Any], Action]]] = {}
        self._waits: list[Wait] = []
        event.listen(session, "after_commit", self._after_commit)
        event.listen(session, "after_transaction_end", self._after_end)

    @classmethod
    def of(cls, session: Session) -> _Waiting:
        """That of ``session``."""
        waiting = session.info.get(_INFO_KEY)
        if not isinstance(waiting, cls):
            waiting = session.info[_INFO_KEY] = cls(session)
        return waiting

    def put(self, jobs: Sequence[PendingJob[Any]], action: Action, transaction: SessionTransaction) -> None:
        """Keep ``jobs`` until ``transaction`` ends."""
        self._by_transaction.setdefault(transaction, []).extend((job, action) for job in jobs)

    def _after_commit(self, session: Session) -> None:
        """The session's innermost transaction was committed: a savepoint released, or all of it done."""
        nested = session.get_nested_transaction()
        if nested is None:
            self._begin(session.get_transaction())
        elif waiting := self._by_transaction.pop(nested, None):
            self._by_transaction.setdefault(_parent_of(nested), []).extend(waiting)

    def _begin(self, transaction: SessionTransaction | None) -> None:
        by_action: dict[Action, list[PendingJob[Any]]] = {}
        for job, action in self._by_transaction.pop(transaction, ()):
            by_action.setdefault(action, []).append(job)
        self._waits = [action(jobs) for action, jobs in by_action.items()]

    def _after_end(self, _session: Session, transaction: SessionTransaction) -> None:
        """Its connection is back in the pool now: nobody else need wait for what is waited for here."""
        for job, _ in self._by_transaction.pop(transaction, ()):
            job.drop("rolled back")
        if transaction.parent is None:
            waits, self._waits = self._waits, []
            for wait in waits:
                wait()


def _wait_in_greenlet(sending: asyncio.Task[None]) -> None:
    """Wait as the drivers of an async session wait; elsewhere on the loop's own thread, not at all.

    There it is a sync session, and waiting would block what we wait for.
    """
    with contextlib.suppress(MissingGreenlet, ImportError):
        _await(asyncio.shield(sending))


def _parent_of(nested: SessionTransaction) -> SessionTransaction:
    """The savepoint or transaction around it; a flush, which has one of its own, does not count."""
    parent = nested.parent
    while parent is not None and parent.parent is not None and not parent.nested:
        parent = parent.parent
    assert parent is not None
    return parent
