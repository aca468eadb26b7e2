"""Attempts in a process of their own: ``run_in="process"``, and jobs under suspicion of killing their worker."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from arq_web import events
from arq_web.errors import InvalidTask, StoreError
from arq_web.events import emit
from arq_web.job import ErrorInfo
from arq_web.queue import QueueSet
from arq_web.registry import Registry
from arq_web.store.record import ClaimedJob
from arq_web.task import Task
from arq_web.worker.attempt import AttemptLimits, lost_child
from arq_web.worker.child_process import ChildDied, ChildProcess
from arq_web.worker.child_protocol import NotLoaded, Run, Setup, Started, Stop
from arq_web.worker.child_source import Sources
from arq_web.worker.neighbours import Neighbours
from arq_web.worker.outcome import (
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Parked,
    Superseded,
    error_info,
    timed_out,
)
from arq_web.worker.running import Running, StopReason

START_LIMIT_S = 60.0
"""For starting a process and loading the app in it: some import for long."""
STARTS_AT_ONCE = 2 * (os.cpu_count() or 1)
"""A hundred suspects that all start at once would keep each other, and the worker, from starting within that time."""
KILL_AFTER_S = 0.3
"""After its timeout, or after it was told to stop, an attempt has so long to end by itself."""
LONGEST_WAIT_S = 86_400.0
IDLE_S = 60.0
CLOSE_GRACE_S = 3.0

_OUTCOME_OF_STOP: dict[StopReason, Outcome] = {
    StopReason.CANCEL: Cancelled(),
    StopReason.SHUTDOWN: Interrupted(),
    StopReason.LEASE_LOST: Superseded(),
}


class Isolation:
    """Runs attempts in child processes: one attempt at a time in each, and the next one in the same."""

    def __init__(
        self,
        registry: Registry,
        queues: QueueSet,
        neighbours: Neighbours,
        *,
        worker: str,
        app_target: str | None,
        has_middleware: bool = False,
    ) -> None:
        """Start nothing yet.

        Args:
            registry: the app's tasks.
            queues: whose Redis and settings the children use, over connections of their own.
            neighbours: the worker's sign of life, which lasts until its children are gone too.
            worker: the worker's id, for the jobs' context.
            app_target: ``module:name`` of the app; None looks for it among the loaded modules when it is needed.
            has_middleware: around attempts or enqueues; then a child loads the app, whatever it runs.
        """
        self._registry, self._queues, self._neighbours, self._worker = registry, queues, neighbours, worker
        self._sources = Sources(registry, app_target, only_app=has_middleware)
        self._unloadable: set[str] = set()
        self._children: set[ChildProcess] = set()
        self._idle: list[ChildProcess] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)

    def check_importable(self, task: Task[..., Any]) -> None:
        """Refuse a process task that no child could load: at the worker's start, not at the first job.

        Raises:
            InvalidTask: says why, and what to do.
        """
        if task.policy.run_in == "process":
            self._sources.find(task)

    def wants(self, job: ClaimedJob) -> bool:
        """True for a task that asks for it, and for a job one crash before its end."""
        task = self._registry.find(job.task)
        if task is None:
            return False
        if task.policy.run_in == "process":
            return True
        return job.is_suspect and self._can_isolate(task, job)

    async def forgo(self, running: Running) -> None:
        """The attempt runs in this worker. Of a suspect that is told: else the worker's death would not count."""
        job = running.job
        if job.is_suspect:
            with suppress(StoreError):  # then it is spared, as one in a child process: twice at most
                await running.store.blame(job.id, job.attempt, job.token)

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        """One attempt in a child. Raises only when it is cancelled before the task began, or for no known reason."""
        task = self._registry.get(running.job.task)
        try:
            source = self._sources.find(task)
        except InvalidTask as error:
            return Failed(error_info(error, "not_importable"), None)
        request = Run(running.job, source, limits.timeout_s, limits.max_result_bytes)
        alone = running.job.is_suspect
        has_child = self._idle and not alone
        try:
            with _time_stands_still(running):
                async with nullcontext() if has_child else self._starting:
                    child = await self._begin(request, alone=alone)
        except _NotBegun as error:
            if not error.child_died:
                self._unloadable.add(task.name)
            elif alone and running.job.note.reason == error.info.reason:
                return Crashed(error.info)  # twice: it is no accident, and no worker should run what children die of
            return Parked(error.info)
        outcome = await self._finish(child, running, task, limits)
        self._give_back(child, reuse=not alone and not isinstance(outcome, Failed))
        return outcome

    async def aclose(self) -> None:
        """End every child."""
        self._idle.clear()
        await asyncio.gather(*(child.close(CLOSE_GRACE_S) for child in self._children), *self._ending)
        self._children.clear()

    def _can_isolate(self, task: Task[..., Any], job: ClaimedJob) -> bool:
        error: object = "a child process could not load it before"
        if task.name not in self._unloadable:
            try:
                self._sources.find(task)
            except InvalidTask as invalid:
                error = invalid
            else:
                return True
        emit(
            events.JOB_NOT_ISOLATED,
            job=job.id,
            task=job.task,
            queue=job.queue,
            worker=self._worker,
            attempt=job.attempt,
            crashes=job.crashes,
            error=error,
        )
        return False

    async def _begin(self, request: Run, *, alone: bool) -> ChildProcess:
        """A child in which the attempt has begun.

        Raises:
            _NotBegun: no process, or it could not load the task. That is not the job's fault.
        """
        while True:
            child = await self._take(fresh=alone)
            try:
                child.send(request)
                answer = await child.next(START_LIMIT_S)
            except ChildDied as error:
                self._give_back(child, reuse=False)
                if child.is_used:  # it died while it was idle: that says nothing about this job
                    continue
                raise _NotBegun(lost_child(f"{error}, while it loaded the task"), child_died=True) from error
            except TimeoutError as error:
                await self._kill(child)
                raise _NotBegun(error_info(error, "not_loaded")) from error
            except asyncio.CancelledError:
                await self._kill(child)
                raise
            if isinstance(answer, Started):
                child.is_used = True
                return child
            self._give_back(child, reuse=False)
            raise _NotBegun(answer.error if isinstance(answer, NotLoaded) else lost_child(f"it said {answer!r}"))

    async def _take(self, *, fresh: bool) -> ChildProcess:
        while self._idle and not fresh:
            child = self._idle.pop()
            if child.idle_timer is not None:
                child.idle_timer.cancel()
            if child.is_alive:
                return child
            self._give_back(child, reuse=False)
        try:
            child = await ChildProcess.start(self._setup(), self._neighbours.handle)
        except OSError as error:
            raise _NotBegun(error_info(error, "no_process")) from error
        self._children.add(child)
        return child

    async def _finish(
        self, child: ChildProcess, running: Running, task: Task[..., Any], limits: AttemptLimits
    ) -> Outcome:
        """Wait for the outcome; where it does not come, kill the child and say what that means."""
        try:
            answer = await child.next(limits.timeout_s + KILL_AFTER_S)
        except TimeoutError:
            await self._kill(child)
            return timed_out(task, running.job, int(limits.timeout_s * 1000))
        except ChildDied as error:
            return Crashed(lost_child(str(error)))
        except asyncio.CancelledError:
            outcome = await self._stop(child, running.reason)
            await self._kill(child)
            if outcome is None:
                raise
            return outcome
        return _as_outcome(answer)

    async def _stop(self, child: ChildProcess, reason: StopReason | None) -> Outcome | None:
        """Ask the attempt to end; None when nobody asked for it (the loop ends)."""
        if reason is None:
            return None
        child.send(Stop(reason))
        try:
            return _as_outcome(await child.next(KILL_AFTER_S))
        except (TimeoutError, ChildDied):
            return _OUTCOME_OF_STOP[reason]

    def _give_back(self, child: ChildProcess, *, reuse: bool) -> None:
        if reuse and child.is_alive:
            child.idle_timer = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle, child)
            self._idle.append(child)
            return
        ending = asyncio.create_task(child.close(CLOSE_GRACE_S))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._children.discard(child)

    def _end_idle(self, child: ChildProcess) -> None:
        self._idle.remove(child)
        self._give_back(child, reuse=False)

    async def _kill(self, child: ChildProcess) -> None:
        await child.kill()
        self._children.discard(child)

    def _setup(self) -> Setup:
        return Setup(
            worker=self._worker,
            target=self._queues.connections.target,
            config=self._queues.config,
            queues=self._queues.names,
            sys_path=list(sys.path),
            argv=list(sys.argv),
            log_level=logging.getLogger().getEffectiveLevel(),
        )


class _NotBegun(Exception):
    """The task did not begin; ``info`` says why, ``child_died`` whether the process ended, which it could not say."""

    def __init__(self, info: ErrorInfo, *, child_died: bool = False) -> None:
        self.info, self.child_died = info, child_died
        super().__init__(info.message)


def _as_outcome(answer: object) -> Outcome:
    if isinstance(answer, Outcome):
        return answer
    return Crashed(lost_child(f"the child process answered {answer!r}"))


@contextmanager
def _time_stands_still(running: Running) -> Iterator[None]:
    """The start of a process, the wait for it and the imports in it are not the attempt's time.

    Its lease must not lapse by them. Each of those before it ends within START_LIMIT_S.
    """
    running.started_at_s = time.monotonic() + LONGEST_WAIT_S
    try:
        yield
    finally:
        running.started_at_s = time.monotonic()
