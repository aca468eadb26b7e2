"""A project, a queue and a port of this test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arq_web import Config, Queue
from tests.cli.support import Project, project_in
from tests.support.ports import free_port


@pytest.fixture
async def project(tmp_path: Path, redis_url: str, namespace: str) -> AsyncIterator[Project]:
    """An empty project directory, and ``app-worker`` in it."""
    async with project_in(tmp_path, redis_url, namespace) as project:
        yield project


@pytest.fixture
async def queue(redis_url: str, namespace: str) -> AsyncIterator[Queue]:
    """The default queue of the project's app."""
    async with Queue.connect(redis_url, config=Config(namespace=namespace)) as queue:
        yield queue


@pytest.fixture
def port() -> int:
    """Where the worker answers."""
    return free_port()
