"""The shop's jobs. Plain functions with a policy each; the worker runs them, tests call them."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from arq_web import INJECTED, Backoff, DoNotRetry, JobContext, Retry, cron, schedule, task
from example_app.shop import images, mail, orders
from example_app.shop.database import Order, open_session
from example_app.shop.settings import settings

ZONE = "Europe/Berlin"


@task(timeout=60, no_retry_on=images.NotAnImage)
def make_thumbnails(image_id: UUID) -> images.ImageInfo:
    """A ``def`` task runs in a thread: Pillow does not hold up the other jobs."""
    return images.make_thumbnails(image_id)


@task(max_tries=5, timeout=30)
async def send_welcome(customer_id: UUID, name: str, email: str) -> str:
    """Greet a new customer; returns the mail's Message-ID."""
    text = f"Hello {name},\n\nwelcome to the photo shop.\n"
    return await _send(email, "Welcome", text, unique=f"welcome-{customer_id}")


@task(max_tries=5, timeout=30)
async def send_receipt(order_id: int, email: str) -> str:
    """Thank for an order, which is there by now; returns the mail's Message-ID."""
    async with open_session() as session:
        order = await session.get_one(Order, order_id)
    text = f"Thank you! Order {order.id}: one {order.product}, {order.price_cents / 100:.2f} euros.\n"
    return await _send(email, f"Your order {order.id}", text, unique=f"receipt-{order.id}")


@task(max_tries=3, retry=Backoff(base_s=0.4, cap_s=0.8))
async def reserve_stock(order_id: int, ctx: JobContext = INJECTED) -> str:
    """Fails twice and then succeeds, as the warehouse's old computer does."""
    if ctx.failures < 2:
        raise ConnectionError("the warehouse does not answer")
    return f"order {order_id} is reserved, at attempt {ctx.attempt}"


@task(max_tries=5)
async def nightly_digest() -> str:
    """Tell the owner what yesterday brought; returns the mail's Message-ID."""
    yesterday = datetime.now(ZoneInfo(ZONE)).date() - timedelta(days=1)
    async with open_session() as session:
        count, cents = await orders.count_of_day(session, yesterday)
    text = f"Yesterday brought {count} orders, together {cents / 100:.2f} euros.\n"
    return await _send(settings().owner_email, f"Orders of {yesterday}", text, unique=f"digest-{yesterday}")


SCHEDULES = [schedule(nightly_digest, cron("0 3 * * *", tz=ZONE))]


async def _send(to: str, subject: str, text: str, *, unique: str) -> str:
    message = mail.compose(to, subject, text, unique=unique)
    try:
        await mail.send(message)
    except mail.MailDelayed as error:
        raise Retry(str(error), delay=timedelta(seconds=5)) from error
    except mail.MailRefused as error:
        raise DoNotRetry(str(error)) from error
    return str(message["Message-ID"])
