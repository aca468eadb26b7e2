"""How-to "Show progress": what its tasks report. Its page is tried in a browser, by tests/http/test_browser.py."""

from __future__ import annotations

import asyncio
import threading

import pytest

from arq_web import Job
from tests.docs.examples import reporting
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working


async def test_so_many_of_so_many_and_when_it_will_be_done(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once; the third only when somebody has looked."""
    looked = asyncio.Event()

    async def store(row: str) -> None:
        await asyncio.sleep(0.01)
        if row == "third":
            await looked.wait()

    monkeypatch.setattr(reporting, "store", store)
    hub = make_hub(redis_url, namespace, reporting.import_customers)
    async with queue_of(hub) as queue, working(hub):
        job = await queue.enqueue(reporting.import_customers, ["first", "second", "third", "fourth"])
        await wait_until(lambda: _is_at(job, 0.5), description="half of it")
        progress = (await job.info()).progress
        looked.set()
        assert await job.result(timeout=10) == 4

    assert progress is not None
    assert (progress.message, progress.current, progress.total) == ("storing", 2, 4)
    assert progress.eta_s is not None
    assert 0 <= progress.eta_s < 5


async def test_a_def_task_reports_too(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its thread."""
    looked, scale = threading.Event(), reporting.scale

    def scale_when_looked_at(picture: str, width: int) -> str:
        looked.wait(timeout=10 if width == 400 else 0)
        return scale(picture, width)

    monkeypatch.setattr(reporting, "scale", scale_when_looked_at)
    hub = make_hub(redis_url, namespace, reporting.make_thumbnails)
    async with queue_of(hub) as queue, working(hub):
        job = await queue.enqueue(reporting.make_thumbnails, "pictures/sea.jpg")
        await wait_until(lambda: _is_at(job, 1 / 3), description="a third of it")
        progress = (await job.info()).progress
        looked.set()
        assert await job.result(timeout=10) == ["sea-100.jpg", "sea-400.jpg", "sea-1600.jpg"]

    assert progress is not None
    assert (progress.message, progress.total) == ("400 pixels", None)


async def _is_at(job: Job[object], fraction: float) -> bool:
    progress = (await job.info()).progress
    return progress is not None and progress.fraction == pytest.approx(fraction)
