"""Does the shop work? What the demo's lines do, with an eye on the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx

PATIENCE_S = 20.0
T = TypeVar("T")


class Wrong(Exception):
    """The shop does not do what it should."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A running shop, looked at from outside."""

    http: httpx.AsyncClient
    sample: Path
    mail: Path
    worker_pid: Callable[[], int | None]
    """The process of ``app-worker``."""
    job_info: Callable[[str], Awaitable[dict[str, Any]]]
    """What ``app-worker jobs show --json`` says of a job."""


async def check_all(shop: Shop) -> bool:
    """Check everything, print a line for each; False if anything is wrong."""
    all_well = True
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            print(f"OK     {name}: {await check(shop)}", flush=True)
        except (Wrong, httpx.HTTPError) as error:
            print(f"WRONG  {name}: {error!r}", flush=True)
            all_well = False
    return all_well


async def upload_gets_thumbnails(shop: Shop) -> str:
    """A picture is uploaded; a job makes its thumbnails and notes its metadata."""
    answer = await shop.http.post("/images", files={"file": ("sample.jpg", shop.sample.read_bytes())})
    expect(answer.status_code == 202, f"POST /images answered {answer.status_code} {answer.text}")
    image_id = answer.json()["image"]

    async def ready() -> dict[str, Any] | None:
        known = (await shop.http.get("/images")).json()
        return next((image for image in known if image["id"] == image_id), None)

    image = await wait_for(ready, "GET /images shows the picture")
    for name in image["thumbnails"]:
        thumbnail = await shop.http.get(f"/thumbnails/{name}")
        expect(thumbnail.content.startswith(b"\xff\xd8"), f"/thumbnails/{name} is no JPEG: {thumbnail.status_code}")
    expect(image["camera"] == "Pinhole 1", f"the camera is {image['camera']!r}")
    return f"{image['width_px']} x {image['height_px']}, {' and '.join(image['thumbnails'])}"


async def sign_up_twice_sends_one_mail(shop: Shop) -> str:
    """The welcome mail's job has the customer's id: the second sign-up meets it."""
    ann, bob = (f"{name}-{uuid4().hex[:8]}@example.com" for name in ("ann", "bob"))
    first, second, _ = [
        (await shop.http.post("/customers", json={"name": "Ann", "email": email})).json() for email in (ann, ann, bob)
    ]
    expect(first["created"] and not second["created"], f"answers {first} and {second}")
    expect(first["job"] == second["job"], f"two jobs: {first['job']}, {second['job']}")

    async def arrived() -> bool:
        return bool(_mails_to(bob, shop.mail) and _mails_to(ann, shop.mail))

    await wait_for(arrived, f"a mail to each of {ann} and {bob}")  # Bob's was the last to be enqueued
    count = len(_mails_to(ann, shop.mail))
    expect(count == 1, f"{count} mails to {ann}")
    return f"{first['job']}, one mail to {ann}"


async def order_brings_its_receipt(shop: Shop) -> str:
    """The order's job goes through the shop's own database: it is committed with the order."""
    email = f"cy-{uuid4().hex[:8]}@example.com"
    answer = await shop.http.post("/orders", json={"product": "poster", "email": email})
    expect(answer.status_code == 202, f"POST /orders answered {answer.status_code} {answer.text}")

    async def arrived() -> bool:
        return bool(_mails_to(email, shop.mail))

    await wait_for(arrived, f"a receipt for {email}")
    return f"order {answer.json()['order']}, one mail to {email}"


async def report_runs_in_the_worker(shop: Shop) -> str:
    """202 at once; the Location turns ``succeeded`` with the result, made by the process of ``app-worker``."""
    since = (datetime.now(UTC) - timedelta(days=30)).date().isoformat()
    answer = await shop.http.post("/reports", json={"since": since})
    expect(answer.status_code == 202, f"POST /reports answered {answer.status_code} {answer.text}")
    job = await finished(shop, answer.headers["location"])
    expect(job["result"]["order_count"] > 0, f"an empty report: {job['result']}")
    pid, ran_in = shop.worker_pid(), (await shop.job_info(job["id"])).get("worker_pid")
    expect(ran_in == pid, f"it ran in process {ran_in}, app-worker is {pid}")
    return f"{answer.headers['location']} succeeded in process {pid}, {job['result']['order_count']} orders"


async def third_try_succeeds(shop: Shop) -> str:
    """A task that fails twice is tried again, each time a little later."""
    answer = await shop.http.post("/orders/7/reserve")
    job = await finished(shop, f"/jobs/{answer.json()['job']}")
    expect(job["attempt"] == 3 and job["failures"] == 2, f"attempt {job['attempt']}, failures {job['failures']}")
    return str(job["result"])


CHECKS = (
    upload_gets_thumbnails,
    sign_up_twice_sends_one_mail,
    order_brings_its_receipt,
    report_runs_in_the_worker,
    third_try_succeeds,
)


async def finished(shop: Shop, location: str) -> dict[str, Any]:
    """The status of a job once it has succeeded."""

    async def done() -> dict[str, Any] | None:
        answer = await shop.http.get(location)
        expect(answer.status_code == 200, f"GET {location} answered {answer.status_code} {answer.text}")
        status: dict[str, Any] = answer.json()
        return status if status["done"] else None

    status = await wait_for(done, f"{location} is done")
    expect(status["state"] == "succeeded", f"{location} ended {status['state']}: {status.get('error')}")
    return status


async def wait_for(look: Callable[[], Awaitable[T | None]], what: str) -> T:
    """What ``look`` finds, asked every tenth of a second."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise Wrong(f"not within {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(0.1)
    return found


def expect(fact: object, otherwise: str) -> None:
    """Raise Wrong with what was found instead."""
    if not fact:
        raise Wrong(otherwise)


def _mails_to(email: str, directory: Path) -> list[Path]:
    return [path for path in directory.glob("new/*") if email in path.read_text(errors="replace")]
