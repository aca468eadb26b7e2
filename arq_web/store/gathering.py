"""Single enqueues of one loop tick leave as one script: a web process with a hundred requests at hand asks Redis once.

A script costs Redis and this process several times what one more job in it costs (docs/explanation/performance.md).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Final

from arq_web.errors import StoreRefused, StoreUnavailable
from arq_web.store import scripts
from arq_web.store.connection import Connection, Reply
from arq_web.store.messages import MOST_JOBS, NewJob
from arq_web.store.replies import NoScript

_MOST_BYTES: Final = 1_048_576
"""Of payloads that wait for the end of a tick; then they leave at once, and the next callers see a congested line."""
_CREATED_OR_EXISTS: Final = (0, 1)
NO_KEY: Final = "-"
"""Where no request is told from others by an idempotency key."""


class _Alone:
    """Says to a caller that its job did not get through with the others, and that nothing was written."""


_ALONE: Final = _Alone()
_Waiting = tuple[NewJob, "asyncio.Future[Reply | _Alone]"]


class Gatherer:
    """Those of one queue. Each caller gets the answer, or the error, that it would have got alone.

    Args:
        connection_of: gives the running loop's connection.
        base: begins the queue's keys.
    """

    def __init__(self, connection_of: Callable[[], Connection], base: bytes) -> None:
        self._connection_of, self._base = connection_of, base
        self._groups: dict[tuple[Connection, int], _Group] = {}

    async def enqueue(self, job: NewJob, max_queued: int = 0) -> Reply:
        """Send one job with the others of this tick (and of the same limit); what ``enqueue.lua`` answers for it.

        A caller that is cancelled before the tick ends sends nothing; later its job may be created all the same.

        Raises:
            StoreError: as ``Connection.execute``.
        """
        connection = self._connection_of()
        if connection.is_congested:  # then it waits its turn: gathered, it would pile up behind the line
            return await self._run_alone(connection, job, max_queued)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply | _Alone] = loop.create_future()
        group = self._groups.get((connection, max_queued)) or self._begin_group(connection, loop, max_queued)
        group.waiting.append((job, future))
        group.size_bytes += len(job.payload)
        if group.size_bytes >= _MOST_BYTES or len(group.waiting) == MOST_JOBS:
            self._send(connection, group)
        answer = await future
        return await self._run_alone(connection, job, max_queued) if isinstance(answer, _Alone) else answer

    def _begin_group(self, connection: Connection, loop: asyncio.AbstractEventLoop, max_queued: int) -> _Group:
        for other, left in list(self._groups.items()):  # hardly ever one: of another thread, or left behind
            if left.loop.is_closed():  # before its tick ended
                self._groups.pop(other, None)
        group = self._groups[connection, max_queued] = _Group(loop, max_queued)
        connection.before_flush(functools.partial(self._send, connection, group))
        return group

    def _send(self, connection: Connection, group: _Group) -> None:
        key = connection, group.max_queued
        if self._groups.get(key) is not group:  # it was full before its tick ended
            return
        del self._groups[key]
        part = [(job, future) for job, future in group.waiting if not future.done()]
        if part:
            self._submit(connection, group.max_queued, part, "EVALSHA", scripts.ENQUEUE.script.sha)

    def _submit(
        self, connection: Connection, max_queued: int, part: Sequence[_Waiting], verb: str, script: str | bytes
    ) -> None:
        try:
            arguments = enqueue_arguments([job for job, _ in part], max_queued)
            sent = connection.submit(verb, script, 1, self._base, *arguments)
        except Exception:  # noqa: BLE001 - it was closed, or one job cannot be put into bytes: each meets its own trouble
            _tell(part, [_ALONE] * len(part))
        else:
            sent.add_done_callback(functools.partial(self._answer, connection, max_queued, part))

    def _answer(
        self, connection: Connection, max_queued: int, part: Sequence[_Waiting], sent: asyncio.Future[Reply]
    ) -> None:
        error = sent.exception()
        if isinstance(error, NoScript):
            self._submit(connection, max_queued, part, "EVAL", scripts.ENQUEUE.script.text)
        elif isinstance(error, (StoreUnavailable, StoreRefused)) or (error and len(part) == 1):
            _fail(part, error)
        elif error is None and len(part) == 1:
            _tell(part, [sent.result()])
        elif error is None and (answers := _answers_of(sent.result(), len(part))):
            _tell(part, answers)
        else:  # nothing was written, and one of them need not be the others' trouble
            _tell(part, [_ALONE] * len(part))

    async def _run_alone(self, connection: Connection, job: NewJob, max_queued: int) -> Reply:
        arguments = enqueue_arguments([job], max_queued)
        return await connection.run_script(scripts.ENQUEUE.script, (self._base,), arguments)


class _Group:
    """Who waits for the end of one tick, on one connection."""

    __slots__ = ("loop", "max_queued", "size_bytes", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, max_queued: int) -> None:
        self.loop, self.max_queued = loop, max_queued
        self.waiting: list[_Waiting] = []
        self.size_bytes = 0


def enqueue_arguments(jobs: Sequence[NewJob], max_queued: int = 0, idempotency: str = NO_KEY) -> list[scripts.Argument]:
    """What ``enqueue.lua`` is called with."""
    rest: list[scripts.Argument] = []
    for job in jobs:
        rest += job.arguments()
    return scripts.ENQUEUE.arguments(rest, max_queued=max_queued, idempotency=idempotency)


def _answers_of(reply: Reply, job_count: int) -> list[Reply]:
    """What each job would have been answered alone; empty when the script refused all of them for one."""
    if not isinstance(reply, list) or len(reply) != 1 + 2 * job_count or reply[1] not in _CREATED_OR_EXISTS:
        return []
    return [[reply[0], *reply[at : at + 2]] for at in range(1, len(reply), 2)]


def _tell(part: Sequence[_Waiting], answers: Sequence[Reply | _Alone]) -> None:
    for (_, future), answer in zip(part, answers, strict=True):
        if not future.done():  # else its caller was cancelled
            future.set_result(answer)


def _fail(part: Sequence[_Waiting], error: BaseException) -> None:
    for _, future in part:
        if not future.done():
            # One exception each: a shared one would collect the tracebacks of all who wait.
            future.set_exception(type(error)(*error.args))
