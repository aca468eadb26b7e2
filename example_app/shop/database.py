"""The shop's database: two tables and an outbox, a session, and some orders to report on."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from uuid import UUID

from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from arq_web.outbox import outbox_table
from example_app.shop.settings import make_directories, settings

PRODUCTS = ("print", "poster", "canvas", "photo book")
PRICE_CENTS: dict[str, int] = dict(zip(PRODUCTS, (900, 1900, 4900, 2900), strict=True))
SAMPLE_ORDER_COUNT = 120


class Base(DeclarativeBase):
    """The tables' common root."""


class Customer(Base):
    """Somebody who signed up."""

    __tablename__ = "customers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(unique=True)


class Order(Base):
    """One product, sold on one day."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date]
    product: Mapped[str]
    price_cents: Mapped[int]


outbox_rows = outbox_table(Base.metadata)
"""Jobs that are part of a transaction: a table like the others."""


@asynccontextmanager
async def lifespan(_app: object = None) -> AsyncIterator[None]:
    """What an app does around its life, in either framework: the worker runs it too, at the same time."""
    make_directories()
    async with engine().begin() as connection:
        for table in Base.metadata.sorted_tables:
            await connection.execute(CreateTable(table, if_not_exists=True))
        # By fixed ids, and ignored if they are there: web and worker may both be doing this right now.
        await connection.execute(insert(Order).on_conflict_do_nothing(), _sample_orders(date.today()))  # noqa: DTZ011
    yield


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for one request or one job: the dependency of both frameworks, closed when that ends."""
    async with open_session() as session:
        yield session


def open_session() -> AsyncSession:
    """A session where no framework hands one out: ``async with open_session() as session``."""
    # What was loaded stays readable after a commit: reading it again would need an await that no attribute can do.
    return AsyncSession(engine(), expire_on_commit=False)


def engine() -> AsyncEngine:
    """The database's; a function, for it is asked for when the settings are known."""
    return _engine(settings().database_url)


@functools.cache
def _engine(url: str) -> AsyncEngine:
    # No pool: a connection belongs to the event loop that opened it, and for a file it costs next to nothing.
    return create_async_engine(url, poolclass=NullPool)


def _sample_orders(today: date) -> list[dict[str, object]]:
    return [
        {
            "id": number + 1,
            "day": today - timedelta(days=number // 2),
            "product": PRODUCTS[number % len(PRODUCTS)],
            "price_cents": 900 + 350 * (number % 7),
        }
        for number in range(SAMPLE_ORDER_COUNT)
    ]
