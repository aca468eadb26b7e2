"""An app with layers whose tasks run in child processes: the child loads it from here."""

from __future__ import annotations

import os

from arq_web import Config, Hub
from tests.middleware import tasks
from tests.middleware.layers import as_tenant, with_tenant


def make_hub() -> Hub:
    config = Config(namespace=os.environ.get("MW_NAMESPACE", "mw"))
    return Hub(
        url=os.environ.get("MW_REDIS_URL", "redis://127.0.0.1:1"),
        tasks=[tasks],
        config=config,
        middleware=[as_tenant],
        enqueue_middleware=[with_tenant],
    )


hub = make_hub()
