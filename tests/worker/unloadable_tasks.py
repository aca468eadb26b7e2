"""A module that only a web process can import: a mistake of the kind that people make."""

from __future__ import annotations

import os

from arq_web import task

if os.environ.get("ARQ_WEB_ROLE") == "worker":
    raise RuntimeError("not in a worker")


@task
async def where() -> int:
    return os.getpid()
