"""How-to: a client that repeats its request until it has an answer; an enqueue by hand into a queue with a limit."""

import asyncio
import uuid

import httpx

from arq_web import Queue, task
from arq_web.errors import QueueFull


# --8<-- [start:client]
async def order(client: httpx.AsyncClient, item: str) -> httpx.Response:
    headers = {"Idempotency-Key": str(uuid.uuid4()), "X-User": "42", "Prefer": "wait=5"}  # one key for all tries
    while True:
        try:
            answer = await client.post("/orders/north", json={"item": item}, headers=headers)
        except httpx.TransportError:
            answer = httpx.Response(503)  # nobody knows whether it has arrived
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(int(answer.headers.get("Retry-After", "1")))
        # --8<-- [end:client]


@task(queue="reports")
async def make_report(month: str) -> None: ...


async def enqueue_report(queue: Queue) -> str:
    # --8<-- [start:full]
    try:
        job = await queue.enqueue(make_report, "2026-03")
    except QueueFull as full:
        return f"{full.waiting} reports wait already, come back later"
    # --8<-- [end:full]
    return job.id
