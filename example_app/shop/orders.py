"""What was sold: a report for the owner who asks, a summary for the nightly mail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from example_app.shop.database import PRODUCTS, Order

# The sample database is small: a real report takes its time, and then there is progress to look at.
PAUSE_S = 0.6

TellProgress = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True)
class ReportRequest:
    """What to report on."""

    since: date


@dataclass(frozen=True)
class ProductSales:
    """One product's part."""

    product: str
    order_count: int
    revenue_cents: int


@dataclass(frozen=True)
class OrderReport:
    """What was sold since a day."""

    since: date
    order_count: int
    revenue_cents: int
    products: list[ProductSales]


async def make_report(session: AsyncSession, since: date, tell_progress: TellProgress) -> OrderReport:
    """Count the orders since a day, product by product, telling how far it is."""
    products: list[ProductSales] = []
    for number, product in enumerate(PRODUCTS):
        await tell_progress(number / len(PRODUCTS), f"counting orders of {product}")
        products.append(await _sales(session, product, since))
        await asyncio.sleep(PAUSE_S)
    await tell_progress(1.0, "done")
    return OrderReport(
        since=since,
        order_count=sum(sales.order_count for sales in products),
        revenue_cents=sum(sales.revenue_cents for sales in products),
        products=products,
    )


async def count_of_day(session: AsyncSession, day: date) -> tuple[int, int]:
    """How many orders a day brought, and how many cents."""
    query = select(func.count(), func.coalesce(func.sum(Order.price_cents), 0)).where(Order.day == day)
    count, cents = (await session.execute(query)).one()
    return int(count), int(cents)


async def _sales(session: AsyncSession, product: str, since: date) -> ProductSales:
    query = select(func.count(), func.coalesce(func.sum(Order.price_cents), 0)).where(
        Order.product == product, Order.day >= since
    )
    count, cents = (await session.execute(query)).one()
    return ProductSales(product, int(count), int(cents))
