"""Whatever a client sends to the example apps, it gets what their OpenAPI documents say, and no server error."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
OPENAPI = {"fastapi": "/openapi.json", "litestar": "/schema/openapi.json"}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
OURS = ["--include-path-regex", "^/(reports|jobs)"]
"""What we answer for. Elsewhere the frameworks send what they do not document: a 400 to a body that is no text, a 404
to a path parameter that is no number."""


@pytest.fixture(params=sorted(OPENAPI))
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(framework: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an example app, in a process of its own."""
    port = free_port()
    environ = {
        **os.environ,
        "REDIS_URL": redis_url,
        "ARQ_WEB_NAMESPACE": namespace,
        "ARQ_WEB_EMBEDDED": "always",
        "ARQ_WEB_DEV": "0",
        "SHOP_DATA": str(tmp_path),
        "SHOP_SMTP_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "tests.http.example_server", framework, str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.timeout(180)
async def test_answers_are_as_documented(framework: str, server: str, tmp_path: Path) -> None:
    """From 202 on along the links, too: to the status, the result, the events and the cancel of real jobs."""
    document = server + OPENAPI[framework]
    await wait_until(lambda: is_up(document), timeout_s=30, description="the app answers")

    ran = await schemathesis(document, tmp_path, "--checks", ",".join(CHECKS), *OURS)

    assert ran.returncode == 0, ran.stdout[-6000:]
    assert "API Links" in ran.stdout
    assert " 0 covered" not in ran.stdout


@pytest.mark.timeout(180)
async def test_nothing_that_is_sent_is_a_server_error(framework: str, server: str, tmp_path: Path) -> None:
    """To any route of the app."""
    document = server + OPENAPI[framework]
    await wait_until(lambda: is_up(document), timeout_s=30, description="the app answers")

    ran = await schemathesis(document, tmp_path, "--checks", "not_a_server_error", "--phases", "coverage,fuzzing")

    assert ran.returncode == 0, ran.stdout[-6000:]


async def schemathesis(document: str, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it, the same requests each time."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "run", document, "--max-examples", "10", "--seed", "1", "--no-color", *options]
    run = functools.partial(subprocess.run, command, cwd=cwd, capture_output=True, text=True, check=False, timeout=150)
    return await asyncio.to_thread(run)


def is_up(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
