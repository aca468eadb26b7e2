"""A project for each test, and no process left of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dev_broker.support import end_holders


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of its own, in which a development Redis may start; ends what was started there."""
    for name in list(os.environ):
        if name.startswith("ARQ_WEB_") or name in ("CI", "KUBERNETES_SERVICE_HOST", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ARQ_WEB_DEV", "1")
    monkeypatch.setenv("ARQ_WEB_DEV_IDLE_S", "30")
    # Short, whatever the name of the test: the socket's path has a limit.
    root = Path(tempfile.mkdtemp(prefix="aw-", dir="/tmp"))
    (root / "pyproject.toml").touch()
    monkeypatch.chdir(root)
    yield root
    for lock in root.rglob("server.lock"):
        end_holders(lock)
    shutil.rmtree(root)
