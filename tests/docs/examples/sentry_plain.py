"""How-to: Sentry, with nothing of ours."""

from __future__ import annotations

# --8<-- [start:plain]
import os

import sentry_sdk

from arq_web import Hub, task

sentry_sdk.init(dsn=os.environ.get("SENTRY_DSN"))


@task(max_tries=1)
async def charge(order_id: int) -> None:
    raise ConnectionError(f"order {order_id}: the bank does not answer")


hub = Hub(tasks=[charge])
# --8<-- [end:plain]
