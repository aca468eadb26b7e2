"""How-to: enqueue with your transaction, what both frameworks share."""

# --8<-- [start:models]
from sqlalchemy import String
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from arq_web import task
from arq_web.outbox import outbox_table

engine = create_async_engine("sqlite+aiosqlite:///shop.sqlite")


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(200))


outbox_rows = outbox_table(Base.metadata)  # create_all and Alembic see it as one of yours


@task
async def send_receipt(order_id: int) -> str:
    async with AsyncSession(engine) as session:
        order = await session.get_one(Order, order_id)
        return f"receipt for {order.email}"


# --8<-- [end:models]
