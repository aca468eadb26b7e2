"""P1, P9: Redis goes away and comes back; processes stay, work goes on."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from arq_web import Config, Queue
from arq_web.errors import StoreUnavailable
from tests.chaos.shop import nap
from tests.support.fleet import worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"


@pytest.mark.timeout(120)
async def test_p1_a_redis_with_aof_that_is_stopped_for_five_seconds_loses_nothing(
    namespace: str, tmp_path: Path
) -> None:
    """The worker waits, sends its settles again, and goes on; each job has one result, and none started twice."""
    config = Config(namespace=namespace)
    data = tmp_path / "data"
    data.mkdir()
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(data))
    with running_redis(*durable) as first:
        port, url = first.port, first.url
        async with worker_fleet(tmp_path, url, namespace) as fleet, Queue.connect(url, config=config) as queue:
            worker = await fleet.start(TARGET, "--concurrency", "5")
            jobs = await queue.enqueue_many([nap.call(100) for _ in range(100)])
            journal = tmp_path / "journal"
            await wait_until(lambda: len(counts(read_journal(journal), "end")) >= 10, description="some are done")

            first.process.send_signal(signal.SIGTERM)
            first.process.wait()
            with pytest.raises(StoreUnavailable):
                await queue.enqueue(nap, 1)
            await asyncio.sleep(3)  # the fault itself: five seconds without a server, two of them spent above

            with running_redis(*durable, port=port):
                results = await asyncio.gather(*(job.result(timeout=60) for job in jobs))
                assert worker.is_alive
                await worker.kill()

    assert results == [100] * 100
    assert set(counts(read_journal(journal), "start").values()) == {1}
