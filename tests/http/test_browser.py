"""A real EventSource in a real browser, on the page that the docs show: it follows a job to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import ROOT
from tests.http.browser import CHROMIUM, WITHOUT, Browser, looking_at, spied
from tests.http.live import STEPS
from tests.http.servers import web_process
from tests.support.fleet import Fleet, worker_fleet
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.timeout(180)]

PAGE = (ROOT / "tests/docs/examples/progress.html").read_text(encoding="utf-8")
APPS = ["tests.http.live_fastapi:app", "tests.http.live_litestar:app"]
START_LIMIT_S = 60.0
"""Of a browser, on two cores that others use too."""


@pytest.fixture
def env(redis_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    """While developing: streams end by themselves after five seconds."""
    return {
        "REDIS_URL": redis_url,
        "ARQ_WEB_NAMESPACE": namespace,
        "ARQ_WEB_DEV": "1",
        "ARQ_WEB_EMBEDDED": "never",
        "TEST_PAGES": str(tmp_path),
    }


@pytest.fixture
async def fleet(tmp_path: Path, redis_url: str, namespace: str) -> AsyncIterator[Fleet]:
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet:
        yield fleet


class Climb:
    """The job that the page starts; ``climb`` lets it take steps."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        self.gate.mkdir()

    @property
    def page(self) -> str:
        """The page, with this job for the one of the docs."""
        return PAGE.replace('"/reports/2026-11"', f'"/climbs?gate={self.gate}"')

    def climb(self, first: int, last: int) -> None:
        """Let it take the steps ``first`` to ``last``."""
        for step in range(first, last + 1):
            (self.gate / str(step)).touch()


@pytest.mark.parametrize("app", APPS)
async def test_a_page_follows_a_job_over_restarts_of_everything(
    app: str, env: dict[str, str], fleet: Fleet, tmp_path: Path
) -> None:
    """The stream's own end, a killed worker, a web process that is replaced: the page learns all of it, and once."""
    port, job = free_port(), Climb(tmp_path)
    async with (
        spied(job.page, tmp_path, "progress.html") as page,
        web_process("uvicorn", app, folder=tmp_path, env=env, port=port) as web,
    ):
        worker = await fleet.start(app)
        async with looking_at(f"{web.url}/pages/progress.html", tmp_path):
            await _shows(page, "running", timeout_s=START_LIMIT_S)
            job.climb(1, 3)
            await _climbed(page, 3)

            await wait_until(lambda: len(page.heard("open")) == 2, timeout_s=20, description="a second stream")
            await worker.kill()
            await fleet.start(app)
            job.climb(4, 6)
            await _climbed(page, 6)

            await web.exit_s(limit_s=20)
            async with web_process("uvicorn", app, folder=tmp_path, env=env, port=port):
                job.climb(7, STEPS)
                await wait_until(lambda: page.heard("shown"), timeout_s=30, description="the page shows the end")
                async with httpx.AsyncClient(base_url=web.url) as client:
                    final = (await client.get(page.heard("done")[0]["data"]["links"]["self"])).json()

    [done], [shown] = page.heard("done"), page.heard("shown")
    assert done["data"] == final
    assert (shown["bar"], shown["words"]) == (1, 'ready: "at the top"')
    states = [(word["data"]["state"], word["data"]["attempt"]) for word in page.heard("state")]
    assert states[-1] == ("succeeded", 2)
    assert ("running", 1) in states
    assert ("running", 2) in states
    ids = [word["id"] for name in ("state", "progress", "done") for word in page.heard(name)]
    assert len(ids) == len(set(ids))


async def test_a_browser_that_nobody_tells_to_stop_stops_by_itself(
    env: dict[str, str], fleet: Fleet, tmp_path: Path
) -> None:
    """It comes back after the end, and gets a 204: an EventSource takes nothing else but an error for an end."""
    job = Climb(tmp_path)
    html = job.page.replace("events.close()", "")
    assert html != job.page
    job.climb(1, STEPS)
    async with (
        spied(html, tmp_path, "endless.html") as page,
        web_process("uvicorn", APPS[0], folder=tmp_path, env=env) as web,
    ):
        await fleet.start(APPS[0])
        async with looking_at(f"{web.url}/pages/endless.html", tmp_path):
            await wait_until(lambda: page.heard("done"), timeout_s=START_LIMIT_S, description="the job has ended")
            await wait_until(
                lambda: [word["ready"] for word in page.heard("error")][-1:] == [2],
                timeout_s=20,
                description="the browser has closed it",
            )
            opened_count = web.log.count("/events HTTP")
            await asyncio.sleep(3)  # it would come back after two seconds

    assert web.log.count("/events HTTP") == opened_count == 2
    assert len(page.heard("done")) == 1


async def _shows(page: Browser, state: str, *, timeout_s: float) -> None:
    await wait_until(
        lambda: page.heard("state") and page.heard("state")[-1]["data"]["state"] == state,
        timeout_s=timeout_s,
        description=f"the page knows that the job is {state}",
    )


async def _climbed(page: Browser, step: int) -> None:
    await wait_until(
        lambda: page.heard("progress") and page.heard("progress")[-1]["data"]["current"] == step,
        timeout_s=30,
        description=f"the page knows of step {step}",
    )
