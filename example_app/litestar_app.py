"""The shop behind Litestar. fastapi_app.py is the same shop behind FastAPI: look at them side by side."""

from __future__ import annotations

from dataclasses import dataclass

from litestar import Litestar, get, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath, JSONBody, MultipartBody
from litestar.static_files import create_static_files_router
from sqlalchemy.ext.asyncio import AsyncSession

from arq_web.litestar import INJECTED, ArqWeb, Progress, Queue, background_job
from arq_web.outbox import Outbox
from example_app.shop import customers, database, images, orders, tasks
from example_app.shop.replies import Enqueued, Ordered, Uploaded
from example_app.shop.settings import settings

Session = NamedDependency[AsyncSession]


@dataclass
class Picture:
    """The form of an upload."""

    file: UploadFile


@post("/images", status_code=202)
async def upload_image(data: MultipartBody[Picture], queue: Queue) -> Uploaded:
    """Keep the picture; a job makes thumbnails of it."""
    try:
        image_id = await images.store(data.file)
    except images.UploadTooLarge as error:
        raise HTTPException(str(error), status_code=413) from error
    job = await queue.enqueue(tasks.make_thumbnails, image_id)
    return Uploaded(image_id, job.id)


@get("/images", sync_to_thread=True)
def newest_images() -> list[images.ImageInfo]:
    """The pictures that have their thumbnails."""
    return images.newest()


@post("/customers", status_code=202)
async def sign_up(data: JSONBody[customers.SignUp], session: Session, queue: Queue) -> Enqueued:
    """Sign up, as often as you like: the welcome mail is sent once."""
    customer = await customers.sign_up(session, data)
    welcome = tasks.send_welcome.options(id=f"welcome:{customer.id}")
    job = await queue.enqueue(welcome, customer.id, customer.name, customer.email)
    return Enqueued(job.id, job.created)


@post("/orders", status_code=202)
async def place_order(data: JSONBody[orders.OrderForm], session: Session, queue: Queue) -> Ordered:
    """Take an order. Its receipt's job is committed with it, or neither is."""
    order = await orders.place(session, data)
    job = queue.outbox(session).enqueue(tasks.send_receipt, order.id, data.email)
    await session.commit()
    return Ordered(order.id, job.id)


@post("/orders/{order_id:int}/reserve", status_code=202)
async def reserve(order_id: FromPath[int], queue: Queue) -> Enqueued:
    """Reserve an order's stock: the task fails twice and then succeeds."""
    job = await queue.enqueue(tasks.reserve_stock, order_id)
    return Enqueued(job.id, job.created)


@post("/reports", status_code=202)
@background_job(timeout=600)
async def make_report(
    data: JSONBody[orders.ReportRequest], session: Session = INJECTED, progress: Progress = INJECTED
) -> orders.OrderReport:
    """Report what was sold: this body runs in the worker, with a session of its own."""
    return await orders.make_report(session, data.since, progress)


outbox = Outbox(database.engine, database.outbox_rows)
thumbnails = create_static_files_router(path="/thumbnails", directories=[settings().thumbnails])
app = Litestar(
    [upload_image, newest_images, sign_up, place_order, reserve, make_report, thumbnails],
    dependencies={"session": Provide(database.get_session)},
    lifespan=[database.lifespan],
    plugins=[ArqWeb(tasks=[tasks], schedules=tasks.SCHEDULES, outbox=outbox)],
)
