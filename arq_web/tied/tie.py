"""What ``queue.after_response``, ``queue.after_commit(session)`` and ``queue.outbox(session)`` return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from arq_web.enqueuing import Passage
from arq_web.task import Call, Enqueueable
from arq_web.tied.pending import PendingJob

if TYPE_CHECKING:
    from arq_web.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Target(Protocol):
    """What jobs are tied to: it keeps them until it comes about, or drops them."""

    def put(self, jobs: Sequence[PendingJob[Any]]) -> None:
        """Keep ``jobs``, in this order, behind those that are here already.

        Raises:
            NothingToTieTo: it is over.
        """
        ...


class Tie:
    """A queue whose jobs are sent later. Nothing here is awaited: it is the same in ``def`` and ``async def`` code."""

    __slots__ = ("_queue", "_target", "_what")

    def __init__(self, queue: Queue, target: Target, what: str) -> None:
        """Made by the queue; ``what`` is how its user has called it."""
        self._queue, self._target, self._what = queue, target, what

    def enqueue(self, task: Enqueueable[P, R], *args: P.args, **kwargs: P.kwargs) -> PendingJob[R]:
        """Check and encode one call of ``task`` now; send it later. Not awaited.

        Returns:
            Its id, and what becomes of it.

        Raises:
            InvalidArguments, NotSerializable, PayloadTooLarge: the arguments do not fit, or do not travel.
            UnknownTask: the task is not registered in this app.
            InvalidOption: its queue is not declared.
            NothingToTieTo: what it was to wait for is over.
            InvalidMiddleware: one of the app's waits for something, and here nothing is awaited.
        """
        [job] = self.enqueue_many([Call(task.task, task.call_options, args, kwargs)])
        return job

    def enqueue_many(self, calls: Sequence[Call[R_co]]) -> list[PendingJob[R_co]]:
        """As ``enqueue``, for several calls: all of them, or none if one cannot be."""
        jobs = [self._prepared(call, len(calls)) for call in calls]
        self._target.put(jobs)
        return jobs

    def _prepared(self, call: Call[R_co], batch_count: int) -> PendingJob[R_co]:
        queue = self._queue.queue_of(call)
        new = queue.new_job(call)
        if not queue.queues.enqueue_middleware:
            return PendingJob(queue, call.task, new)
        passage = Passage[PendingJob[R_co]](queue, new, batch_count)
        return passage.through_now(lambda passed: PendingJob(queue, call.task, passed), f"by queue.{self._what}")
