"""Processes that stand still."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.waiting import wait_until


@asynccontextmanager
async def frozen(pid: int) -> AsyncGenerator[None]:
    """All threads of a process stand still in the block.

    The signal wakes one of them, which stops the others when it gets a processor: until then they answer.
    """
    os.kill(pid, signal.SIGSTOP)
    try:
        await wait_until(lambda: _states(pid) == {"T"}, description=f"{pid} stands still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> set[str]:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return {thread.read_text().rpartition(")")[2].split()[0] for thread in threads}
