"""Real web processes: uvicorn's command line, as users type it, and what it needs to be ended by the test alone."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.fleet import ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_until

START_LIMIT_S = 30.0


@dataclass(eq=False)
class WebProcess:
    """One uvicorn, with its log file."""

    process: asyncio.subprocess.Process
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(errors="replace")

    async def listens(self) -> None:
        """Return when it answers."""

        async def answers() -> bool:
            assert self.process.returncode is None, self.log
            async with httpx.AsyncClient(base_url=self.url) as client:
                try:
                    return (await client.get("/jobs/none")).status_code == 404
                except httpx.TransportError:
                    return False

        await wait_until(answers, timeout_s=START_LIMIT_S, description="the web process answers")

    async def exit_s(self, limit_s: float) -> float:
        """Tell it to stop (SIGTERM); how long that took."""
        began_at = time.monotonic()
        self.process.terminate()
        await asyncio.wait_for(self.process.wait(), limit_s)
        return time.monotonic() - began_at


@asynccontextmanager
async def web_process(
    *arguments: str, folder: Path, env: Mapping[str, str], port: int | None = None
) -> AsyncGenerator[WebProcess]:
    """Run ``python -m arguments --port``; it is gone at the end."""
    port = port or free_port()
    log_path = folder / f"web-{port}.log"
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *arguments, "--port", str(port)),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'integrations'}", **env},
            stdout=log,
            stderr=log,
        )
    web = WebProcess(process, port, log_path)
    try:
        await web.listens()
        yield web
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
