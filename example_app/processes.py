"""The demo's processes: started together, watched, and stopped one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

MAX_LINE_BYTES = 1 << 20


class Ended(Exception):
    """A process ended by itself, unasked: starting it again would not help."""


class Child:
    """One process of the demo, its output shown line by line behind its name. If it is killed it is started again."""

    def __init__(
        self, name: str, command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], stop_limit_s: float
    ) -> None:
        self.name = name
        self.last_lines: deque[str] = deque(maxlen=40)
        self._command, self._cwd, self._environ, self._stop_limit_s = command, cwd, environ, stop_limit_s
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def keep_running(self) -> None:
        """Run it until ``stop``, again whenever somebody kills it.

        Raises:
            Ended: it ended by itself.
        """
        while not self._is_stopping:
            # Of a session of its own: Ctrl-C in the terminal reaches the demo alone, which then stops all in order.
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._cwd,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=MAX_LINE_BYTES,
                start_new_session=True,
            )
            if self._is_stopping:
                self._signal(signal.SIGTERM)
            await self._show_output(process)
            code = await process.wait()
            if self._is_stopping:
                return
            if code >= 0:
                raise Ended(f"{self.name} ended by itself, with exit code {code}")
            say("demo", f"{self.name} was ended by {signal.Signals(-code).name}; starting it again")

    async def stop(self) -> None:
        """Ask it to end, and make it if it does not in time."""
        self._is_stopping = True
        self._signal(signal.SIGTERM)
        if self._process is None:
            return
        try:
            async with asyncio.timeout(self._stop_limit_s):
                await self._process.wait()
        except TimeoutError:
            say("demo", f"{self.name} did not end within {self._stop_limit_s:g} s: killed")
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it now, without its consent, and what it may have started."""
        self._is_stopping = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                send = os.killpg if number is signal.SIGKILL else os.kill
                send(self._process.pid, number)

    async def _show_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.last_lines.append(text)
            say(self.name, text)


def say(name: str, text: str) -> None:
    """Print one line behind the name of who says it."""
    print(f"{name:6} | {text}", flush=True)
