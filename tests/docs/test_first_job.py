"""The tutorial's app does what the tutorial says, kill -9 included."""

from __future__ import annotations

from pathlib import Path

import pytest

from arq_web import Config, JobState, Queue
from tests.docs.apps import app_on
from tests.docs.examples import first_job_fastapi, first_job_litestar
from tests.docs.pages import DOCS, code_blocks
from tests.support.fleet import worker_fleet
from tests.support.waiting import wait_until

APPS = {"fastapi": first_job_fastapi.app, "litestar": first_job_litestar.app}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("framework", sorted(APPS))
async def test_the_job_survives_kill_9(redis_url: str, namespace: str, tmp_path: Path, framework: str) -> None:
    """Started by HTTP, killed in the middle, finished by the next worker; at the cost of a crash and of no try."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(f"tests.docs.examples.first_job_{framework}:app")
        async with app_on(APPS[framework], redis_url, namespace) as (_, client):
            accepted = await client.post("/reports/2026-12")
        job = queue.job(accepted.json()["id"], first_job_fastapi.report)

        async def in_the_middle() -> bool:
            info = await job.info()
            return info.progress is not None and info.progress.fraction > 0

        await wait_until(in_the_middle, description="the report is on its way")
        await worker.kill()
        await fleet.start(f"tests.docs.examples.first_job_{framework}:app")

        assert await job.result(timeout=60) == {"month": "2026-12", "report": "all is well"}
        info = await job.info()

    assert accepted.status_code == 202
    assert (info.state, info.attempt, info.failures, info.crashes) == (JobState.SUCCEEDED, 2, 0, 1)


@pytest.mark.parametrize("framework", sorted(APPS))
async def test_what_the_page_prints_has_the_fields_that_are_answered(
    redis_url: str, namespace: str, framework: str
) -> None:
    """Ids and times differ, words must not."""
    async with app_on(APPS[framework], redis_url, namespace) as (hub, client):
        signup = await client.post("/signup/42")
        await hub.worker(burst=True).run()
        accepted = await client.post("/reports/2026-11")
        await hub.queue().job(accepted.json()["id"], first_job_fastapi.report).cancel()
    shown = "\n".join(block.text for block in code_blocks(DOCS / "tutorial" / "first-job.md"))

    assert list(signup.json()) == ["job"]
    assert '\n{"job":"' in shown
    assert "HTTP/1.1 202 Accepted" in shown
    for name in ("location", "retry-after", "cache-control", "content-type"):
        assert name in accepted.headers
        assert f"\n{name}: " in shown
    assert all(f'"{name}":' in shown for name in accepted.json())
