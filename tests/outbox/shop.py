"""A shop with orders in its own database, and an outbox beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import String, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from arq_web import Config, Hub, Job, task
from arq_web.outbox import Outbox, outbox_table
from arq_web.outbox.database import AnyEngine
from arq_web.outbox.relay import Relay


class Base(DeclarativeBase):
    pass


class Order(Base):
    """Something of the user's."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)


outbox_rows = outbox_table(Base.metadata)


@task(name="shop.send_receipt")
async def send_receipt(order: str) -> str:
    return f"receipt for {order}"


@task(name="shop.other")
async def other() -> None: ...


async def create_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


def make_hub(
    url: str, namespace: str, engine: AnyEngine | Callable[[], AnyEngine], *, poll: float = 3600, **options: Any
) -> Hub:
    """The app's hub. Its relays do not look by themselves: what is relayed was woken, or asked for."""
    config = options.pop("config", None) or Config(namespace=namespace, embedded="never")
    outbox = Outbox(engine, outbox_rows, poll=poll)
    return Hub(url=url, tasks=[send_receipt, other], queues=["default", "emails"], config=config, outbox=outbox)


def relay_of(hub: Hub) -> Relay:
    """One more relay of the app, to be told what to do."""
    [make] = hub.companions
    relay = make()
    assert isinstance(relay, Relay)
    return relay


async def write(engine: AsyncEngine, hub: Hub, *names: str, commit: bool = True) -> list[str]:
    """Orders, and a receipt for each, in one transaction; the ids of the jobs."""
    async with AsyncSession(engine) as session:
        ids = []
        for name in names:
            session.add(Order(name=name))
            ids.append(hub.queue().outbox(session).enqueue(send_receipt, name).id)
        await (session.commit() if commit else session.rollback())
        return ids


async def rows(engine: AsyncEngine) -> list[dict[str, Any]]:
    """All that is in the outbox, in its order."""
    async with engine.connect() as connection:
        found = await connection.execute(select(outbox_rows).order_by(outbox_rows.c.id))
        return [{**row} for row in found.mappings()]


async def orders(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return list(await connection.scalars(select(Order.name).order_by(Order.id)))


async def change(engine: AsyncEngine, sql: str, **values: object) -> None:
    """Move the data, not the clock."""
    async with engine.begin() as connection:
        await connection.execute(text(sql), values)


async def waiting(hub: Hub, queue: str = "default") -> list[str]:
    """The ids of the queued jobs, in their order."""
    store = hub.queue(queue).store
    found = await store.connections.get().execute("ZRANGE", store.base + b"ready", 0, -1)
    assert isinstance(found, list)
    return [each.decode() for each in found if isinstance(each, bytes)]


async def finish(hub: Hub) -> None:
    """Run what is queued, in all queues."""
    await hub.worker(burst=True).run()


def receipt_job(hub: Hub, job_id: str) -> Job[str]:
    return hub.queue().job(job_id, send_receipt)
