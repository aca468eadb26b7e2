"""The code blocks of a document, run as their reader would: worker, web app and Redis are processes of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.ports import free_port
from tests.support.projects import Finished, Project, Running, project_in
from tests.support.waiting import wait_until

HERE = Path(__file__).parent
STARTED = "Starting worker for"


@dataclass
class Document:
    """One document's modules in a folder of this test, and the processes that run them."""

    project: Project
    folder: Path
    web: list[httpx.AsyncClient] = field(default_factory=list)

    async def worker(self, target: str, *flags: str, module: str = "arq_web", is_up: bool = True) -> Running:
        """Start ``app-worker target`` (or ``python -m arq_web.arq target``), and wait until it works."""
        running = await self._start(f"worker-{len(self.project.running)}", "-m", module, target, *flags)
        if is_up:
            await running.says(STARTED)
        return running

    async def run(self, target: str, *flags: str) -> Finished:
        """Run ``app-worker`` to its end."""
        return await self.project.run(target, *flags)

    async def python(self, *arguments: str) -> Running:
        """Start Python."""
        return await self._start(f"python-{len(self.project.running)}", *arguments)

    async def serve(self, app: str) -> tuple[httpx.AsyncClient, Running]:
        """Start uvicorn with an app of the document; returns a client of it."""
        port = free_port()
        # uvloop looks up names without asking stand_ins/sitecustomize.py.
        flags = ("--port", str(port), "--app-dir", str(self.project.folder), "--loop", "asyncio")
        running = await self._start("web", "-m", "uvicorn", app, *flags)
        await running.says("Application startup complete")
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
        self.web.append(client)
        return client, running

    def file(self, name: str) -> list[str]:
        """The lines that a stand-in wrote."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    async def _start(self, name: str, *arguments: str) -> Running:
        log_path = self.folder / f"log-{name}"
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *arguments),
                cwd=self.project.folder,
                env=self.project.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        running = Running(process, log_path)
        self.project.running.append(running)
        return running


@asynccontextmanager
async def document_in(
    tmp_path: Path, seed: str, redis_url: str, namespace: str, *, cwd: str = "."
) -> AsyncGenerator[Document]:
    """Copy a document's modules to ``tmp_path/code``; ``cwd`` is the folder in it where commands are run."""
    code = tmp_path / "code"
    shutil.copytree(HERE / seed, code, ignore=shutil.ignore_patterns("__pycache__"))
    async with project_in(code / cwd, redis_url, namespace) as project:
        path = os.pathsep.join((str(HERE / "stand_ins"), str(code), str(code / cwd), project.env["PYTHONPATH"]))
        project.env |= {
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TEST_FOLDER": str(tmp_path),
            "TEST_REDIS_PORT": str(urlsplit(redis_url).port),
        }
        del project.env["REDIS_URL"]  # arq does not know it
        document = Document(project, tmp_path)
        try:
            yield document
        finally:
            for client in document.web:
                await client.aclose()


async def stopped(running: Running) -> int:
    """Stop a process as a supervisor would; returns its exit status."""
    running.send(signal.SIGTERM)
    return await running.ended()


async def lines_of(document: Document, name: str, count: int, within_s: float = 20.0) -> list[str]:
    """Wait for so many lines in a stand-in's file."""
    await wait_until(
        lambda: len(document.file(name)) >= count, timeout_s=within_s, description=f"{count} lines in {name}"
    )
    return document.file(name)


@dataclass
class HttpServer:
    """A real HTTP server of this test, with the answers that the test wants."""

    url: str = ""
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)
    """Status, headers and JSON of the next requests; then 200 and an id."""
    requests: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: read a request, answer, close."""
        with closing(writer), suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = next((int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
            body = await reader.readexactly(size)
            self.requests.append(f"{head.splitlines()[0]} {body.decode()}")
            status, headers, text = self.answers.pop(0) if self.answers else (200, {}, '{"id": "m1"}')
            lines = [f"HTTP/1.1 {status} -", "Connection: close", f"Content-Length: {len(text)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([*lines, "", text]).encode())
            await writer.drain()


@asynccontextmanager
async def http_server() -> AsyncGenerator[HttpServer]:
    """Listen on a free port of this machine."""
    made = HttpServer()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


def ended(result: Any) -> bool:
    """For ``wait_until``: a result is there."""
    return result is not None
