"""One ``main()`` of a worker as one run of the engine; how it is told to end; and the signals that tell it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from signal import Signals
from typing import TYPE_CHECKING, Any

from arq_web.arq._crons import firings_of
from arq_web.arq._runner import ArqRunner
from arq_web.arq._translate import queue_word
from arq_web.events import least_level
from arq_web.registry import Registry
from arq_web.worker.claimer import Burst
from arq_web.worker.options import WorkerOptions
from arq_web.worker.worker import Worker as Engine

if TYPE_CHECKING:
    from arq_web.arq.worker import Worker

logger = logging.getLogger("arq.worker")
DRAIN_S = 366 * 86_400.0
"""Running jobs are never cut short by the engine: who stops the worker says what becomes of them."""
SETTLE_LIMIT_S = 10.0
"""A worker that is to end, and whose jobs have all ended, waits so long for a Redis that is away. They run again."""
LOOK_S = 0.5


class Shift:
    """The engine at work."""

    def __init__(self, worker: Worker) -> None:
        """Begin at once."""
        started = worker.jobs_started
        most = max(0, worker.max_burst_jobs - started) if worker.burst and worker.max_burst_jobs >= 0 else None
        options = WorkerOptions(
            queues=(queue_word(worker.queue_name),),
            concurrency=worker.max_jobs,
            drain_s=DRAIN_S,
            burst=Burst.ALL if worker.burst else None,
            most_jobs=most,
            owns_process=worker.owns_process,
        )
        link = worker.pool.link
        self._runner = ArqRunner(worker)
        self._engine = Engine(
            link.queues_of_worker(worker.keep_result_s),
            Registry(),
            options,
            runner=self._runner,
            firings=firings_of(worker, link.store(worker.queue_name)),
        )
        self._is_stopping = False
        self._watch: asyncio.Task[None] | None = None
        # arq's lines say what happens to jobs: of the engine's own only warnings and errors are news.
        context = contextvars.copy_context()
        context.run(least_level.set, logging.WARNING)
        self.task = asyncio.create_task(self._run(), name="arq_web.arq.shift", context=context)

    async def work(self) -> None:
        """Return when it has ended. Cancelled, it takes no more jobs; those that run go on."""
        try:
            await asyncio.shield(self.task)
        except asyncio.CancelledError:
            self.stop_claiming()
            raise

    def stop_claiming(self) -> None:
        """Take no more jobs."""
        if not self._is_stopping:
            self._is_stopping = True
            self._engine.stop()
            if not self.task.done():
                self._watch = asyncio.create_task(self._hurry_without_redis(), name="arq_web.arq.watch")

    def hurry(self) -> None:
        """Running jobs do not end although they were cancelled: wait no longer."""
        self._engine.stop()

    async def _run(self) -> None:
        try:
            await self._engine.run()
            await self._runner.wait()
        finally:
            if self._watch is not None:
                self._watch.cancel()

    async def _hurry_without_redis(self) -> None:
        looks = 0
        while looks * LOOK_S < SETTLE_LIMIT_S:
            await asyncio.sleep(LOOK_S)
            looks = looks + 1 if self._engine.only_settles else 0
        self.hurry()


class Shifts:
    """Those of one worker: the current one, and earlier ones whose ``main()`` was cancelled."""

    def __init__(self) -> None:
        self._shifts: list[Shift] = []
        self._completing: set[asyncio.Task[None]] = set()
        self._stop_count = 0

    def begin(self, worker: Worker) -> Shift:
        """Begin another one."""
        self._shifts = [each for each in self._shifts if not each.task.done()]
        self._stop_count = 0
        shift = Shift(worker)
        self._shifts.append(shift)
        return shift

    def stop_claiming(self) -> None:
        """No more jobs are taken."""
        for shift in self._shifts:
            shift.stop_claiming()

    def stop(self) -> None:
        """The same, since running jobs are cancelled; the second time they are not waited for any more."""
        self._stop_count += 1
        self.stop_claiming()
        if self._stop_count > 1:
            for shift in self._shifts:
                shift.hurry()

    def complete(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for ``waiting`` in the end, too."""
        task = asyncio.create_task(waiting, name="arq_web.arq.completing")
        self._completing.add(task)
        task.add_done_callback(self._completing.discard)

    async def end(self) -> None:
        """Take no more jobs, and return when those that ran have ended."""
        self.stop_claiming()
        tasks = [*self._completing, *(shift.task for shift in self._shifts)]
        if tasks:
            await asyncio.wait(tasks)
        for shift in self._shifts:
            if not shift.task.cancelled() and (error := shift.task.exception()) is not None:
                logger.error("the worker failed, %s: %s", type(error).__name__, error, exc_info=error)
        self._shifts.clear()


class _Listening:
    """Who hears signals on one event loop: several workers may run on it, and a loop has one handler per signal."""

    def __init__(self) -> None:
        self.handles: list[Callable[[Signals], None]] = []
        self._before: dict[Signals, Any] = {}
        self._ours: dict[Signals, Any] = {}

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beside the loop's own handlers, which cannot be read: replaced there, they would be lost for ever."""
        for signum in (Signals.SIGINT, Signals.SIGTERM):
            handler = functools.partial(self._on_signal, loop, signum)
            with contextlib.suppress(ValueError, OSError):  # such a signal is unknown here
                self._before[signum] = signal.signal(signum, handler)
                self._ours[signum] = handler

    def end(self) -> None:
        for signum, known in self._before.items():
            is_ours = signal.getsignal(signum) is self._ours[signum]  # else somebody has taken it over meanwhile
            if is_ours and known is not None:
                signal.signal(signum, known)
        self._before.clear()
        self._ours.clear()

    def _on_signal(self, loop: asyncio.AbstractEventLoop, signum: Signals, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed under a worker that has not ended
            loop.call_soon_threadsafe(self._tell, signum)

    def _tell(self, signum: Signals) -> None:
        for handle in list(self.handles):
            handle(signum)


_listening: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Listening] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def on_signals(handle: Callable[[Signals], None]) -> Iterator[None]:
    """Let ``handle`` have SIGINT and SIGTERM meanwhile; when nobody listens any more they are whose they were.

    Only in the main thread: there are no signals elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    listening = _listening.setdefault(loop, _Listening())
    if not listening.handles:
        listening.begin(loop)
    listening.handles.append(handle)
    try:
        yield
    finally:
        listening.handles.remove(handle)
        if not listening.handles:
            listening.end()


def loop_of_this_thread(known: asyncio.AbstractEventLoop | None) -> tuple[asyncio.AbstractEventLoop, bool]:
    """The loop to run on, and whether it was made here: then it is to be closed, too."""
    if known is not None and not known.is_closed():
        return known, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with contextlib.suppress(RuntimeError):
            found = asyncio.get_event_loop()
            if not found.is_closed():
                return found, False
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    return made, True
