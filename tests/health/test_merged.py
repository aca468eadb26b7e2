"""What a supervisor makes of its processes' answers: real servers in the place of processes, in any state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from arq_web.health import merged
from arq_web.health.exchange import Answerer, answering_on
from arq_web.health.merged import Child, MergedHealth
from arq_web.health.routes import HealthAnswer
from arq_web.health.server import open_port
from tests.health.support import HOST
from tests.support.waiting import wait_until

STARTING = {"starting": "the app is not up yet"}


class Processes:
    """What the supervisor has."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.children: list[Child] = []
        self.asked: list[tuple[int, str]] = []
        self.health = MergedHealth(2, lambda: self.children, lambda: True)

    async def have(self, answer: Answerer, *, is_up: bool = True) -> None:
        """One more, which answers so."""
        number = len(self.children) + 1

        async def noted(path: str, accept: str) -> HealthAnswer:
            self.asked.append((number, path))
            return await answer(path, accept)

        listening = open_port(HOST, 0)
        self.children.append(Child(number, listening.getsockname()[1], is_up))
        await self._stack.enter_async_context(answering_on(listening, noted))

    async def live(self) -> int:
        return (await self.health.answer("/livez")).status


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(stack)


async def fine(path: str, accept: str) -> HealthAnswer:
    return HealthAnswer.of(200, {"ready": 3})


async def starts(path: str, accept: str) -> HealthAnswer:
    return HealthAnswer.of_reasons({} if path == "/livez" else STARTING, {})


async def hangs(path: str, accept: str) -> HealthAnswer:
    await asyncio.Event().wait()
    raise AssertionError


async def has_no_redis(path: str, accept: str) -> HealthAnswer:
    return HealthAnswer.of(503, {"error": "Redis does not answer"})


async def test_while_all_start_again_it_is_alive(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, as after a lack of memory: the end of the pod would only begin it anew."""
    monkeypatch.setattr(merged, "QUIET_LIMIT_S", 0.0)
    for _ in range(2):
        await processes.have(starts, is_up=False)

    seen = {await processes.live() for _ in range(5)}
    ready = await processes.health.answer("/readyz")

    assert (seen, ready.status) == ({200}, 503)


async def test_when_none_comes_up_for_long_it_is_not_alive(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the time begins anew with each that works."""
    monkeypatch.setattr(merged, "DOWN_LIMIT_S", 0.4)
    await processes.have(starts, is_up=False)

    async def has_ended() -> bool:
        return await processes.live() == 503

    first = await processes.live()
    await wait_until(has_ended, description="not alive")
    reason = (await processes.health.answer("/livez")).body
    await processes.have(fine)
    up = await processes.live()
    processes.children.pop()
    again = await processes.live()

    assert (first, up, again) == (200, 200, 200)
    assert b"none of them works any more, for 0 s" in reason


@pytest.mark.parametrize("has_frozen", [True, False], ids=["it is silent", "there is none"])
async def test_when_none_answers_for_a_while_it_is_not_alive(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, *, has_frozen: bool
) -> None:
    """Sooner than where they start: nothing shows that they do."""
    monkeypatch.setattr(merged, "QUIET_LIMIT_S", 0.3)
    monkeypatch.setattr(merged, "CHILD_LIMIT_S", 0.1)
    if has_frozen:
        await processes.have(hangs, is_up=False)

    async def has_ended() -> bool:
        return await processes.live() == 503

    first = await processes.live()
    await wait_until(has_ended, description="not alive")

    assert first == 200
    assert merged.QUIET_LIMIT_S < merged.DOWN_LIMIT_S


async def test_all_are_asked_for_the_numbers_at_the_same_time(processes: Processes) -> None:
    """Each that hangs would cost the autoscaler 2.5 s, two of them the answer."""
    for answer in (hangs, hangs, hangs, has_no_redis, fine):
        await processes.have(answer)
    began_s = time.monotonic()

    said = await processes.health.answer("/scale")

    assert (said.status, said.body) == (200, b'{"ready":3}')
    assert time.monotonic() - began_s < merged.CHILD_LIMIT_S / 2


async def test_where_no_process_has_the_numbers_the_reason_is_told(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "CHILD_LIMIT_S", 0.3)
    nobody = await processes.health.answer("/scale")
    await processes.have(hangs)
    silent = await processes.health.answer("/scale")
    await processes.have(has_no_redis)
    without = await processes.health.answer("/scale")

    assert {said.status for said in (nobody, silent, without)} == {503}
    assert b"No process is up yet" in nobody.body
    assert b"No process answers" in silent.body
    assert b"Redis does not answer" in without.body


async def test_a_path_reaches_them_as_it_was_asked(processes: Processes) -> None:
    """Decoded once here, and once there: nothing in it can become another request."""
    await processes.have(fine)

    await processes.health.answer("/scale/ü x\r\n%41")

    assert processes.asked == [(1, "/scale/ü x\r\n%41")]
