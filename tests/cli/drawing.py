"""An app whose one task says how far it is, and stays there."""

from __future__ import annotations

import asyncio

from arq_web import INJECTED, Hub, Progress, task


@task(name="studio:draw", max_tries=1)
async def draw(fraction: float, message: str, progress: Progress = INJECTED) -> None:
    """Report once, then wait for the end."""
    await progress(fraction, message)
    await asyncio.sleep(600)


hub = Hub(tasks=[draw])
