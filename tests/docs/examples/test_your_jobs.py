"""How-to: test your jobs. Pytest collects this file itself: it is what the page shows."""

# --8<-- [start:imports]
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from arq_web.testing import JobTester

# --8<-- [end:imports]
from tests.docs.examples import tested_shop as shop
from tests.docs.examples.tested_shop import Bank, app, charge, count_orders, send_welcome


@pytest.fixture
def jobs_app() -> object:
    """What ``arq_web_app`` in the configuration does on the page."""
    return app


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> Bank:
    monkeypatch.setattr(shop, "bank", Bank())
    return shop.bank


# --8<-- [start:function]
async def test_a_task_is_a_function() -> None:
    assert await send_welcome(42) == "sent a welcome to user 42"
    # --8<-- [end:function]


# --8<-- [start:client]
@pytest.fixture
def client(jobs: JobTester) -> Iterator[TestClient]:  # jobs first: the app comes up in the test's own namespace
    with TestClient(app) as client:
        yield client
        # --8<-- [end:client]


# --8<-- [start:collect]
def test_signing_up_enqueues_a_welcome(client: TestClient, jobs: JobTester) -> None:
    client.post("/signup/42")

    [job] = jobs.assert_enqueued(send_welcome, 42, delay=timedelta(hours=1))
    jobs.refute_enqueued(charge)
    assert (job.args, job.queue, job.attempts) == ((42,), "default", 0)
    # --8<-- [end:collect]


# --8<-- [start:drain]
def test_the_welcome_comes_after_an_hour(client: TestClient, jobs: JobTester) -> None:
    client.post("/signup/42")

    assert len(jobs.run_all_sync(until=timedelta(minutes=59))) == 0
    [job] = jobs.run_all_sync()

    assert job.result == "sent a welcome to user 42"
    # --8<-- [end:drain]


# --8<-- [start:async]
@pytest.fixture
async def async_client(jobs: JobTester) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_a_closed_bank_is_asked_again(async_client: httpx.AsyncClient, jobs: JobTester, bank: Bank) -> None:
    bank.is_open = False
    await async_client.post("/orders/7")
    await jobs.run_all(until=timedelta(minutes=15))  # asked at once and after ten minutes

    bank.is_open = True
    [job] = await jobs.run_all()

    assert (job.attempts, job.failures) == (3, 2)
    assert bank.charges == [(7, "order-7")]
    # --8<-- [end:async]


# --8<-- [start:inline]
@pytest.mark.jobs(mode="inline")
def test_an_order_is_charged(client: TestClient, bank: Bank) -> None:
    answer = client.post("/orders/7").json()

    assert answer["state"] == "succeeded"
    assert bank.charges == [(7, "order-7")]
    # --8<-- [end:inline]


# --8<-- [start:failing]
@pytest.mark.jobs(raise_failures=False)
def test_a_bank_that_stays_closed(client: TestClient, jobs: JobTester, bank: Bank) -> None:
    bank.is_open = False
    client.post("/orders/7")

    [job] = jobs.run_all_sync()

    assert (job.state, job.attempts) == ("dead", 5)
    assert job.error is not None
    assert job.error.message == "the bank is closed"
    # --8<-- [end:failing]


# --8<-- [start:crash]
def test_nobody_pays_twice(client: TestClient, jobs: JobTester, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "charge", jobs.checkpointed(bank.charge))
    client.post("/orders/7")

    jobs.crash_at(1, charge)  # the bank has charged, and the worker dies before it hears of it
    [job] = jobs.run_all_sync()

    assert (job.attempts, job.crashes) == (2, 1)
    assert bank.charges == [(7, "order-7")]  # without the key there would be two
    # --8<-- [end:crash]


# --8<-- [start:schedules]
def test_orders_are_counted_each_night(client: TestClient, jobs: JobTester) -> None:
    fired = jobs.run_schedules_sync(timedelta(days=3))

    assert [job.task for job in fired] == [count_orders.name] * 3
    # --8<-- [end:schedules]


# --8<-- [start:without]
def signup_is_fine() -> bool:
    with JobTester(app, mode="inline") as jobs, TestClient(app) as client:
        client.post("/signup/42")
        return len(jobs.enqueued) == 1
        # --8<-- [end:without]


def test_it_works_without_the_plugin() -> None:
    assert signup_is_fine()


def test_the_bank_really_charges_twice_without_a_key(jobs: JobTester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comment on the page is true."""

    class Careless(Bank):
        async def charge(self, order_id: int, key: str) -> None:
            self.charges.append((order_id, key))

    careless: Any = Careless()
    monkeypatch.setattr(shop, "bank", careless)
    monkeypatch.setattr(careless, "charge", jobs.checkpointed(careless.charge))
    with TestClient(app) as client:
        client.post("/orders/7")
        jobs.crash_at(1, charge)
        jobs.run_all_sync()

    assert len(careless.charges) == 2
