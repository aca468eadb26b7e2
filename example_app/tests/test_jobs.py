"""The shop's jobs behind both front doors: what a request enqueues, what becomes of it, what survives a crash.

The fixture ``jobs`` is arq_web's; it needs no Redis, but each test runs on one as well (see ``conftest.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from arq_web import JobState
from arq_web.loading import app_lifespan
from arq_web.testing import JobTester
from example_app.shop import images, mail, orders, tasks
from example_app.tests.conftest import Inbox

ANN = {"name": "Ann", "email": "ann@example.com"}


@pytest.fixture(params=["fastapi_app", "litestar_app"])
def jobs_app(request: pytest.FixtureRequest) -> Any:
    """The app whose jobs are tested: the kit's fixture `jobs` asks for it."""
    return importlib.import_module(f"example_app.{request.param}").app


@pytest.fixture
async def client(jobs: JobTester, jobs_app: Any, shop_data: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running app: `jobs` first, so that the app comes up in the test's own namespace."""
    async with (
        app_lifespan(jobs_app),
        httpx.AsyncClient(transport=httpx.ASGITransport(jobs_app), base_url="http://shop") as client,
    ):
        yield client


async def test_an_upload_gets_its_thumbnails(client: httpx.AsyncClient, jobs: JobTester, shop_data: Path) -> None:
    images.write_sample(shop_data / "sample.jpg")

    await client.post("/images", files={"file": (shop_data / "sample.jpg").read_bytes()})
    assert (await client.get("/images")).json() == []

    [job] = jobs.assert_enqueued(tasks.make_thumbnails, count=1)
    await jobs.run_all()
    [shown] = (await client.get("/images")).json()
    assert shown["id"] == str(job.args[0])
    assert len(shown["thumbnails"]) == 2


async def test_what_is_no_picture_is_not_tried_again(client: httpx.AsyncClient, jobs: JobTester) -> None:
    jobs.raise_failures = False
    await client.post("/images", files={"file": b"no picture"})

    [job] = await jobs.run_all()

    assert (job.state, job.attempts) == (JobState.DEAD, 1)
    assert job.error is not None
    assert job.error.type.endswith("NotAnImage")


async def test_signing_up_twice_sends_one_mail(client: httpx.AsyncClient, jobs: JobTester, inbox: Inbox) -> None:
    for _ in range(2):
        await client.post("/customers", json=ANN)

    jobs.assert_enqueued(tasks.send_welcome, name="Ann", email="ann@example.com", count=1)
    await jobs.run_all()
    assert [each["To"] for each in inbox.mails] == ["ann@example.com"]


async def test_a_worker_that_dies_after_the_mail_sends_it_again_under_the_same_id(
    client: httpx.AsyncClient, jobs: JobTester, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can undo the first mail; its Message-ID lets the receiver drop the second."""
    monkeypatch.setattr(mail, "send", jobs.checkpointed(mail.send))
    await client.post("/customers", json=ANN)
    jobs.crash_at(1, tasks.send_welcome)

    [job] = await jobs.run_all()

    assert (job.state, job.crashes) == (JobState.SUCCEEDED, 1)
    first, second = inbox.mails
    assert first["Message-ID"] == second["Message-ID"] == job.result


async def test_thumbnails_survive_a_worker_that_dies(
    client: httpx.AsyncClient, jobs: JobTester, shop_data: Path
) -> None:
    images.write_sample(shop_data / "sample.jpg")
    jobs.crash_at("end", tasks.make_thumbnails, times=2)

    await client.post("/images", files={"file": (shop_data / "sample.jpg").read_bytes()})
    await jobs.run_all()

    assert len((await client.get("/images")).json()) == 1


async def test_an_order_and_its_receipt_are_one(client: httpx.AsyncClient, jobs: JobTester, inbox: Inbox) -> None:
    """The job lies in the shop's own database until it is relayed."""
    ordered = (await client.post("/orders", json={"product": "canvas", "email": "ann@example.com"})).json()
    refused = await client.post("/orders", json={"product": "sculpture", "email": "ann@example.com"})

    assert refused.status_code in (400, 422)
    await jobs.relay_outbox()
    [job] = jobs.assert_enqueued(tasks.send_receipt, ordered["order"], "ann@example.com")
    assert job.id == ordered["job"]
    jobs.assert_enqueued(tasks.send_receipt, count=1)
    await jobs.run_all()
    assert "one canvas" in str(inbox.mails[0].get_payload())


async def test_a_mail_server_that_is_away_is_asked_again(
    client: httpx.AsyncClient, jobs: JobTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five times, five seconds apart, in no time."""
    monkeypatch.setenv("SHOP_SMTP_PORT", "1")
    jobs.raise_failures = False
    await client.post("/customers", json=ANN)

    [job] = await jobs.run_all()

    assert (job.state, job.failures) == (JobState.DEAD, 5)


@pytest.mark.jobs(mode="inline")
async def test_the_third_try_reserves(client: httpx.AsyncClient, jobs: JobTester) -> None:
    """Inline: when the answer is there, the job has ended."""
    await client.post("/orders/7/reserve")

    [job] = jobs.assert_enqueued(tasks.reserve_stock, 7)
    assert job.result == "order 7 is reserved, at attempt 3"


async def test_a_report_that_dies_half_way_is_made_again(
    client: httpx.AsyncClient, jobs: JobTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each progress report is a checkpoint."""
    monkeypatch.setattr(orders, "PAUSE_S", 0)
    accepted = await client.post("/reports", json={"since": "2000-01-01"})
    jobs.crash_at(3)

    [job] = await jobs.run_all()

    assert (job.attempts, job.crashes) == (2, 1)
    status = (await client.get(accepted.headers["location"])).json()
    assert status["state"] == "succeeded"
    assert status["result"]["order_count"] == 120


@pytest.mark.jobs(mode="drain")
async def test_the_owner_gets_a_digest_each_night(client: httpx.AsyncClient, jobs: JobTester, inbox: Inbox) -> None:
    fired = await jobs.run_schedules(timedelta(days=2))

    assert [job.task for job in fired] == [tasks.nightly_digest.name] * 2
    assert [each["To"] for each in inbox.mails] == ["owner@shop.example"] * 2
