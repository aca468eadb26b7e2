"""Waiting for a fact, instead of sleeping and hoping."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

POLL_S = 0.01


async def wait_until(
    predicate: Callable[[], object] | Callable[[], Awaitable[object]], *, timeout_s: float = 10.0, description: str
) -> None:
    """Return as soon as ``predicate`` is true; it is asked each 10 ms.

    Args:
        predicate: A plain or an async function without arguments.
        timeout_s: How long to wait; the test fails after that.
        description: What is waited for, as the failure is to say it: "the job is running".
    """
    deadline = time.monotonic() + timeout_s
    while not await _ask(predicate):
        if time.monotonic() >= deadline:
            pytest.fail(f"Not within {timeout_s:g} s: {description}")
        await anyio.sleep(POLL_S)


async def _ask(predicate: Callable[[], object]) -> object:
    answer = predicate()
    return await answer if inspect.isawaitable(answer) else answer
