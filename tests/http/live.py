"""An app that users would start: ``uvicorn tests.http.live_fastapi:app``, ``app-worker tests.http.live_litestar:app``.

``POST /climbs?gate=<folder>`` is a job of ten steps; each begins when the file of its number is in the folder.
``GET /pages/<name>`` is a file of the folder ``TEST_PAGES``.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from arq_web import Progress

STEPS = 10
POLL_S = 0.02


async def climb(gate: str, progress: Progress) -> str:
    """Take one step after the other."""
    for step in range(1, STEPS + 1):
        while not Path(gate, str(step)).exists():  # noqa: ASYNC110, ASYNC240 - the test is in another process
            await asyncio.sleep(POLL_S)
        await progress(step, "climbing", total=STEPS)
    return "at the top"


def page(name: str) -> str:
    """A page for a browser."""
    return Path(os.environ["TEST_PAGES"], Path(name).name).read_text(encoding="utf-8")
