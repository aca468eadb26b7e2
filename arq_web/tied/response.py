"""``queue.after_response``: jobs that wait for the end of a request which went well."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from arq_web.errors import NothingToTieTo
from arq_web.tied import delivery
from arq_web.tied.pending import PendingJob

_WHAT = "after_response"


class AwaitedResponse:
    """The response of one request, and the jobs that wait for it. Handlers in threads may put theirs, too."""

    def __init__(self) -> None:
        self._jobs: list[PendingJob[Any]] = []
        self._is_over = False
        self._changing = threading.Lock()

    def put(self, jobs: Sequence[PendingJob[Any]]) -> None:
        """Keep ``jobs`` until the response is sent.

        Raises:
            NothingToTieTo: it was sent.
        """
        with self._changing:
            if self._is_over:
                why = "its request has ended, and its response was sent"
                raise NothingToTieTo(_WHAT, why, "In what goes on after a request, await queue.enqueue(...).")
            self._jobs += jobs

    async def send(self) -> None:
        """The request went well: enqueue them. Raises nothing; going on although it is cancelled."""
        if jobs := self._end():
            await asyncio.shield(delivery.begin(jobs, "response"))

    def drop(self, why: str) -> None:
        """It did not."""
        for job in self._end():
            job.drop(why)

    def _end(self) -> list[PendingJob[Any]]:
        with self._changing:
            self._is_over = True
            jobs, self._jobs = self._jobs, []
        return jobs


_current: ContextVar[AwaitedResponse | None] = ContextVar("arq_web_awaited_response", default=None)


@contextmanager
def awaiting_response() -> Iterator[AwaitedResponse]:
    """The response that everything in this block, and what it calls or starts, waits for."""
    awaited = AwaitedResponse()
    token = _current.set(awaited)
    try:
        yield awaited
    finally:
        _current.reset(token)


def awaited_response() -> AwaitedResponse:
    """The response of the request that is being answered here.

    Raises:
        NothingToTieTo: there is none.
    """
    awaited = _current.get()
    if awaited is None:
        why = "no HTTP request is answered here (this is a job, a websocket or a script), or its app has no ArqWeb"
        raise NothingToTieTo(_WHAT, why, "Here, await queue.enqueue(...).")
    return awaited
