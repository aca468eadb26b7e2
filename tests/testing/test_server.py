"""The server in memory: an error is a reply like any other, after which its connection goes on."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
import redis
from redis.exceptions import NoScriptError

from arq_web import Hub
from arq_web._memory_server import MemoryServer
from arq_web.testing import JobTester
from arq_web.testing import server as kits_server
from tests.testing.shop import send_welcome


def test_a_connection_survives_an_error_reply(tmp_path: Path) -> None:
    server = MemoryServer(str(tmp_path / "redis.sock"))
    try:
        with closing(redis.Redis.from_url(f"unix://{tmp_path}/redis.sock", max_connections=1)) as client:
            name = client.client_id()
            client.set("text", "a")
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                client.lpush("text", "b")
            with pytest.raises(NoScriptError):
                client.evalsha("0" * 40, 0)

            assert (client.client_id(), client.get("text")) == (name, b"a")
    finally:
        server.stop()


async def test_the_first_requests_of_all_may_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """No script is known to a new server, so each of them is told NOSCRIPT first, while others wait for replies."""
    monkeypatch.setattr(kits_server, "_running", {})
    hub = Hub(url="redis://127.0.0.1:1", tasks=[send_welcome])
    async with JobTester(hub) as jobs:
        queue = hub.queue()
        handles = await asyncio.gather(*(queue.enqueue(send_welcome, n) for n in range(20)))
        await asyncio.gather(*(handle.status() for handle in handles), *(handle.cancel() for handle in handles[:5]))

        assert len(jobs.enqueued) == 20
        await jobs.run_all()
