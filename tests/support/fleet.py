"""Real worker processes for tests: started by the command line that users type, killed by their pid."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@dataclass(eq=False)
class WorkerProcess:
    """One ``app-worker`` process and its log file."""

    process: asyncio.subprocess.Process
    log_path: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return self.process.returncode is None

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event so far, each with its fields (and ``ts``, the host's time)."""
        found = []
        for text in self.log.splitlines():
            if text.startswith("{") and text.endswith("}"):  # not Python's own last words, nor a line half written
                line = json.loads(text)
                if line.get("event") == name:
                    found.append(line)
        return found

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def kill(self) -> None:
        """End it at once, as the kernel's memory killer would, and wait until it is gone."""
        self.process.kill()
        await self.process.wait()

    async def started(self) -> None:
        """Wait until it claims jobs."""

        def is_up() -> bool:
            return "worker.started" in self.log or not self.is_alive

        await wait_until(is_up, timeout_s=20, description="the worker has started")
        assert "worker.started" in self.log, self.log  # what it may die of then is its jobs' doing


@dataclass(eq=False)
class Fleet:
    """Worker processes of one test: all of them are gone when the test ends."""

    folder: Path
    env: Mapping[str, str]
    workers: list[WorkerProcess] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def start(self, target: str, *flags: str, env: Mapping[str, str] | None = None) -> WorkerProcess:
        """Start ``app-worker target flags`` and wait until it claims."""
        log_path = self.folder / f"worker-{next(self._numbers)}.log"  # several may start at once
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "arq_web",
                target,
                "--log-format",
                "json",
                *flags,
                cwd=ROOT,
                env={**os.environ, **self.env, **(env or {})},
                stdout=log,
                stderr=log,
            )
        worker = WorkerProcess(process, log_path)
        self.workers.append(worker)
        await worker.started()
        return worker

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event, of all workers that there were."""
        return [line for worker in self.workers for line in worker.events(name)]


@asynccontextmanager
async def worker_fleet(folder: Path, redis_url: str, namespace: str) -> AsyncGenerator[Fleet]:
    """A fleet against one Redis; leaves no process behind."""
    locks = folder / "locks"  # the host's own folder is for workers that somebody needs
    locks.mkdir(exist_ok=True)
    env = {
        "REDIS_URL": redis_url,
        "ARQ_WEB_NAMESPACE": namespace,
        "TEST_JOURNAL": str(folder / "journal"),
        "ARQ_WEB_LOCK_DIR": str(locks),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'integrations'}",
    }
    fleet = Fleet(folder, env)
    try:
        yield fleet
    finally:
        for worker in fleet.workers:
            if worker.is_alive:
                await worker.kill()
