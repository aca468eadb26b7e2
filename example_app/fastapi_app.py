"""The shop behind FastAPI. litestar_app.py is the same shop behind Litestar: look at them side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, UploadFile
from fastapi.staticfiles import StaticFiles
from sqlalchemy.ext.asyncio import AsyncSession

from arq_web.fastapi import INJECTED, ArqWeb, Progress, Queue, background_job
from arq_web.outbox import Outbox
from example_app.shop import customers, database, images, orders, tasks
from example_app.shop.replies import Enqueued, Ordered, Uploaded
from example_app.shop.settings import settings

Session = Annotated[AsyncSession, Depends(database.get_session)]

app = FastAPI(title="Photo shop", lifespan=database.lifespan)
outbox = Outbox(database.engine, database.outbox_rows)
ArqWeb(app, tasks=[tasks], schedules=tasks.SCHEDULES, outbox=outbox)
app.mount("/thumbnails", StaticFiles(directory=settings().thumbnails, check_dir=False))


@app.post("/images", status_code=202)
async def upload_image(file: UploadFile, queue: Queue) -> Uploaded:
    """Keep the picture; a job makes thumbnails of it."""
    try:
        image_id = await images.store(file)
    except images.UploadTooLarge as error:
        raise HTTPException(413, str(error)) from error
    job = await queue.enqueue(tasks.make_thumbnails, image_id)
    return Uploaded(image_id, job.id)


@app.get("/images")
def newest_images() -> list[images.ImageInfo]:
    """The pictures that have their thumbnails."""
    return images.newest()


@app.post("/customers", status_code=202)
async def sign_up(form: customers.SignUp, session: Session, queue: Queue) -> Enqueued:
    """Sign up, as often as you like: the welcome mail is sent once."""
    customer = await customers.sign_up(session, form)
    welcome = tasks.send_welcome.options(id=f"welcome:{customer.id}")
    job = await queue.enqueue(welcome, customer.id, customer.name, customer.email)
    return Enqueued(job.id, job.created)


@app.post("/orders", status_code=202)
async def place_order(form: orders.OrderForm, session: Session, queue: Queue) -> Ordered:
    """Take an order. Its receipt's job is committed with it, or neither is."""
    order = await orders.place(session, form)
    job = queue.outbox(session).enqueue(tasks.send_receipt, order.id, form.email)
    await session.commit()
    return Ordered(order.id, job.id)


@app.post("/orders/{order_id}/reserve", status_code=202)
async def reserve(order_id: int, queue: Queue) -> Enqueued:
    """Reserve an order's stock: the task fails twice and then succeeds."""
    job = await queue.enqueue(tasks.reserve_stock, order_id)
    return Enqueued(job.id, job.created)


@app.post("/reports", status_code=202)
@background_job(timeout=600)
async def make_report(
    form: orders.ReportRequest, session: Session = INJECTED, progress: Progress = INJECTED
) -> orders.OrderReport:
    """Report what was sold: this body runs in the worker, with a session of its own."""
    return await orders.make_report(session, form.since, progress)
