"""Runs a worker as a process of its own: the app's lifespan around it, signals, and an end in time."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

import click

from arq_web.cli.app_source import AppSource, chosen_queues
from arq_web.cli.arq_worker import ArqFlags, refuse_for_settings, run_settings
from arq_web.cli.banner import banner
from arq_web.cli.group import Failed, StartupFailed, app_traceback, failure
from arq_web.cli.health_port import ENV as HEALTH_PORT_ENV
from arq_web.cli.health_port import HealthPlace, HealthPort, answering, health_port
from arq_web.cli.reload import is_reload_child, stop_when_orphaned
from arq_web.cli.supervised import Supervised
from arq_web.errors import ArqWebError, StoreUnavailable
from arq_web.health.probes import MAX_LAG_S
from arq_web.health.server import ALL_ADDRESSES
from arq_web.loading import LifespanFailed, LoadedApp, app_lifespan
from arq_web.logs import LogOutput
from arq_web.worker.worker import Worker

LoopName = Literal["auto", "asyncio", "uvloop"]
SHUTDOWN_S = 3.0
"""What the app's shutdown may take at least; with the drain time that is left, at most."""
LEFTOVER_S = 0.2
"""What remaining threads may take: then the process ends without them."""
_log = logging.getLogger("arq_web.cli")


@dataclass(frozen=True, slots=True)
class WorkerFlags:
    """How this worker is to run, as the command line says it; None: as the app's configuration says."""

    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    drain_s: float | None = None
    burst: bool | None = None
    lifespan: bool = True
    loop: LoopName = "auto"
    health_port: int | None = None
    health_host: str = ALL_ADDRESSES
    health_max_lag: float = MAX_LAG_S

    def health_place(self, environ: Mapping[str, str]) -> HealthPlace | None:
        """Where the worker is to answer probes; None for nowhere. Raises InvalidConfig for a wrong environment."""
        port = health_port(self.health_port, environ)
        return None if port is None else HealthPlace(self.health_host, port, self.health_max_lag)

    @property
    def of_a_worker(self) -> list[str]:
        """Those that were given and that a ready-made Worker has fixed already."""
        given = {
            "--queue": self.queues,
            "--concurrency": self.concurrency is not None,
            "--drain-timeout": self.drain_s is not None and not is_reload_child(),
            "--burst": self.burst is not None,
        }
        return [flag for flag, is_given in given.items() if is_given]


def run_worker(
    source: AppSource, flags: WorkerFlags, log: LogOutput, of_settings: ArqFlags, supervised: Supervised | None
) -> int:
    """Load the app and work for it until a signal (or the end of a burst). Returns the exit status.

    Args:
        source: where the app is.
        flags: how the worker is to run.
        log: has started.
        of_settings: what is for worker settings only.
        supervised: this process as its supervisor's; None where it has none.

    Raises:
        ArqWebError: the set-up cannot work.
        Failed: the app cannot be imported.
    """
    place = None if of_settings.check else flags.health_place(source.environ())
    with answering(place, None if supervised is None else supervised.health) as health:
        return _run_loaded(source, flags, log, of_settings, supervised, health)


def _run_loaded(
    source: AppSource,
    flags: WorkerFlags,
    log: LogOutput,
    of_settings: ArqFlags,
    supervised: Supervised | None,
    health: HealthPort | None,
) -> int:
    loaded = source.load()
    if loaded.settings is not None:
        _do_without_health(loaded.target, flags, health, supervised)
        refuse_for_settings(loaded.target, [flag for flag in flags.of_a_worker if flag != "--burst"])
        return run_settings(loaded.settings, of_settings, log, supervised, burst=flags.burst)
    of_settings.refuse_for_app(loaded.target)
    log.take_in_app()
    if loaded.hub is not None:
        loaded.hub.queues  # noqa: B018 - finds Redis, or starts the private one, before anything of the app starts
        chosen_queues(loaded.hub, flags.queues)
    elif flags.of_a_worker:
        what = " and ".join(flags.of_a_worker)
        raise click.UsageError(f"{loaded.target} is a Worker: {what} must be set where it is made.")
    runner = asyncio.Runner(loop_factory=_loop_factory(flags.loop))
    status = _run(runner, _Serving(loaded, flags, log, supervised, health).run())
    if health is not None:
        health.close()  # before the process has a fifth of a second left: it may wait for a Redis that is silent
    _leave_in_time(status, log)
    runner.close()
    return status


def _do_without_health(
    target: str, flags: WorkerFlags, health: HealthPort | None, supervised: Supervised | None
) -> None:
    """Of worker settings: a flag for the port is refused. The environment's is perhaps for other workers beside it."""
    words = f"{target} is worker settings, which have no health port: use app-worker {target} --check"
    if flags.health_port is not None:
        raise click.UsageError(words)
    if health is not None:
        health.close()
        if supervised is None or supervised.number == 1:  # the others would say the same again
            _log.warning("%s is ignored: %s", HEALTH_PORT_ENV, words)


def _run(runner: asyncio.Runner, work: Coroutine[Any, Any, int]) -> int:
    """Run to the end; errors are shown here, since after this only the process's end is left."""
    try:
        return runner.run(work)
    except LifespanFailed as failed:
        shown: Failed = StartupFailed(_why_not_up(failed))
    except ArqWebError as error:
        shown = failure(error)
    except Exception as error:  # noqa: BLE001 - ours, then: the process must end all the same
        shown = Failed(f"The worker failed; please report it:\n{app_traceback(error)}")
    shown.show()
    return shown.exit_code


def _why_not_up(failed: LifespanFailed) -> str:
    if isinstance(failed.error, ArqWebError):
        return f"The app's start-up failed: {failed.error}"
    if failed.error is not None:
        return f"The app's start-up failed:\n{app_traceback(failed.error)}"
    return f"The app's start-up failed: {failed.message.rstrip() or 'it gave no reason'}"


class _Serving:
    """One run of the worker inside the app's lifespan."""

    def __init__(
        self,
        loaded: LoadedApp,
        flags: WorkerFlags,
        log: LogOutput,
        supervised: Supervised | None,
        health: HealthPort | None,
    ) -> None:
        self._loaded, self._flags, self._log = loaded, flags, log
        self._supervised, self._health = supervised, health
        self._worker: Worker | None = None
        self._stopping = asyncio.Event()
        self._stop_count = 0
        self._stopped_at_s = 0.0

    async def run(self) -> int:
        """Start the app, work, shut the app down; 0 when all of it went well."""
        listening = _signals_call if self._supervised is None else self._supervised.listening
        with listening(self._stop):
            watch = asyncio.create_task(stop_when_orphaned(self._stop)) if is_reload_child() else None
            try:
                await self._refuse_bad_login()
                return await self._work_in_lifespan()
            finally:
                if watch is not None:
                    watch.cancel()
                if self._loaded.hub is not None:
                    await self._loaded.hub.aclose()

    def _stop(self) -> None:
        """A signal: the first begins the drain, the second ends it; a third one is left to kill the process."""
        self._stop_count += 1
        self._stopped_at_s = self._stopped_at_s or time.monotonic()
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()
        if self._stop_count >= 2:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)

    async def _refuse_bad_login(self) -> None:
        """A wrong password at the start is a mistake to show at once; a Redis that is away is waited for."""
        hub = self._loaded.hub
        if hub is not None:
            with suppress(StoreUnavailable):
                await hub.queue(hub.queue_names[0]).store.server_now_ms()

    async def _work_in_lifespan(self) -> int:
        lifespan = AsyncExitStack()
        if not await self._start_up(lifespan):
            return 0
        try:
            self._worker = self._make_worker()
            if self._health is not None:
                self._health.attach(self._worker, self._loaded.hub and self._loaded.hub.metrics)
            for _ in range(self._stop_count):
                self._worker.stop()
            self._introduce(self._worker)
            if self._supervised is not None:
                self._supervised.ready(is_burst=self._worker.options.burst is not None)
            await self._worker.run()
        finally:
            has_shut_down = await self._shut_down(lifespan)
        return 0 if has_shut_down else Failed.exit_code

    async def _start_up(self, lifespan: AsyncExitStack) -> bool:
        """False when a signal came before the app was up."""
        starting = asyncio.create_task(lifespan.enter_async_context(self._lifespan()), name="arq_web.start_up")
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.wait((starting,), timeout=SHUTDOWN_S)
        return False

    def _lifespan(self) -> AbstractAsyncContextManager[object]:
        if not self._flags.lifespan or self._loaded.hub is None:
            return nullcontext()
        return app_lifespan(self._loaded.asgi) if self._loaded.asgi is not None else self._loaded.hub.lifespan()

    def _make_worker(self) -> Worker:
        if self._loaded.hub is None:
            assert self._loaded.worker is not None
            return self._loaded.worker
        return self._loaded.hub.worker(
            queues=self._flags.queues or None,
            concurrency=self._flags.concurrency,
            drain_s=self._flags.drain_s,
            burst=bool(self._flags.burst),
            app_target=self._loaded.target,
            owns_process=True,
        )

    def _introduce(self, worker: Worker) -> None:
        hub = self._loaded.hub
        self._log.take_in_app([task.name for task in hub.registry] if hub is not None else ())
        if self._supervised is None or self._supervised.number == 1:  # the others would say the same again
            for line in banner(self._loaded, worker.options):
                _log.info("%s", line)

    async def _shut_down(self, lifespan: AsyncExitStack) -> bool:
        """End the app's lifespan; False when it failed, or took too long."""
        drain_s = self._worker.options.drain_s if self._worker is not None else 0.0
        spent_s = time.monotonic() - self._stopped_at_s if self._stopped_at_s else 0.0
        limit_s = SHUTDOWN_S if self._stop_count > 1 else max(SHUTDOWN_S, drain_s + SHUTDOWN_S - spent_s)
        try:
            async with asyncio.timeout(limit_s):
                await lifespan.aclose()
        except TimeoutError:
            _log.error("the app's shutdown did not end within %.0f s: leaving without it", limit_s)
        except LifespanFailed as failed:
            _log.error("the app's shutdown failed: %s", failed.message.rstrip(), exc_info=failed.error)
        else:
            return True
        return False


@contextmanager
def _signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call ``stop`` on the running loop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_in_time(status: int, log: LogOutput) -> None:
    """End the process soon, whatever threads are left: a job's cannot be stopped, its lease lapses after our end."""

    def leave() -> None:
        time.sleep(LEFTOVER_S)
        names = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.name != "MainThread"]
        _log.warning("leaving without the end of %s", ", ".join(names) or "the event loop")
        log.flush()
        os._exit(status)

    threading.Thread(target=leave, name="arq_web.leave", daemon=True).start()


def _loop_factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio" or (name == "auto" and importlib.util.find_spec("uvloop") is None):
        return None
    try:
        import uvloop  # noqa: PLC0415 - only where it is wanted
    except ImportError:
        raise click.UsageError("uvloop is not installed. Run: pip install uvloop") from None
    return uvloop.new_event_loop
