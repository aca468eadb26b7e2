"""Processes that start in milliseconds: forked from a clean one, which has everything imported and runs no thread.

The test's own process must not fork: it has threads and a running loop. Run as a module, this is that clean process: it
reads requests from stdin, one JSON object per line, and tells on stdout which process began and which has ended. When
stdin ends, so do all that it forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Request = dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Forked:
    """A process that was forked for a test; ``ended`` becomes its exit status (-9: killed)."""

    pid: int
    ended: asyncio.Future[int]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Forker:
    """The test's end of the clean process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._news = process.stdin, process.stdout
        self._begun: list[asyncio.Future[Forked]] = []
        self._alive: dict[int, Forked] = {}

    async def fork(self, entry: str, **request: str) -> Forked:
        """Call ``module:function`` with ``request`` in a new process; what it prints goes to the file ``log``."""
        begun: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        self._begun.append(begun)
        self._requests.write(json.dumps({**request, "entry": entry}).encode() + b"\n")
        await self._requests.drain()
        return await begun

    async def listen(self) -> None:
        """Take note of what begins and ends, until cancelled."""
        loop = asyncio.get_running_loop()
        while line := await self._news.readline():
            news = json.loads(line)
            if "status" in news:
                self._alive.pop(news["pid"]).ended.set_result(news["status"])
            else:
                forked = self._alive[news["pid"]] = Forked(news["pid"], loop.create_future())
                self._begun.pop(0).set_result(forked)


@asynccontextmanager
async def running_forker(*modules: str) -> AsyncGenerator[Forker]:
    """A clean process that has ``modules`` imported; it and all that it forked are gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.forked",
        *modules,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'integrations'}"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    forker = Forker(process)
    listening = asyncio.create_task(forker.listen())
    try:
        yield forker
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening


# -- the clean process --------------------------------------------------------------------


def _main(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the test, which then closes our stdin
    ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wakeup)
    alive: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        pending = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if ended in ready:
                os.read(ended, 4096)
                _report_ended(alive)
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    alive.add(_begin(json.loads(line), (ended, wakeup)))
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _report_ended(alive: set[int]) -> None:
    for pid in list(alive):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            alive.remove(pid)
            _tell({"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _begin(request: Request, ours: tuple[int, int]) -> int:
    pid = os.fork()
    if pid == 0:
        _run(request, ours)
    _tell({"pid": pid})
    return pid


def _run(request: Request, ours: tuple[int, int]) -> None:
    """Be the new process, to its end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for handle in ours:
            os.close(handle)
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for handle, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(handle, number)
        module, _, name = request["entry"].partition(":")
        getattr(importlib.import_module(module), name)(request)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may unwind into the parent's stack
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _tell(news: dict[str, int]) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
