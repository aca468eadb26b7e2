"""``JobTester``: what a test asks of its app's jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, get_args

from arq_web.errors import InvalidConfig
from arq_web.hub import Hub
from arq_web.job import JobState
from arq_web.loading import hub_of, load
from arq_web.queue import Queue
from arq_web.testing.asked import TaskLike, check_count, span_ms, task_of, until_ms
from arq_web.testing.crashes import CrashOrder, CrashPoint, checkpointed
from arq_web.testing.failures import JobsFailed, TooManyAttempts, failures_text
from arq_web.testing.loops import Work, check_loop, running_loop
from arq_web.testing.matching import Expected, enqueued_after_all, jobs_table, not_enqueued, wrong_count
from arq_web.testing.running import Key
from arq_web.testing.seen import EnqueuedJob, RunSummary
from arq_web.testing.stage import Stage
from arq_web.tied.delivery import is_late

P = ParamSpec("P")
R = TypeVar("R")
Mode = Literal["collect", "inline", "drain"]
MODES: Final = get_args(Mode)
"""See ``JobTester``."""


class JobTester:
    """The jobs of one app in one test: what was enqueued, and a worker at your command.

    ::

        with JobTester(app) as jobs:                # with pytest: ask for the fixture ``jobs``
            client.post("/signup", json={...})
            jobs.assert_enqueued(send_welcome, 42)
            jobs.run_all_sync()                     # in an async test: await jobs.run_all()

    While it is open, the app works on a Redis and in a namespace of the test's own; then it is as it was. Enter it
    before the app's lifespan begins (before ``with TestClient(app)``).

    Modes: ``collect``: nothing runs until you say so. ``drain``: the same, and a job that is ready at the end of the
    test and was never run fails it. ``inline``: an enqueue runs its job to the end before it returns, retries at once.
    """

    def __init__(
        self,
        app: object,
        *,
        mode: Mode = "collect",
        redis_url: str | None = None,
        raise_failures: bool = True,
        concurrency: int = 1,
        most_attempts: int = 1000,
    ) -> None:
        """Nothing is opened yet.

        Args:
            app: an app with ArqWeb, a ``Hub``, or ``module:name`` of one.
            mode: see above.
            redis_url: a real Redis; default the one that ``ARQ_WEB_TEST_REDIS_URL`` names, else an in-memory server of
                this process, with the same scripts.
            raise_failures: a job that ends dead, or that no worker here can run, fails the test.
            concurrency: jobs that run at the same time. With 1 they run one after the other, always in the same order;
                jobs that wait for each other's results need more.
            most_attempts: of all jobs, in one run; then it counts as endless.

        Raises:
            InvalidConfig: the app has no ArqWeb, there is no such mode, or a number is less than 1.
            ImportFailed: ``module:name`` led to nothing.
        """
        if mode not in MODES:
            raise InvalidConfig("mode", mode, f"one of {', '.join(MODES)}")
        check_count("concurrency", concurrency)
        check_count("most_attempts", most_attempts)
        hub = load(app).hub if isinstance(app, str) else hub_of(app)
        if hub is None:
            raise InvalidConfig("app", app, "an app with ArqWeb (ArqWeb(app), or plugins=[ArqWeb()]), or a Hub")
        self.hub: Hub = hub
        self.mode: Mode = mode
        self.raise_failures = raise_failures
        self._stage = Stage(hub, redis_url, concurrency=concurrency, most_attempts=most_attempts)
        self._stage.on_created = self._run_inline
        self._loops = self._stage.loops
        self._failed: list[Key] = []
        self._endless: TooManyAttempts | None = None
        """Of jobs that ran where nobody was left to whom it could be raised."""

    @property
    def namespace(self) -> str:
        """What every key of this test begins with."""
        return self._stage.namespace

    def open(self) -> None:
        """Move the app here; ``with`` does it. Raises what a first look at its routes raises.

        Raises:
            MissingExtra: no Redis is named, and fakeredis is not installed.
            StoreUnavailable: the Redis that is named does not answer.
            InvalidConfig: the app lives already.
            RuntimeError: this is open already.
        """
        self._stage.open()

    def close(self) -> None:
        """Give the app back as it was, and wipe what the test has left. Checks nothing."""
        self._stage.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.check()
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._stage.has_outbox:
            await self.relay_outbox()
        await self.hub.aclose()
        self.__exit__(kind, error, trace)

    # -- what was enqueued ----------------------------------------------------------------

    @property
    def enqueued(self) -> list[EnqueuedJob]:
        """Every job of this test in the order of its enqueueing, those that have run too (see ``state``)."""
        self._relay()
        return self._stage.seen(None)

    def assert_enqueued(
        self,
        task: TaskLike,
        /,
        *args: object,
        count: int | None = None,
        delay: timedelta | float | None = None,
        queue: str | None = None,
        **kwargs: object,
    ) -> list[EnqueuedJob]:
        """Fail unless this was enqueued; what you do not name may be anything.

        Args:
            task: a task, its name, its Litestar handler, or a task with options:
                ``send_welcome.options(unique="welcome:42")``.
            *args: its first arguments.
            count: exactly so many; default one or more.
            delay: asked for by ``delay=`` or ``at=``; give or take a second.
            queue: its queue's name.
            **kwargs: others of its arguments. ``unittest.mock.ANY`` is fine.

        Returns:
            Those that match, in the order of their enqueueing: ``[job] = jobs.assert_enqueued(send_welcome, 42)``.

        Raises:
            AssertionError: it was not; shows what was enqueued instead, the nearest first.
            TypeError: the arguments are not those of the task, or an option leaves no trace in a job (``on_finished``).
            UnknownTask: the app has no such task.
        """
        expected = Expected.of(task_of(self.hub, task), args, kwargs, delay=delay, queue=queue, count=count)
        jobs = self.enqueued
        found = [job for job in jobs if not expected.differences(job)]
        if not found and count != 0:
            raise AssertionError(not_enqueued(expected, jobs, self._hint()))
        if count is not None and len(found) != count:
            raise AssertionError(wrong_count(expected, count, found, jobs))
        return found

    def refute_enqueued(
        self,
        task: TaskLike,
        /,
        *args: object,
        delay: timedelta | float | None = None,
        queue: str | None = None,
        **kwargs: object,
    ) -> None:
        """Fail if this was enqueued; see ``assert_enqueued``.

        Raises:
            AssertionError: it was; shows the jobs.
        """
        expected = Expected.of(task_of(self.hub, task), args, kwargs, delay=delay, queue=queue, count=None)
        found = [job for job in self.enqueued if not expected.differences(job)]
        if found:
            raise AssertionError(enqueued_after_all(expected, found))

    def clear(self) -> None:
        """Forget every job of this test so far."""
        self._stage.forget()
        self._failed.clear()
        self._endless = None

    # -- running --------------------------------------------------------------------------

    def run_all(self, until: timedelta | float | datetime | None = None) -> Coroutine[Any, Any, RunSummary]:
        """Run what is ready, and what is due later as if its time had come: retries, snoozes, delays; then theirs.

        On the loop on which the app lives, else on this one. The time that passes is real for the engine (a job may
        expire), not for your code: ``datetime.now()`` stays what it is.

        Args:
            until: let so much time pass (an aware datetime: until then; a number: seconds), and run what is due by
                then; None: everything.

        Returns:
            The jobs that had an attempt or came to an end.

        Raises:
            JobsFailed: one of them is dead, or no worker here can run it, unless ``raise_failures=False``.
            TooManyAttempts: it does not come to an end.
            ValueError: ``until`` names no time zone, or time would go backwards.
            RuntimeError: no asyncio loop runs here; or this is not open.
        """
        check_loop("jobs.run_all_sync()")
        return self._run_and_sum_up(self._running(until))

    def run_all_sync(self, until: timedelta | float | datetime | None = None) -> RunSummary:
        """``run_all`` for tests that cannot await."""
        return self._summary(self._loops.run_sync(self._running(until), "await jobs.run_all()"))

    def run_schedules(self, span: timedelta | float) -> Coroutine[Any, Any, list[EnqueuedJob]]:
        """Let so much time pass, and fire the app's schedules at each of their ticks meanwhile.

        In the modes ``inline`` and ``drain`` what is due runs in between, as in ``run_all``.

        Returns:
            The jobs of the ticks. ``overlap="skip"`` skips one while an earlier one has not run.

        Raises:
            JobsFailed, TooManyAttempts, ValueError, RuntimeError: as ``run_all``.
        """
        check_loop("jobs.run_schedules_sync(...)")
        return self._fire_and_sum_up(self._firing(span))

    def run_schedules_sync(self, span: timedelta | float) -> list[EnqueuedJob]:
        """``run_schedules`` for tests that cannot await."""
        return self._fired(self._loops.run_sync(self._firing(span), "await jobs.run_schedules(...)"))

    def relay_outbox(self) -> Coroutine[Any, Any, None]:
        """Enqueue what lies in the app's outbox: for async tests, before they look. Others do it by looking.

        In mode ``inline`` it runs, too: an outbox has nobody who waits for its jobs.

        Raises:
            JobsFailed, TooManyAttempts: inline.
            RuntimeError: no asyncio loop runs here; or this is not open.
        """
        check_loop("jobs.enqueued, which relays it")
        self._stage.check_open()
        return self._loops.run(self._relay_here)

    # -- crashes --------------------------------------------------------------------------

    def crash_at(self, n: CrashPoint, task: TaskLike | None = None, *, times: int = 1) -> None:
        """Let the next attempt die at its n-th checkpoint, as if its worker had been killed there; then it runs again.

        Checkpoints are progress reports, calls of what was marked by ``checkpointed``, and ``checkpoint()``. What the
        attempt has done stays, its job is queued again, and a crash is counted (``max_crashes`` ends it as ever). A
        death that does not happen fails the test.

        Args:
            n: 1 for the first checkpoint; ``"end"``: the function has returned, and nobody has recorded it yet.
            task: whose attempt (a task, its name, its Litestar handler); None: of any task.
            times: so many attempts.

        Raises:
            ValueError: there is no such checkpoint, or it is to happen less than once.
            UnknownTask: the app has no such task.
            RuntimeError: this is not open.
        """
        self._stage.check_open()
        self._stage.order_crash(CrashOrder(n, None if task is None else task_of(self.hub, task).task, times))

    def checkpointed(self, fn: Callable[P, R]) -> Callable[P, R]:
        """``fn``, with a checkpoint after each call of it: what it does has happened then.

        For a function that sends, charges or writes: ``setattr(mail, "send", jobs.checkpointed(mail.send))``, by
        monkeypatch. And for a dependency: ``app.dependency_overrides[f] = jobs.checkpointed(f)``; it is passed when the
        dependency is made.
        """
        return checkpointed(fn)

    # -- the end --------------------------------------------------------------------------

    def check(self) -> None:
        """Fail for what went wrong and nobody was told: the fixture and ``with`` do it at the end of the test.

        Raises:
            JobsFailed: a job that ran inline is dead.
            TooManyAttempts: jobs that were tied to a response or a commit ran inline, and came to no end.
            AssertionError: a crash was ordered and did not happen; in mode ``drain``, a job is ready and was never run.
        """
        unmet = self._stage.crashes.unmet()
        if unmet:
            raise AssertionError("\n".join(unmet))
        if self.mode == "inline":
            self._relay()
        if self._endless is not None:
            raise self._endless
        if self._failed and self.raise_failures:
            raise JobsFailed(self._stage.seen(self._failed))
        if self.mode == "drain":
            left = [job for job in self.enqueued if job.state is JobState.QUEUED]
            if left:
                raise AssertionError(
                    f"These jobs were enqueued and never run (run_all was not called after that):\n\n{jobs_table(left)}"
                )

    def describe(self, *, with_failures: bool = True) -> str:
        """What there is, as text: jobs that failed inline, and a table of all. Empty without a job."""
        jobs = self._stage.seen()
        failed = failures_text(self._stage.seen(self._failed)) + "\n\n" if self._failed and with_failures else ""
        return failed + jobs_table(jobs) if jobs else ""

    # -- behind it ------------------------------------------------------------------------

    def _running(self, until: timedelta | float | datetime | None) -> Work[list[Key]]:
        runs, (for_ms, moment_ms) = self._stage.runs, until_ms(until)

        async def run() -> list[Key]:
            return await runs.run_all(for_ms if moment_ms is None else max(0, await runs.until(moment_ms)))

        return run

    def _firing(self, span: timedelta | float) -> Work[tuple[list[Key], list[Key]]]:
        runs, for_ms = self._stage.runs, span_ms("span", span)
        return lambda: runs.fire(self.hub.schedules, for_ms, runs=self.mode != "collect")

    async def _run_and_sum_up(self, work: Work[list[Key]]) -> RunSummary:
        return self._summary(await self._loops.run(work))

    async def _fire_and_sum_up(self, work: Work[tuple[list[Key], list[Key]]]) -> list[EnqueuedJob]:
        return self._fired(await self._loops.run(work))

    def _summary(self, keys: Sequence[Key]) -> RunSummary:
        jobs = self._stage.seen(keys)
        failed = [job for job in jobs if job.state is JobState.DEAD]
        parked = [job for job in self._stage.seen(None) if job.is_parked]
        if (failed or parked) and self.raise_failures:
            raise JobsFailed([*failed, *parked])
        return RunSummary(tuple(jobs))

    def _fired(self, found: tuple[list[Key], list[Key]]) -> list[EnqueuedJob]:
        fired, ran = found
        self._summary(ran)
        return self._stage.seen(fired)

    def _relay(self) -> None:
        """What lies in an outbox counts as enqueued. On the app's own loop this cannot be waited for."""
        if self._stage.has_outbox and running_loop() is None:
            self._loops.run_sync(self._relay_here, "await jobs.relay_outbox()")

    async def _relay_here(self) -> None:
        runs = self._stage.runs
        await runs.catch_up()
        if self.mode == "inline":
            waiting = [info for info in await runs.jobs() if info.state is JobState.QUEUED]
            for name in dict.fromkeys(info.queue for info in waiting):
                await self._run_inline(self.hub.queue(name), [info.id for info in waiting if info.queue == name])

    def _hint(self) -> str:
        if self._stage.has_outbox and running_loop() is not None:
            return " (Is it in the outbox? Then `await jobs.relay_outbox()` first.)"
        return ""

    async def _run_inline(self, queue: Queue, job_ids: Sequence[str]) -> None:
        if self.mode != "inline":
            return
        runs, failed_before = self._stage.runs, len(self._failed)
        try:
            ended = await runs.run_these(queue, job_ids)
        except TooManyAttempts as error:
            if not is_late.get():
                raise
            self._endless = error
            return
        infos = {(info.queue, info.id): info for info in await runs.jobs()}
        self._failed += [key for key in ended if infos[key].state is JobState.DEAD or not infos[key].is_finished]
        # Not inside a job, of which it would be a failure; nor after a response, where it would count as not enqueued.
        is_heard = not runs.is_nested and not is_late.get()
        if self.raise_failures and len(self._failed) > failed_before and is_heard:
            raise JobsFailed(await asyncio.to_thread(self._stage.seen, self._failed[failed_before:]))
