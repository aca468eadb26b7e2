"""How-to: test your jobs. The app whose jobs are tested."""

# --8<-- [start:app]
from datetime import timedelta

from fastapi import FastAPI

from arq_web import Retry, cron, schedule, task
from arq_web.fastapi import ArqWeb, Queue


class Bank:
    """Somebody else's system. A key makes it charge once, however often it is asked."""

    def __init__(self) -> None:
        self.charges: list[tuple[int, str]] = []
        self.is_open = True

    async def charge(self, order_id: int, key: str) -> None:
        if not self.is_open:
            raise Retry("the bank is closed", delay=timedelta(minutes=10))
        if key not in [known for _, known in self.charges]:
            self.charges.append((order_id, key))


bank = Bank()


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


@task(max_tries=5)
async def charge(order_id: int) -> None:
    await bank.charge(order_id, key=f"order-{order_id}")


@task
async def count_orders() -> int:
    return len(bank.charges)


app = FastAPI()
ArqWeb(app, tasks=[send_welcome, charge], schedules=[schedule(count_orders, cron("0 3 * * *"))])


@app.post("/signup/{user_id}")
async def signup(user_id: int, queue: Queue) -> dict[str, str]:
    job = await queue.enqueue(send_welcome.options(delay=timedelta(hours=1)), user_id)
    return {"job": job.id}


@app.post("/orders/{order_id}")
async def order(order_id: int, queue: Queue) -> dict[str, str]:
    job = await queue.enqueue(charge, order_id)
    return {"job": job.id, "state": await job.status()}


# --8<-- [end:app]
