"""Customers and orders, over the real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from example_app.shop import customers, database, orders


async def test_a_report_adds_up_and_tells_how_far_it_is(shop_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "PAUSE_S", 0)
    told: list[float] = []

    async def tell(fraction: float, _message: str) -> None:
        told.append(fraction)

    async with database.lifespan(), database.open_session() as session:
        report = await orders.make_report(session, datetime.now(UTC).date() - timedelta(days=400), tell)

    assert report.order_count == database.SAMPLE_ORDER_COUNT
    assert sum(each.revenue_cents for each in report.products) == report.revenue_cents
    assert [each.product for each in report.products] == list(database.PRODUCTS)
    assert told == [0, 0.25, 0.5, 0.75, 1]


async def test_web_and_worker_may_both_prepare_the_database(shop_data: Path) -> None:
    """Both run the app's lifespan, maybe at the same time; the sample orders are there once."""
    async with database.lifespan(), database.lifespan(), database.open_session() as session:
        counts = [await orders.count_of_day(session, day) for day in (datetime.now(UTC).date() - timedelta(days=9),)]

    assert [count for count, _ in counts] == [2]


async def test_the_same_address_signs_up_once(shop_data: Path) -> None:
    """The customer's id is what the welcome mail's job is named by."""
    async with database.lifespan(), database.open_session() as session:
        first = await customers.sign_up(session, customers.SignUp("Ann", "ann@example.com"))
        second = await customers.sign_up(session, customers.SignUp("Anna", "ann@example.com"))
        other = await customers.sign_up(session, customers.SignUp("Bob", "bob@example.com"))

    assert first.id == second.id != other.id


async def test_an_order_is_part_of_the_callers_transaction(shop_data: Path) -> None:
    """So its receipt's job is, too."""
    async with database.lifespan(), database.open_session() as session:
        kept_id = (await orders.place(session, orders.OrderForm("poster", "ann@example.com"))).id
        await session.commit()
        dropped_id = (await orders.place(session, orders.OrderForm("print", "ann@example.com"))).id
        await session.rollback()

    async with database.open_session() as session:
        assert (await session.get_one(database.Order, kept_id)).product == "poster"
        assert await session.get(database.Order, dropped_id) is None


def test_what_the_shop_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="photo book"):
        orders.OrderForm("sculpture", "ann@example.com")


@pytest.mark.parametrize("email", ["ann", "ann@", "ann@example.com\nBcc: bob@example.com"])
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(ValueError, match="name or email"):
        customers.SignUp("Ann", email)
