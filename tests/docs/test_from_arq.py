"""docs/how-to/coming-from-arq.md: what its snippet says happens, and every row of its table has a test."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from arq_web.arq import Worker
from arq_web.arq.connections import RedisSettings
from arq_web.arq.worker import create_worker
from tests.arq.test_differences import ROWS
from tests.docs.examples import from_arq
from tests.docs.pages import read, table


async def test_the_snippet_enqueues_retries_and_prints_the_result(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Client and worker of one module."""
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", namespace)
    settings = RedisSettings(host="127.0.0.1", port=urlsplit(redis_url).port or 0)
    monkeypatch.setattr(from_arq.WorkerSettings, "redis_settings", settings)
    worker: Worker = create_worker(from_arq.WorkerSettings, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    try:
        await asyncio.wait_for(from_arq.main(), 20)
        await from_arq.main()
    finally:
        await worker.close()
        await asyncio.wait((running,))

    assert capsys.readouterr().out == "sent to ada@example.com\n"
    assert sorted(worker.functions) == ["cron:clean_up", "send_email"]


def test_every_difference_is_a_row_and_has_a_test() -> None:
    """Neither may be forgotten when the other changes."""
    rows = [cells[0].strip("*") for cells in table(read("how-to/coming-from-arq.md"), "")]

    assert sorted(rows) == sorted(set(rows))
    assert sorted(rows) == sorted(ROWS)
