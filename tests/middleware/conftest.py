"""Hubs with layers. What both frameworks are asked for comes from the tests of the HTTP contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from arq_web import Hub
from tests.http.conftest import config, make_site, opened
from tests.middleware import tasks
from tests.support.working import make_hub

__all__ = ["MakeHub", "config", "make_site", "opened"]

MakeHub = Callable[..., Hub]


@pytest.fixture
async def make(redis_url: str, namespace: str) -> AsyncIterator[MakeHub]:
    """A hub with all tasks and the layers that are named; it is closed in the end."""
    made: list[Hub] = []

    def make(*, only: tuple[Any, ...] = tasks.ALL[:2] + tasks.ALL[4:], **options: Any) -> Hub:
        made.append(make_hub(redis_url, namespace, *only, **options))
        return made[-1]

    yield make
    for hub in made:
        await hub.aclose()
