"""The kit is tried on the in-memory server and on a real Redis, and has to leave nothing in either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis as redis_sync

from arq_web import Config, Hub
from arq_web.testing import JobTester
from tests.testing import shop

MakeTester = Callable[..., JobTester]


@pytest.fixture(autouse=True)
def journal() -> list[tuple[Any, ...]]:
    """What the shop's tasks did in this test."""
    shop.journal.clear()
    return shop.journal


@pytest.fixture(params=["in-memory", "redis"])
def test_redis_url(request: pytest.FixtureRequest) -> str | None:
    """None for the kit's own server."""
    return None if request.param == "in-memory" else request.getfixturevalue("redis_url")


@pytest.fixture
def hub() -> Hub:
    """An app without a framework. Its own Redis does not exist: whoever asks that one fails."""
    return Hub(
        url="redis://127.0.0.1:1/0",
        tasks=shop.TASKS,
        schedules=shop.SCHEDULES,
        queues=shop.QUEUES,
        config=Config(namespace="own"),
    )


@pytest.fixture
def make_tester(test_redis_url: str | None, hub: Hub) -> Iterator[MakeTester]:
    """Makes testers, of ``hub`` where no app is given; afterwards none of their keys may be left in the real Redis."""
    made: list[JobTester] = []

    def make(app: object = hub, **options: Any) -> JobTester:
        made.append(JobTester(app, redis_url=test_redis_url, **options))
        return made[-1]

    yield make
    if test_redis_url is not None:
        with closing(redis_sync.Redis.from_url(test_redis_url)) as client:
            left = [key for tester in made for key in client.scan_iter(match=f"{tester.namespace}:*")]
        assert left == []
