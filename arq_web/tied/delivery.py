"""Sending what had waited, from wherever its time comes: nobody is left there to whom an error could be raised."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from arq_web.errors import JobIdConflict
from arq_web.tied.pending import After, PendingJob

if TYPE_CHECKING:
    from arq_web.queue import Queue

THREAD_WAITS_S = 10.0
"""A thread waits so long for a loop that is busy with something else; the jobs are sent all the same, later."""
INTERRUPTED = "its process ended first"
LOOP_ENDED = "the event loop that was to send it does not run any more"

is_late: ContextVar[bool] = ContextVar("arq_web.tied.is_late", default=False)
"""True where jobs are sent for which an enqueue has returned long ago. Tests ask, who run a job while it is sent."""

_sending: set[asyncio.Task[None]] = set()
"""Held here: a loop by itself does not keep a task that nobody awaits."""


def begin(jobs: Sequence[PendingJob[Any]], after: After) -> asyncio.Task[None]:
    """Send ``jobs`` on the running loop. The task never fails; who awaits it should shield it."""
    sending = asyncio.get_running_loop().create_task(_send_all(jobs, after), name="arq_web.tied")
    _sending.add(sending)
    sending.add_done_callback(_sending.discard)
    return sending


def begin_from_thread(
    jobs: Sequence[PendingJob[Any]], after: After, loop: asyncio.AbstractEventLoop
) -> Callable[[], None]:
    """Send ``jobs`` on ``loop``, which runs in another thread; what is returned waits for it."""
    sending = asyncio.run_coroutine_threadsafe(_shielded(jobs, after), loop) if loop.is_running() else None

    def wait() -> None:
        if sending is not None:
            concurrent.futures.wait((sending,), THREAD_WAITS_S)
        if sending is None or not (sending.done() or loop.is_running()):
            _fail(jobs, RuntimeError(LOOP_ENDED), after)

    return wait


async def wait_for_all() -> None:
    """Until everything that the running loop is sending was answered. Before its connections are closed."""
    loop = asyncio.get_running_loop()
    ours = [each for each in _sending if each.get_loop() is loop]
    if ours:
        await asyncio.wait(ours)


async def _shielded(jobs: Sequence[PendingJob[Any]], after: After) -> None:
    await asyncio.shield(begin(jobs, after))


async def _send_all(jobs: Sequence[PendingJob[Any]], after: After) -> None:
    """One round trip per queue, all at the same time. In a task of its own."""
    is_late.set(True)
    by_queue: dict[Queue, list[PendingJob[Any]]] = {}
    for job in jobs:
        by_queue.setdefault(job.queue, []).append(job)
    await asyncio.gather(*(_send(queue, group, after) for queue, group in by_queue.items()))


async def _send(queue: Queue, jobs: Sequence[PendingJob[Any]], after: After) -> None:
    try:
        # What it was tied to has come about: it is too late to refuse it because the queue is full.
        reply = await queue.send([job.new for job in jobs], max_queued=0)
    except asyncio.CancelledError:
        _fail(jobs, RuntimeError(INTERRUPTED), after)
        raise
    except JobIdConflict as error:
        if len(jobs) == 1:
            _fail(jobs, error, after)
            return
        for job in jobs:  # all or none of a group: the others are not to pay for this one
            await _send(queue, [job], after)
    except Exception as error:  # noqa: BLE001 - the response is sent, the commit is done: the log is all that is left
        _fail(jobs, error, after)
    else:
        for job, answer in zip(jobs, reply.jobs, strict=True):
            job.answer(answer)


def _fail(jobs: Sequence[PendingJob[Any]], error: Exception, after: After) -> None:
    for job in jobs:
        job.fail(error, after)
