"""A job passes through the app's middleware before it is sent: alone, with others, or where nothing can be awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from arq_web.errors import InvalidHeaders, InvalidMiddleware, PayloadTooLarge
from arq_web.middleware import CallNext, OutgoingJob, name_of, outside
from arq_web.store.messages import NewJob
from arq_web.store.record import with_headers

if TYPE_CHECKING:
    from arq_web.queue import Queue

H = TypeVar("H")

MOST_HEADER_BYTES = 4096
"""Of a job's headers as JSON: they are read and written with each of its transitions."""

_GIVE_A_HANDLE = "An enqueue must give a handle: return await call_next(job), or raise an error of your own."


class Passage(Generic[H]):
    """The way of one job from its ``enqueue`` to what sends it. Gives the handle that the sending gave."""

    def __init__(self, queue: Queue, new: NewJob, batch_count: int = 1) -> None:
        """Of a batch of so many jobs."""
        self._queue, self._new, self._batch_count = queue, new, batch_count
        self._layers = queue.queues.enqueue_middleware
        self._innermost = 0
        self._has_arrived = False
        self._handles: list[H] = []
        self._error: BaseException | None = None

    async def through(self, send: Callable[[NewJob], Awaitable[H]]) -> H:
        """Pass it through the layers; in the middle of them ``send`` it as it has become.

        Raises:
            InvalidHeaders, PayloadTooLarge: what the layers made of it cannot be sent.
            InvalidMiddleware: a layer gave no handle and no error, or did what none may.
            Exception: what a layer or ``send`` raised.
        """

        async def arrive(job: OutgoingJob) -> H:
            try:
                handle = await send(self._checked(job))
            except BaseException as error:
                self._error = error
                raise
            self._handles.append(handle)
            return handle

        call: CallNext[OutgoingJob] = arrive
        for index in range(len(self._layers) - 1, -1, -1):
            call = self._entered(index, outside(self._layers[index], call))
        new = self._new
        await call(OutgoingJob(new.id, new.task, self._queue.name, {}, new.payload, self._batch_count))
        if not self._handles:
            raise self._without_handle() from self._error
        return self._handles[0]

    def through_now(self, send: Callable[[NewJob], H], where: str) -> H:
        """The same without waiting for anything: in the caller's own thread and context, ``where`` nobody awaits.

        Raises:
            InvalidMiddleware: also where a layer waits for something.
        """

        async def send_now(new: NewJob) -> H:
            return send(new)

        passing = self.through(send_now)
        try:
            passing.send(None)
        except StopIteration as done:
            return cast("H", done.value)
        waits = _what_waits(passing)
        with contextlib.suppress(RuntimeError):  # it ignores its end: what it wanted is not done either way
            passing.close()
        raise InvalidMiddleware(
            name_of(self._layers[self._innermost]),
            f"waits for something (in {waits}), and the enqueue was {where}, which is not awaited",
            "Look it up before, in the request for example, and leave it in a context variable; "
            "or enqueue with await queue.enqueue(...).",
        )

    def _entered(self, index: int, call: CallNext[OutgoingJob]) -> CallNext[OutgoingJob]:
        def enter(job: OutgoingJob) -> Awaitable[Any]:
            self._innermost = index
            return call(job)

        return enter

    def _checked(self, job: OutgoingJob) -> NewJob:
        """What is sent for it now."""
        new, task = self._new, self._new.task
        layer = name_of(self._layers[self._innermost])
        if self._has_arrived:
            raise InvalidMiddleware(layer, "called call_next twice around one enqueue", "Call it once.")
        self._has_arrived = True
        if (job.id, job.task, job.queue) != (new.id, task, self._queue.name):
            why = "changed the id, the task or the queue of a job"
            raise InvalidMiddleware(layer, why, "Only its headers and its payload may be changed.")
        if not isinstance(job.payload, bytes):
            why = f"made the payload a {type(job.payload).__name__}"
            raise InvalidMiddleware(layer, why, "It must be bytes.")
        limit_bytes = self._queue.queues.config.max_payload_bytes
        if len(job.payload) > limit_bytes:
            raise PayloadTooLarge(task, len(job.payload), limit_bytes)
        extra = _extra(new, job.headers) if job.headers else new.extra
        return msgspec.structs.replace(new, payload=job.payload, extra=extra)

    def _without_handle(self) -> InvalidMiddleware:
        layer = name_of(self._layers[self._innermost])
        if self._error is not None:
            return InvalidMiddleware(layer, f"swallowed {type(self._error).__name__}", _GIVE_A_HANDLE)
        return InvalidMiddleware(layer, "returned without calling call_next", _GIVE_A_HANDLE)


async def through_together(
    passages: Sequence[Passage[H]], send: Callable[[list[NewJob]], Awaitable[list[H]]]
) -> list[H]:
    """Pass many jobs, each through the layers on its own; when all have arrived, ``send`` them at once, in their order.

    If one does not arrive, nothing is sent, and the others are cancelled where they are.

    Raises:
        Exception: that of the first job that has one.
    """
    loop = asyncio.get_running_loop()
    arrived: dict[int, tuple[NewJob, asyncio.Future[H]]] = {}
    all_here: asyncio.Future[None] = loop.create_future()

    def place(index: int) -> Callable[[NewJob], Awaitable[H]]:
        async def wait_for_the_others(new: NewJob) -> H:
            answer: asyncio.Future[H] = loop.create_future()
            arrived[index] = new, answer
            if len(arrived) == len(passages):
                all_here.set_result(None)
            return await answer

        return wait_for_the_others

    passing = [asyncio.create_task(each.through(place(at))) for at, each in enumerate(passages)]
    try:
        waited: list[asyncio.Future[Any]] = [all_here, *passing]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if all_here.done():
            await _send_all([arrived[at] for at in range(len(passages))], send)
            await asyncio.wait(passing)
        for task in passing:
            if task.done():  # all are, or one has failed
                task.result()
        return [task.result() for task in passing]
    finally:
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


async def _send_all(
    jobs: Sequence[tuple[NewJob, asyncio.Future[H]]], send: Callable[[list[NewJob]], Awaitable[list[H]]]
) -> None:
    """Each layer hears of its own job's handle, or of the error that is everybody's."""
    try:
        handles = await send([new for new, _ in jobs])
    except Exception as error:  # noqa: BLE001 - it goes out through the layers
        for _, answer in jobs:
            if not answer.done():
                answer.set_exception(error)
    else:
        for (_, answer), handle in zip(jobs, handles, strict=True):
            if not answer.done():  # else its layer has given up waiting
                answer.set_result(handle)


def _extra(new: NewJob, headers: dict[str, str]) -> bytes:
    """The end of the record's line, with the headers.

    Raises:
        InvalidHeaders: they are not text, or too long.
    """
    if not isinstance(headers, dict):
        raise InvalidHeaders(new.task, f"they are a {type(headers).__name__}")
    for name, text in headers.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InvalidHeaders(new.task, f"{name!r} is a {type(name).__name__} with a {type(text).__name__}")
    try:
        size_bytes = len(msgspec.json.encode(headers))
        if size_bytes <= MOST_HEADER_BYTES:
            return with_headers(new.extra, headers)
    except UnicodeEncodeError as error:
        raise InvalidHeaders(new.task, "they hold half of a surrogate pair, which is no text") from error
    raise InvalidHeaders(new.task, f"they take {size_bytes:,} bytes, and the limit is {MOST_HEADER_BYTES:,}")


def _what_waits(passing: Coroutine[Any, Any, object]) -> str:
    """The innermost coroutine of one that waits: what it called to wait."""
    innermost = cast("CoroutineType[Any, Any, Any]", passing)
    while isinstance(innermost.cr_await, CoroutineType):
        innermost = innermost.cr_await
    return f"{innermost.__qualname__}()"
