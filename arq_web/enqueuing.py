"""A job passes through the app's middleware before it is sent: alone, with others, or where nothing can be awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from arq_web.errors import InvalidHeaders, InvalidMiddleware, PayloadTooLarge
from arq_web.middleware import CallNext, EnqueueMiddleware, OutgoingJob, name_of, outside
from arq_web.store.messages import NewJob
from arq_web.store.record import with_headers

if TYPE_CHECKING:
    from arq_web.queue import Queue

H = TypeVar("H")

MOST_HEADER_BYTES = 4096
"""Of a job's headers as JSON: they are read and written with each of its transitions."""

LOOK_S = 1.0
"""Between looks at a batch, of which some have arrived: do the others get on?"""
MOST_IDLE_LOOKS = 10

_GIVE_A_HANDLE = "An enqueue must give a handle: return await call_next(job), or raise an error of your own."


class _Layer:
    """One layer's part in the passage of one job: what it called, and what it heard."""

    __slots__ = ("error", "has_called", "is_calling", "layer")

    def __init__(self, layer: EnqueueMiddleware) -> None:
        self.layer = layer
        self.has_called = self.is_calling = False
        self.error: BaseException | None = None
        """What its last ``call_next`` raised."""


class Passage(Generic[H]):
    """The way of one job from its ``enqueue`` to what sends it. Gives the handle that the sending gave."""

    def __init__(self, queue: Queue, new: NewJob, batch_count: int = 1) -> None:
        """Of a batch of so many jobs."""
        self._queue, self._new, self._batch_count = queue, new, batch_count
        self._layers = [_Layer(layer) for layer in queue.queues.enqueue_middleware]
        self._may_resend = True
        self._has_arrived = False
        self._handles: list[H] = []
        self.step_count = 0
        """Rises while it gets on."""

    async def through(self, send: Callable[[NewJob], Awaitable[H]], *, may_resend: bool = True) -> H:
        """Pass it through the layers; in the middle of them ``send`` it as it has become.

        Where ``send`` has raised, a layer may call it again (but with ``may_resend=False``): a copy of a job that
        was written after all is known by its nonce.

        Raises:
            InvalidHeaders, PayloadTooLarge: what the layers made of it cannot be sent.
            InvalidMiddleware: a layer gave no handle and no error, or did what none may.
            Exception: what a layer or ``send`` raised.
        """
        self._may_resend = may_resend

        async def arrive(job: OutgoingJob) -> H:
            self._has_arrived = True
            handle = await send(self._checked(job))
            self._handles.append(handle)
            return handle

        call: CallNext[OutgoingJob] = arrive
        for layer in reversed(self._layers):
            call = outside(layer.layer, self._next_of(layer, call))
        new = self._new
        await call(OutgoingJob(new.id, new.task, self._queue.name, {}, new.payload, self._batch_count))
        if not self._handles:
            layer = self._innermost()
            raise self._without_handle(layer) from layer.error
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
        layer, waits = self.waiting_layer, _what_waits(passing)
        with contextlib.suppress(RuntimeError):  # it ignores its end: what it wanted is not done either way
            passing.close()
        raise InvalidMiddleware(
            layer,
            f"waits for something (in {waits}), and the enqueue was {where}, which is not awaited",
            "Look it up before, in the request for example, and leave it in a context variable; "
            "or enqueue with await queue.enqueue(...).",
        )

    @property
    def waiting_layer(self) -> str:
        """The name of the layer that it is in, before its ``call_next`` or after it."""
        return name_of(next((each for each in self._layers if not each.is_calling), self._layers[-1]).layer)

    def _next_of(self, layer: _Layer, call: CallNext[OutgoingJob]) -> CallNext[OutgoingJob]:
        """The ``call_next`` of one layer."""

        async def call_next(job: OutgoingJob) -> Any:
            self._check(layer, job)
            payload, headers = job.payload, job.headers
            kept = dict(headers) if isinstance(headers, dict) else headers
            layer.has_called = layer.is_calling = True
            layer.error = None
            self.step_count += 1
            try:
                return await call(job)
            except BaseException as error:
                layer.error = error
                job.payload, job.headers = payload, kept  # called again, the layers inside begin as they began
                raise
            finally:
                layer.is_calling = False
                self.step_count += 1

        return call_next

    def _check(self, layer: _Layer, job: OutgoingJob) -> None:
        """What no layer may do when it calls the next one."""
        if layer.is_calling or self._handles or (self._has_arrived and not self._may_resend):
            why = "called call_next twice around one enqueue"
            if layer.error is None:
                raise InvalidMiddleware(name_of(layer.layer), why, "Call it once.")
            remedy = "Call it once: of a batch no job is sent again alone. Repeat the whole enqueue_many."
            raise InvalidMiddleware(name_of(layer.layer), why, remedy) from layer.error
        if (job.id, job.task, job.queue) != (self._new.id, self._new.task, self._queue.name):
            why = "changed the id, the task or the queue of a job"
            raise InvalidMiddleware(name_of(layer.layer), why, "Only its headers and its payload may be changed.")
        if not isinstance(job.payload, bytes):
            why = f"made the payload a {type(job.payload).__name__}"
            raise InvalidMiddleware(name_of(layer.layer), why, "It must be bytes.")

    def _checked(self, job: OutgoingJob) -> NewJob:
        """What is sent for it now."""
        new, limit_bytes = self._new, self._queue.queues.config.max_payload_bytes
        if len(job.payload) > limit_bytes:
            raise PayloadTooLarge(new.task, len(job.payload), limit_bytes)
        extra = _extra(new, job.headers) if job.headers else new.extra
        return msgspec.structs.replace(new, payload=job.payload, extra=extra)

    def _innermost(self) -> _Layer:
        """Of the layers that returned as if all were well, the one that made it up."""
        return next(each for each in self._layers if each.is_calling or each.error is not None or not each.has_called)

    def _without_handle(self, layer: _Layer) -> InvalidMiddleware:
        why = "returned without calling call_next"
        if layer.is_calling:
            why = "returned before its call_next had"
        elif layer.error is not None:
            why = f"swallowed {type(layer.error).__name__}"
        return InvalidMiddleware(name_of(layer.layer), why, _GIVE_A_HANDLE)


async def through_together(
    passages: Sequence[Passage[H]], send: Callable[[list[NewJob]], Awaitable[list[H]]]
) -> list[H]:
    """Pass many jobs, each through the layers on its own; when all have arrived, ``send`` them at once, in their order.

    If one does not arrive, nothing is sent, and the others are cancelled where they are.

    Raises:
        InvalidMiddleware: also where a layer waits for what others hold that have arrived.
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

    passing = [asyncio.create_task(each.through(place(at), may_resend=False)) for at, each in enumerate(passages)]
    try:
        await _until_here([all_here, *passing], passages, arrived)
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


async def _until_here(
    waited: Sequence[asyncio.Future[Any]], passages: Sequence[Passage[Any]], arrived: Collection[int]
) -> None:
    """Wait for the first of ``waited``: all are here (the first one), or a passage has ended (the others, in order).

    Raises:
        InvalidMiddleware: some have arrived, and the others stand still.
    """
    seen_count = idle_count = 0  # counted in looks: a loop that was blocked for long has not looked
    while not (await asyncio.wait(waited, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED))[0]:
        step_count = sum(each.step_count for each in passages)
        idle_count = idle_count + 1 if step_count == seen_count else 0
        seen_count = step_count
        if arrived and idle_count >= MOST_IDLE_LOOKS:
            stuck = next(at for at in range(len(passages)) if at not in arrived)
            waits = _what_waits(cast("asyncio.Task[Any]", waited[stuck + 1]).get_coro())
            raise InvalidMiddleware(
                passages[stuck].waiting_layer,
                f"has waited for {MOST_IDLE_LOOKS * LOOK_S:g} seconds (in {waits}) around one job of an enqueue_many, "
                f"while {len(arrived)} of {len(passages)} wait in call_next until all have come",
                "Hold nothing that is limited (a lock, a semaphore, a connection of a pool) across call_next: "
                "who waits in it holds it. Or enqueue the jobs one by one.",
            )


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


def _what_waits(passing: object) -> str:
    """The innermost coroutine of one that waits: what it called to wait."""
    innermost = cast("CoroutineType[Any, Any, Any]", passing)
    while isinstance(innermost.cr_await, CoroutineType):
        innermost = innermost.cr_await
    return f"{innermost.__qualname__}()"
