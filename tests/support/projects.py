"""``app-worker`` as users run it: a process of its own, in a project directory of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import arq_web
from tests.support.recovery import is_running
from tests.support.waiting import wait_until

ROOT = Path(arq_web.__file__).parents[1]
APP_WORKER = (sys.executable, "-P", "-m", "arq_web")
SHOP = "tests.cli.shop:app"
TINY_APP = """
from types import SimpleNamespace
from arq_web import Hub, task

@task
async def nothing() -> None: ...

hub = Hub(tasks=[nothing])

class App:
    state = SimpleNamespace(arq_web=hub)

    async def __call__(self, scope, receive, send):
        raise RuntimeError("no lifespan here")

app = App()
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which must be JSON."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Its output, each line of which must be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(eq=False)
class Running:
    """A command that runs, and its log."""

    process: asyncio.subprocess.Process
    log_path: Path

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(errors="replace")

    def count(self, text: str) -> int:
        """How often the log has ``text``."""
        return self.log.count(text)

    def send(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def send_group(self, number: signal.Signals) -> None:
        """Send its process group a signal, as a terminal does."""
        os.killpg(self.process.pid, number)

    def processes(self, number: int | None = None) -> list[int]:
        """The pids of the processes that it has started as a supervisor, or of those of one number, in that order."""
        wanted = r"\d+" if number is None else str(number)
        return [int(pid) for pid in re.findall(rf"process\.started +process={wanted} pid=(\d+)", self.log)]

    async def says(self, text: str, times: int = 1) -> None:
        """Wait for a text in its log; it must live until then."""
        await wait_until(
            lambda: self.count(text) >= times or self.process.returncode is not None,
            timeout_s=20,
            description=f"the log says {text!r}",
        )
        assert self.count(text) >= times, self.log

    async def ended(self, within_s: float = 20.0) -> int:
        """Wait for its end; returns the exit status."""
        return await asyncio.wait_for(self.process.wait(), within_s)


@dataclass
class Project:
    """A directory with an app, and the environment to run ``app-worker`` in."""

    folder: Path
    env: dict[str, str]
    running: list[Running] = field(default_factory=list)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.write_text(text)
        return path

    async def run(self, *args: str, env: Mapping[str, str | None] | None = None, within_s: float = 30.0) -> Finished:
        """Run a command to its end."""
        process = await self._start(args, env, asyncio.subprocess.PIPE, asyncio.subprocess.PIPE)
        try:
            out, err = await asyncio.wait_for(process.communicate(), within_s)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Finished(process.returncode or 0, out.decode(), err.decode())

    async def start(
        self,
        *args: str,
        env: Mapping[str, str | None] | None = None,
        is_up: bool = True,
        program: Sequence[str] = APP_WORKER,
    ) -> Running:
        """Start a command; by default wait until its worker works. It leads a process group of its own."""
        log_path = self.folder / f"log-{len(self.running)}"
        with log_path.open("wb") as log:
            running = Running(await self._start(args, env, log, log, program), log_path)
        self.running.append(running)
        if is_up:
            await running.says("worker.started")
        return running

    async def _start(
        self,
        args: tuple[str, ...],
        env: Mapping[str, str | None] | None,
        out: Any,
        err: Any,
        program: Sequence[str] = APP_WORKER,
    ) -> asyncio.subprocess.Process:
        merged = {**self.env, **(env or {})}
        return await asyncio.create_subprocess_exec(
            *(*program, *args),
            cwd=self.folder,
            env={name: value for name, value in merged.items() if value is not None},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            process_group=0,
        )


@asynccontextmanager
async def project_in(folder: Path, redis_url: str, namespace: str) -> AsyncGenerator[Project]:
    """A project whose REDIS_URL and namespace are the test's; leaves no process behind."""
    ours = ("ARQ_WEB_", "REDIS_URL", "CI", "NO_COLOR")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {
        "REDIS_URL": redis_url,
        "ARQ_WEB_NAMESPACE": namespace,
        "TEST_JOURNAL": str(folder / "journal"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'integrations'}",
    }
    project = Project(folder, env)
    try:
        yield project
    finally:
        for running in project.running:
            if running.process.returncode is None:
                running.process.kill()
                await running.process.wait()
        orphans = [pid for running in project.running for pid in running.processes() if is_running(pid)]
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
        assert not orphans, "processes outlived their supervisor"
