"""Single enqueues of one loop tick leave as one script: a web process with a hundred requests at hand asks Redis once.

A script costs Redis and this process several times what one more job in it costs (docs/explanation/performance.md).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Final

from arq_web.errors import StoreError
from arq_web.store import scripts
from arq_web.store.connection import Connection, Reply
from arq_web.store.messages import NewJob, in_parts
from arq_web.store.replies import NoScript

_CREATED_OR_EXISTS: Final = (0, 1)
_Waiting = tuple[NewJob, "asyncio.Future[list[Reply]]"]


class Gatherer:
    """Those of one queue. Each caller gets the answer it would have got alone.

    Args:
        connection_of: gives the running loop's connection.
        base: begins the queue's keys.
    """

    def __init__(self, connection_of: Callable[[], Connection], base: bytes) -> None:
        self._connection_of, self._base = connection_of, base
        self._waiting: dict[Connection, list[_Waiting]] = {}
        self._alone: set[asyncio.Task[None]] = set()

    async def enqueue(self, job: NewJob) -> list[Reply]:
        """Send one job with the others of this tick; what ``enqueue.lua`` answers for it.

        Raises:
            StoreError: as ``Connection.execute``.
        """
        connection = self._connection_of()
        if connection.is_congested:  # then it waits its turn: gathered, it would pile up behind the line
            return await self._run_alone(connection, job)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Reply]] = loop.create_future()
        waiting = self._waiting.get(connection)
        if waiting is None:
            waiting = self._waiting[connection] = []
            loop.call_soon(self._send, connection)
        waiting.append((job, future))
        return await future

    def _send(self, connection: Connection) -> None:
        waiting = [(job, future) for job, future in self._waiting.pop(connection) if not future.done()]
        sent = 0
        for jobs in in_parts([job for job, _ in waiting]):
            part = waiting[sent : sent + len(jobs)]
            sent += len(jobs)
            command = ("EVALSHA", scripts.ENQUEUE.script.sha, 1, self._base, *enqueue_arguments(jobs))
            try:
                reply = connection.submit(*command)
            except StoreError as error:  # it was closed
                _fail(part, error)
            else:
                reply.add_done_callback(functools.partial(self._answer, connection, part))

    def _answer(self, connection: Connection, part: Sequence[_Waiting], sent: asyncio.Future[Reply]) -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        reply = None if error is not None else sent.result()
        if isinstance(error, NoScript) or (len(part) > 1 and _is_refused(reply)):
            for job, future in part:  # nothing was written, and one of them need not be the others' trouble
                self._send_alone(connection, job, future)
        elif error is not None:
            _fail(part, error)
        elif isinstance(reply, list) and len(reply) == 1 + 2 * len(part):
            for number, (_, future) in enumerate(part):
                if not future.done():
                    future.set_result([reply[0], *reply[1 + 2 * number : 3 + 2 * number]])
        else:  # of one job, and no list of answers: the caller has the words for it
            _tell(part[0][1], reply)

    def _send_alone(self, connection: Connection, job: NewJob, future: asyncio.Future[list[Reply]]) -> None:
        async def run() -> None:
            try:
                _tell(future, await self._run_alone(connection, job))
            except StoreError as error:
                _fail([(job, future)], error)

        task = asyncio.get_running_loop().create_task(run(), name="arq_web.enqueue")
        self._alone.add(task)
        task.add_done_callback(self._alone.discard)

    async def _run_alone(self, connection: Connection, job: NewJob) -> list[Reply]:
        reply = await connection.run_script(scripts.ENQUEUE.script, (self._base,), enqueue_arguments([job]))
        return reply if isinstance(reply, list) else [reply]


def enqueue_arguments(jobs: Sequence[NewJob]) -> list[scripts.Argument]:
    """What ``enqueue.lua`` is called with."""
    rest: list[scripts.Argument] = []
    for job in jobs:
        rest += job.arguments()
    return scripts.ENQUEUE.arguments(rest)


def _is_refused(reply: Reply | None) -> bool:
    return not isinstance(reply, list) or reply[1] not in _CREATED_OR_EXISTS


def _tell(future: asyncio.Future[list[Reply]], reply: Reply | None) -> None:
    if not future.done():
        future.set_result(reply if isinstance(reply, list) else [reply])


def _fail(part: Sequence[_Waiting], error: BaseException) -> None:
    for _, future in part:
        if not future.done():
            # One exception each: a shared one would collect the tracebacks of all who wait.
            each = type(error)(error.address, error.why) if isinstance(error, StoreError) else error
            future.set_exception(each)
