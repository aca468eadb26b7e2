"""What is ordered, and what was sold: a report for the owner who asks, a summary for the nightly mail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from example_app.shop.database import PRICE_CENTS, PRODUCTS, Order

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


@dataclass(frozen=True)
class OrderForm:
    """What somebody orders, and where the receipt goes."""

    product: str
    email: str

    def __post_init__(self) -> None:
        """Refuse what the shop does not have: a request with it is answered by a 4xx, and leaves nothing."""
        if self.product not in PRODUCTS:
            raise ValueError(f"there are {', '.join(PRODUCTS)}")


async def place(session: AsyncSession, form: OrderForm) -> Order:
    """Write down an order of today, in the caller's transaction."""
    order = Order(day=datetime.now(UTC).date(), product=form.product, price_cents=PRICE_CENTS[form.product])
    session.add(order)
    await session.flush()  # so that it has its number
    return order


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
