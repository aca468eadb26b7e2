"""How-to: enqueue with your transaction, FastAPI."""

# --8<-- [start:imports]
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from arq_web.fastapi import ArqWeb, Queue
from arq_web.outbox import Outbox

# --8<-- [end:imports]
from tests.docs.examples.transaction_shop import Order, engine, outbox_rows, send_receipt

# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, tasks=[send_receipt], outbox=Outbox(engine, outbox_rows))


async def get_session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


Session = Annotated[AsyncSession, Depends(get_session)]
# --8<-- [end:app]


# --8<-- [start:outbox]
@app.post("/orders")
async def take_order(email: str, session: Session, queue: Queue) -> dict[str, str]:
    order = Order(email=email)
    session.add(order)
    await session.flush()  # gives it an id
    job = queue.outbox(session).enqueue(send_receipt, order.id)
    await session.commit()  # the order and its job, or neither
    return {"job": job.id}


# --8<-- [end:outbox]


# --8<-- [start:after_commit]
@app.post("/orders/quick")
async def take_quick_order(email: str, session: Session, queue: Queue) -> dict[str, str]:
    order = Order(email=email)
    session.add(order)
    await session.flush()
    job = queue.after_commit(session).enqueue(send_receipt, order.id)
    await session.commit()  # when this returns, the job is enqueued (or the log says why not)
    return {"job": job.id}


# --8<-- [end:after_commit]


# --8<-- [start:after_response]
@app.post("/orders/{order_id}/receipt")
async def send_again(order_id: int, queue: Queue) -> dict[str, str]:
    job = queue.after_response.enqueue(send_receipt, order_id)
    return {"job": job.id}  # a 404 raised here, or anywhere later, would drop it


# --8<-- [end:after_response]
