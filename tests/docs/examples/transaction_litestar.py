"""How-to: enqueue with your transaction, Litestar."""

# --8<-- [start:imports]
from collections.abc import AsyncIterator

from litestar import Litestar, post
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery
from sqlalchemy.ext.asyncio import AsyncSession

from arq_web.litestar import ArqWeb, Queue
from arq_web.outbox import Outbox

# --8<-- [end:imports]
from tests.docs.examples.transaction_shop import Order, engine, outbox_rows, send_receipt


# --8<-- [start:app]
async def get_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


Session = NamedDependency[AsyncSession]
# --8<-- [end:app]


# --8<-- [start:outbox]
@post("/orders")
async def take_order(email: FromQuery[str], session: Session, queue: Queue) -> dict[str, str]:
    order = Order(email=email)
    session.add(order)
    await session.flush()  # gives it an id
    job = queue.outbox(session).enqueue(send_receipt, order.id)
    await session.commit()  # the order and its job, or neither
    return {"job": job.id}


# --8<-- [end:outbox]


# --8<-- [start:after_commit]
@post("/orders/quick")
async def take_quick_order(email: FromQuery[str], session: Session, queue: Queue) -> dict[str, str]:
    order = Order(email=email)
    session.add(order)
    await session.flush()
    job = queue.after_commit(session).enqueue(send_receipt, order.id)
    await session.commit()  # when this returns, the job is enqueued (or the log says why not)
    return {"job": job.id}


# --8<-- [end:after_commit]


# --8<-- [start:after_response]
@post("/orders/{order_id:int}/receipt")
async def send_again(order_id: FromPath[int], queue: Queue) -> dict[str, str]:
    job = queue.after_response.enqueue(send_receipt, order_id)
    return {"job": job.id}  # a 404 raised here, or anywhere later, would drop it


# --8<-- [end:after_response]

# --8<-- [start:make_app]
app = Litestar(
    [take_order, take_quick_order, send_again],
    dependencies={"session": Provide(get_session)},
    plugins=[ArqWeb(tasks=[send_receipt], outbox=Outbox(engine, outbox_rows))],
)
# --8<-- [end:make_app]
