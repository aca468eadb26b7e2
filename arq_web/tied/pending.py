"""A job that is not enqueued yet: its id, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from arq_web import events
from arq_web.events import emit

if TYPE_CHECKING:
    from arq_web.queue import Queue
    from arq_web.store.store import Enqueued, NewJob
    from arq_web.task import Task

R_co = TypeVar("R_co", covariant=True)
Fate = Literal["waiting", "stored", "enqueued", "dropped", "failed"]
After = Literal["response", "commit"]


class PendingJob(Generic[R_co]):
    """What a tied ``enqueue`` returns at once. Its arguments are checked and encoded; nothing was sent yet.

    ``queue.job(pending.id, task)`` is the handle to look at it with, once it is enqueued.
    """

    __slots__ = ("_created", "_error", "_fate", "_id", "_new", "_queue", "_task")

    def __init__(self, queue: Queue, task: Task[..., R_co], new: NewJob) -> None:
        self._queue, self._task, self._new = queue, task, new
        self._id = new.id
        self._fate: Fate = "waiting"
        self._created: bool | None = None
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<PendingJob {self.id} {self._task.name} {self.fate}>"

    @property
    def id(self) -> str:
        """The job's id: chosen, or made for it. Once enqueued: of the job that answered (see ``unique=``)."""
        return self._id

    @property
    def queue(self) -> Queue:
        """Where it goes."""
        return self._queue

    @property
    def fate(self) -> Fate:
        """What became of it.

        ``waiting`` for the response or the commit; ``dropped`` with a refused response or a rollback; ``enqueued``;
        ``failed`` when Redis did not take it (see ``error``). In an outbox: ``stored`` once its row is committed, and
        from then on a relay sees to it.
        """
        return self._fate

    @property
    def created(self) -> bool | None:
        """As of ``Job``: False when it existed already. None while nobody knows."""
        return self._created

    @property
    def error(self) -> Exception | None:
        """Why it ``failed``."""
        return self._error

    @property
    def new(self) -> NewJob:
        """What will be sent (for tools; not part of the stable API)."""
        return self._new

    def drop(self, why: str) -> None:
        """What it was tied to did not come about."""
        self._fate = "dropped"
        emit(events.ENQUEUE_DROPPED, job=self.id, task=self._new.task, queue=self._queue.name, reason=why)

    def store(self) -> None:
        """Its row is committed."""
        self._fate = "stored"

    def answer(self, answer: Enqueued) -> None:
        """Redis has it."""
        self._fate, self._id, self._created = "enqueued", answer.id, answer.created

    def fail(self, error: Exception, after: After) -> None:
        """It is lost: the log says which one it was."""
        self._fate, self._error = "failed", error
        emit(
            events.ENQUEUE_FAILED,
            job=self.id,
            task=self._new.task,
            queue=self._queue.name,
            after=after,
            error=f"{type(error).__name__}: {error}",
        )
