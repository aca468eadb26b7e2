"""``--processes``: the supervisor. It keeps several worker processes: starts them, again if they die, and stops them.

Each is a fresh interpreter that runs our own command line once more, and a worker of its own. We do not import the app:
that costs its memory once more, and to fork what an app has opened (threads, connections, event loops) breaks it. So
the first process starts alone: what is wrong with the app or the command line it says once, with its status as ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from arq_web import events
from arq_web.cli.group import Failed
from arq_web.cli.health_port import HealthPlace
from arq_web.cli.worker_process import End, WorkerProcess
from arq_web.events import emit
from arq_web.health.exchange import answering_on
from arq_web.health.merged import Child, MergedHealth

SOON_MS = 60_000
"""A process that ends sooner after its start than this has not got over what its predecessor died of."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
_STOPS = (
    ("told to drain", WorkerProcess.drain),
    ("told to end now", WorkerProcess.hurry),
    ("killed", WorkerProcess.kill),
)
"""What the first signal does, the second, and all others."""
_log = logging.getLogger("arq_web.cli")


def own_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs this program once more: same interpreter, same options of it, same script or module.

    Args:
        arguments: the command line's, without the program.
    """
    begin = len(sys.orig_argv) - len(arguments)
    if [*arguments] == sys.argv[1:] == sys.orig_argv[begin:]:
        return [sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]]
    return [sys.executable, "-m", "arq_web", *arguments]  # somebody called main() with arguments of his own


class Supervisor:
    """Keeps ``count`` worker processes until it is told to stop, or until their bursts are over."""

    def __init__(self, command: Sequence[str], count: int, health: HealthPlace | None = None) -> None:
        """Start nothing yet.

        Args:
            command: the program of each process, and its arguments.
            count: how many.
            health: where to answer probes for all of them; None for nowhere.
        """
        self._command, self._count, self._health = command, count, health
        self._processes: dict[int, WorkerProcess] = {}
        self._stopping, self._is_proven = asyncio.Event(), asyncio.Event()
        self._is_burst = False
        self._stop_count = 0

    def run(self) -> int:
        """Returns the exit status: 0, or the largest of the processes' last ones.

        Raises:
            Failed: the system gives us no process.
            WrongSetup: the health port cannot be opened.
        """
        return asyncio.run(self._run())

    async def _run(self) -> int:
        async with self._answering_probes():
            return await self._keep_all()

    async def _keep_all(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        _log.info("%d processes: the first one starts alone, the others when it works", self._count)
        first = asyncio.create_task(self._keep(1))
        proven = asyncio.create_task(self._is_proven.wait())
        await asyncio.wait((first, proven), return_when=asyncio.FIRST_COMPLETED)
        proven.cancel()
        others = range(2, self._count + 1) if not first.done() else ()
        return max(await asyncio.gather(first, *map(self._keep, others)))

    @asynccontextmanager
    async def _answering_probes(self) -> AsyncIterator[None]:
        """Nothing blocks the loop of this process: so it answers by itself, for all."""
        if self._health is None:
            yield
            return
        merged = MergedHealth(self._count, self._children, self._is_proven.is_set)
        with self._health.open() as listening:
            async with answering_on(listening, merged.answer):
                yield

    def _children(self) -> list[Child]:
        return [Child(each.number, each.health_port, each.is_up) for each in self._processes.values()]

    async def _keep(self, number: int) -> int:
        """Have a process of this number until told to stop, or until its burst is over; returns the last status."""
        times = 0
        while not self._stopping.is_set():
            end = await self._live(number)
            if self._stopping.is_set():
                # What was told to stop before it could listen was ended by that.
                return 0 if end.text == signal.SIGTERM.name else end.status
            if self._is_burst or not self._is_proven.is_set():
                return end.status
            times = 1 if end.ran_ms >= SOON_MS else times + 1
            await self._pause(number, end, times)
        return 0

    async def _live(self, number: int) -> End:
        """One process, from its start to its end."""
        try:
            process = WorkerProcess(self._command, number, self._prove, has_health=self._health is not None)
        except OSError as error:
            if not self._is_proven.is_set():
                raise Failed(f"{self._command[0]} cannot be started: {error}") from error
            return End(Failed.exit_code, f"not started: {error}")
        emit(events.PROCESS_STARTED, process=number, pid=process.pid)
        self._processes[process.pid] = process
        return await process.ended

    async def _pause(self, number: int, end: End, times: int) -> None:
        """Before the next one is started; none after a first end, longer and longer ones after the others."""
        if times == 1:
            emit(events.PROCESS_ENDED, process=number, exit=end.text, ran_ms=end.ran_ms)
            return
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(times - 2, 10))
        emit(events.PROCESS_LOOPING, process=number, exit=end.text, ran_ms=end.ran_ms, times=times, next_s=pause_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    def _prove(self, is_burst: bool) -> None:
        """A process works: so the others will."""
        self._is_burst = is_burst
        self._is_proven.set()

    def _stop(self) -> None:
        """A signal: the first begins the drain, the second ends it, the third ends everything."""
        self._stop_count += 1
        self._stopping.set()
        word, tell = _STOPS[min(self._stop_count, len(_STOPS)) - 1]
        _log.info("processes %s: %d", word, len(self._processes))
        for process in self._processes.values():
            tell(process)

    def _reap(self) -> None:
        """Processes have ended: ours, and, where we are the first one of a container, whatever they leave behind."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                process = self._processes.pop(pid, None)
                if process is not None:
                    process.has_ended(os.waitstatus_to_exitcode(status))
