"""A Redis that is away is waited for; one that refuses us, or that nobody has named, is a mistake to show at once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import redis

from arq_web import Config, Queue
from tests.cli.shop import nap
from tests.support.projects import SHOP, Project, project_in
from tests.support.redis_server import RedisServer, running_redis
from tests.support.waiting import wait_until


async def test_a_worker_waits_for_its_redis_and_goes_on_when_it_appears(tmp_path: Path) -> None:
    """They often start together, and the order is nobody's concern."""
    with running_redis() as first:
        port = first.port
    async with project_in(tmp_path, f"redis://127.0.0.1:{port}/0", "t") as project:
        worker = await project.start(SHOP)
        await worker.says("store.lost")
        with running_redis(port=port) as server:
            async with Queue.connect(server.url, config=Config(namespace="t")) as queue:
                job = await queue.enqueue(nap, 1)
                assert await job.result(timeout=15) == 1

            worker.send()
            assert await worker.ended() == 0

    assert worker.count("store.lost") == 1
    assert "store.back" in worker.log


async def test_a_worker_that_waits_for_redis_can_be_stopped(tmp_path: Path) -> None:
    """There is nothing to hand back, and nobody to hand it to."""
    with running_redis() as first:
        url = first.url
    async with project_in(tmp_path, url, "t") as project:
        worker = await project.start(SHOP, "--no-lifespan")
        await worker.says("store.lost")

        worker.send()

        assert await worker.ended(within_s=8) == 0


async def test_a_wrong_password_ends_the_start_and_is_not_shown(tmp_path: Path) -> None:
    """Waiting would not mend it. The message names the place, never the password."""
    with running_redis() as server:
        _set_password(server, "", "right")
        url = server.url.replace("redis://", "redis://:wr0ng-secret@")
        async with project_in(tmp_path, url, "t") as project:
            finished = await project.run(SHOP)

    assert finished.code == 1
    assert f"Redis at 127.0.0.1:{server.port}/0 refused us" in finished.err
    assert "wr0ng-secret" not in finished.err
    assert not (tmp_path / "journal").exists()  # the app was not started


async def test_no_redis_url_outside_development_is_a_message_with_the_remedy(project: Project) -> None:
    """A private Redis that came up by itself in production would swallow jobs."""
    finished = await project.run(SHOP, env={"REDIS_URL": None, "CI": "true"})

    assert finished.code == 2
    assert "No Redis URL" in finished.err
    assert "Set REDIS_URL" in finished.err
    assert "Traceback" not in finished.err


@pytest.mark.parametrize("command", [("jobs", "ls"), ("check",)])
async def test_the_other_commands_do_not_wait_for_redis(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A health check that hangs is worse than one that fails."""
    with running_redis() as first:
        url = first.url
    async with project_in(tmp_path, url, "t") as project:
        finished = await project.run(*command, SHOP, within_s=10)

    assert finished.code == 1
    assert "did not answer" in finished.err
    assert "Traceback" not in finished.err


async def test_a_redis_that_refuses_us_later_does_not_end_the_worker(tmp_path: Path) -> None:
    """A password that is changed under way may be changed back, or a user given its rights, while the worker waits."""
    with running_redis() as server:
        async with (
            project_in(tmp_path, server.url, "t") as project,
            Queue.connect(server.url, config=Config(namespace="t")) as queue,
        ):
            await project.start(SHOP)
            _set_password(server, "", "new")
            await wait_until(lambda: _has_refused_somebody(server, "new"), description="the worker was refused")
            _set_password(server, "new", "")
            job = await queue.enqueue(nap, 1)

            assert await job.result(timeout=15) == 1


def _set_password(server: RedisServer, old: str, new: str) -> None:
    """Change the server's password, and cut the connections of everybody who logged in before."""
    with closing(redis.Redis(port=server.port, password=old or None)) as client:
        client.config_set("requirepass", new)
        client.client_kill_filter(_type="normal", skipme=True)


def _has_refused_somebody(server: RedisServer, password: str) -> bool:
    with closing(redis.Redis(port=server.port, password=password)) as client:
        return "errorstat_NOAUTH" in client.info("errorstats")
