"""The renewal thread: keeps the leases of running attempts, with its own connection, whatever the event loop does.

A blocked loop is the commonest reason for a job to run twice elsewhere: so the leases do not depend on it. The thread
also sees what the loop cannot: that it is blocked (it logs the line), that an attempt does not end at its timeout,
that the process must end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from arq_web import events
from arq_web.events import Event, emit
from arq_web.store import scripts
from arq_web.store.store import Held, Renewed, WorkerKind
from arq_web.worker.clock import ServerClock
from arq_web.worker.observing import Observing
from arq_web.worker.outage import WRONG_TYPE
from arq_web.worker.running import OVERDUE_GRACE_S, HeldInQueue, Running, RunningTable, StopReason

if TYPE_CHECKING:
    from arq_web.store.target import RedisTarget

RENEW_EVERY_S = 1.0
RETRY_EVERY_S = 0.2
BLOCKED_AFTER_S = 2.0
LONGEST_PASS_S = 2.0
"""A pass of the thread that took longer was spent waiting for Redis, or not running at all."""
EXIT_HUNG = 70
"""Exit status (EX_SOFTWARE) of a worker whose loop hangs for ever."""


class LeaseKeeper:
    """Renews leases each second while the worker holds any; tells the loop what was lost or is to be cancelled."""

    def __init__(
        self,
        table: RunningTable,
        target: RedisTarget,
        *,
        worker: str,
        kind: WorkerKind,
        lease_ms: int,
        deadline_s: float,
        clock: ServerClock,
        may_exit: bool,
        observing: Observing | None = None,
    ) -> None:
        self._table, self._target, self._clock = table, target, clock
        self._worker, self._kind, self._lease_ms, self._deadline_s = worker, kind, lease_ms, deadline_s
        self._observing = observing
        self._may_exit, self.lease_s = may_exit, lease_ms / 1000
        self._client: Any = None
        self._stopping = threading.Event()
        self._kick = threading.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._silent_s = 0.0
        self._passed_at_s = self._beat_at_s = time.monotonic()
        self._is_ping_answered = True
        self._blocked_reported = False
        self._outlives = False
        self._failing_since_s: float | None = None
        self._failure_reported = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; call on the loop whose attempts are kept."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread_id = threading.get_ident()
        self._passed_at_s = self._beat_at_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="arq_web.leases", daemon=True)
        self._thread.start()

    async def stop(self, *, with_threads: bool = True) -> None:
        """End the thread; leases that are still held lapse.

        Args:
            with_threads: those of attempts in threads too; else they are kept until these have returned.
        """
        if not with_threads and self._threads_left():
            self._outlives = True
        else:
            self._stopping.set()
        self._kick.set()
        if self._thread is not None and not self._outlives:
            await asyncio.to_thread(self._thread.join, self._deadline_s * 2 + 1)
        for future in self._waiting:
            future.cancel()

    async def renewed(self) -> None:
        """Return once a renewal has passed: after an outage owners renew before anything else is sent."""
        if not len(self._table) or self._stopping.is_set():
            return
        future = self._loop.create_future()
        self._waiting.append(future)
        self._kick.set()
        # Not for ever: should only the renewal fail, the others must still be tried.
        await asyncio.wait((future,), timeout=self._deadline_s)

    @property
    def beat_ago_s(self) -> float | None:
        """Seconds since the thread last showed that it lives; infinite when it has died; None when it was to end."""
        if self._stopping.is_set() or self._thread is None:
            return None
        return time.monotonic() - self._beat_at_s if self._thread.is_alive() else math.inf

    def _run(self) -> None:
        pause_s = RENEW_EVERY_S
        while not self._stopping.is_set():
            self._beat_at_s = time.monotonic()
            self._kick.wait(pause_s)
            self._kick.clear()
            if self._stopping.is_set() or (self._outlives and not self._threads_left()):
                break
            pause_s = RENEW_EVERY_S if self._renew_all() else RETRY_EVERY_S  # first: nothing may keep it waiting
            if not self._outlives:
                self._watch_the_loop()
        self._disconnect()

    def _threads_left(self) -> bool:
        return any(running.in_thread and not running.has_returned for running in self._table.all())

    def _renew_all(self) -> bool:
        """Renew every queue's leases; False when Redis did not answer (try again soon)."""
        asked_ms = self._clock.now_ms  # before the look at the table: the server judges by it how old that is
        failure: Exception | None = None
        all_held = self._table.held_by_queue()
        for held in all_held:
            self._beat_at_s = time.monotonic()  # each may wait for a Redis that does not answer
            try:
                self._renew(held, asked_ms)
            except Exception as error:  # noqa: BLE001 - whatever the client raises: the thread must live
                failure = error
                if held.attempts:
                    self._report_failure(error)
                if WRONG_TYPE not in str(error):  # one queue's broken index is not the others' trouble
                    self._disconnect()
                    break
        if self._observing is not None and any(held.attempts for held in all_held):
            self._observing.renewed(is_answered=failure is None)
        if failure is not None:
            return False
        self._failing_since_s = None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._tell_waiting)
        return True

    def _renew(self, held: HeldInQueue, asked_ms: int) -> None:
        leases = [
            Held(running.job.id, running.job.attempt, running.job.token, is_lapsing=not self._is_alive(running))
            for running in held.attempts
        ]
        arguments = held.store.renew_arguments(
            self._worker,
            self._kind,
            self._lease_ms,
            held.last_token,
            leases,
            asked_ms=asked_ms,
            slots=self._table.slots,
        )
        for running, code in zip(held.attempts, self._evaluate(held.store.base, arguments), strict=True):
            if Renewed(code) is not Renewed.KEPT:
                reason = StopReason.LEASE_LOST if Renewed(code) is Renewed.LOST else StopReason.CANCEL
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(running.end_early, reason)

    def _evaluate(self, base: bytes, arguments: list[Any]) -> list[int]:
        if self._client is None:
            self._client = self._target.make_sync_client(self._deadline_s)
        script = scripts.RENEW.script
        try:
            reply = self._client.execute_command("EVALSHA", script.sha, 1, base, *arguments)
        except Exception as error:
            if "NOSCRIPT" not in str(error) and type(error).__name__ != "NoScriptError":
                raise
            reply = self._client.execute_command("EVAL", script.text, 1, base, *arguments)
        return [int(code) for code in reply]

    def _report_failure(self, error: Exception) -> None:
        """One line when renewals fail for a while; a short outage is the loop's to report."""
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s, self._failure_reported = now_s, False
        elif now_s - self._failing_since_s > self._lease_ms / 2000 and not self._failure_reported:
            self._failure_reported = True
            _say(events.STORE_TROUBLE, redis=self._target.address, error=f"leases are not renewed: {error}")

    def _is_alive(self, running: Running) -> bool:
        """False for an attempt so long past its timeout that its lease must lapse; a running thread keeps it."""
        if self._outlives:
            return running.in_thread and not running.has_returned
        overdue_s = running.overdue_s
        if overdue_s < OVERDUE_GRACE_S or running.is_settling:
            return True
        if not running.is_reported_stuck:
            running.is_reported_stuck = True
            job = running.job
            _say(
                events.ATTEMPT_STUCK,
                job=job.id,
                task=job.task,
                queue=job.queue,
                worker=self._worker,
                attempt=job.attempt,
                over_s=overdue_s,
                stack=self._stack_of(running),
            )
        elif self._may_exit and self._silent_s > OVERDUE_GRACE_S:
            # The loop has hung through the attempt's whole timeout and more: only an end of the process helps.
            os._exit(EXIT_HUNG)
        return running.in_thread

    def _watch_the_loop(self) -> None:
        """Ask the loop for a sign; count the time without an answer only over passes that this thread made itself.

        A process that was stopped for an hour (SIGSTOP, a paused machine) has not hung for an hour.
        """
        now_s = time.monotonic()
        passed_s, self._passed_at_s = min(now_s - self._passed_at_s, LONGEST_PASS_S), now_s
        if self._is_ping_answered:
            self._silent_s, self._blocked_reported = 0.0, False
            self._is_ping_answered = False
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._answer_ping)
            return
        self._silent_s += passed_s
        if self._silent_s >= BLOCKED_AFTER_S and not self._blocked_reported and len(self._table):
            self._blocked_reported = True
            _say(
                events.LOOP_BLOCKED,
                worker=self._worker,
                running=len(self._table),
                blocked_s=self._silent_s,
                stack=self._loop_stack(),
            )

    def _answer_ping(self) -> None:
        self._is_ping_answered = True

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _stack_of(self, running: Running) -> str:
        if running.task is None or self._silent_s > BLOCKED_AFTER_S:
            return self._loop_stack()
        frames = running.task.get_stack()
        return "".join(
            traceback.format_list([(f.f_code.co_filename, f.f_lineno, f.f_code.co_name, "") for f in frames])
        )

    def _loop_stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread_id)  # noqa: SLF001 - the documented way
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()


def _say(event: Event, **fields: object) -> None:
    """Log without waiting: a handler that blocks (a full pipe, a lock of the hung loop) must not stop renewals."""
    threading.Thread(target=emit, args=(event,), kwargs=fields, name="arq_web.leases.log", daemon=True).start()
