"""A server that is told to stop does so, whoever has a stream or a long poll open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import redis.asyncio as redis_async

from tests.http.servers import WebProcess, web_process
from tests.http.streaming import events_of
from tests.support.waiting import wait_until

AT_ONCE_S = 3.0
"""With two cores for everybody; uvicorn alone takes 0.3 s."""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def env(redis_url: str, namespace: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "ARQ_WEB_NAMESPACE": namespace, "ARQ_WEB_DEV": "0"}


Open = Callable[[WebProcess], AbstractAsyncContextManager[asyncio.Task[list[str]]]]


@pytest.fixture
def open_both(redis: redis_async.Redis, namespace: str) -> Open:
    """Open a stream and a long poll, of two jobs that do not end; gives the names of the stream's events at its end."""

    async def is_waited_for(job_id: str) -> bool:
        return bool(await redis.exists(f"{namespace}:1:{{default}}:w:{job_id}"))

    @asynccontextmanager
    async def opened(web: WebProcess) -> AsyncIterator[asyncio.Task[list[str]]]:
        async with httpx.AsyncClient(base_url=web.url, timeout=60) as client:
            ids = [(await client.post("/climbs", params={"gate": "/nowhere"})).json()["id"] for _ in range(2)]
            async with client.stream("GET", f"/jobs/{ids[0]}/events") as response:
                assert response.status_code == 200
                reading = asyncio.create_task(_names(response))
                polling = asyncio.create_task(client.get(f"/jobs/{ids[1]}", headers={"prefer": "wait=25"}))
                for job_id in ids:
                    await wait_until(lambda job_id=job_id: is_waited_for(job_id), description="both wait")
                yield reading
                assert (await polling).json()["id"] == ids[1]

    return opened


async def _names(response: httpx.Response) -> list[str]:
    return [event.name async for event in events_of(response.aiter_bytes())]


@pytest.mark.parametrize("app", ["tests.http.live_fastapi:app", "tests.http.live_litestar:app"])
async def test_sigterm_ends_open_streams_at_once(
    app: str, open_both: Open, env: dict[str, str], tmp_path: Path
) -> None:
    """uvicorn waits for every open response before it tells the app: without a sign of its own it would be 25 s."""
    async with (
        web_process("uvicorn", app, folder=tmp_path, env=env) as web,
        open_both(web) as stream,
    ):
        assert await web.exit_s(limit_s=60) < AT_ONCE_S

        assert await stream == ["state"]
        assert "Application shutdown complete" in web.log
        assert "ERROR" not in web.log


async def test_several_workers_end_their_streams_at_once(open_both: Open, env: dict[str, str], tmp_path: Path) -> None:
    """Each is told by the first process, not by the terminal."""
    arguments = ("uvicorn", "tests.http.live_fastapi:app", "--workers", "2")
    async with web_process(*arguments, folder=tmp_path, env=env) as web, open_both(web) as stream:
        assert await web.exit_s(limit_s=60) < AT_ONCE_S

        assert await stream == ["state"]


async def test_a_server_of_which_we_know_nothing_is_held_up_by_the_streams_own_time_at_most(
    open_both: Open, env: dict[str, str], tmp_path: Path
) -> None:
    """Some library has put its own handler over uvicorn's. Five seconds while developing, 25 in production."""
    env |= {"ARQ_WEB_DEV": "1", "ARQ_WEB_EMBEDDED": "never"}
    async with (
        web_process("tests.http.covered_uvicorn", folder=tmp_path, env=env) as web,
        open_both(web) as stream,
    ):
        took_s = await web.exit_s(limit_s=60)

        assert "state" in await stream
    assert 1 < took_s < 5 + AT_ONCE_S


async def test_reload_is_not_held_up(open_both: Open, env: dict[str, str], tmp_path: Path) -> None:
    """Somebody saves a file while the page with the progress bar is open, and a job runs: 6 s, 3 for the job."""
    env["ARQ_WEB_DEV"] = "1"
    watched = tmp_path / "watched"
    watched.mkdir()
    arguments = ("uvicorn", "tests.http.live_fastapi:app", "--reload", "--reload-dir", str(watched))
    async with web_process(*arguments, folder=tmp_path, env=env) as web:
        async with open_both(web) as stream:
            (watched / "changed.py").write_text("# saved")
            await wait_until(
                lambda: "Application shutdown complete" in web.log, timeout_s=6, description="the old process has ended"
            )
            assert "state" in await stream
        await web.listens()
        assert await web.exit_s(limit_s=60) < 6
