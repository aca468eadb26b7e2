"""A layer that meets an outage of Redis: it may try again, and it hides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from arq_web import Config, Hub, OutgoingJob, every, schedule
from arq_web.errors import InvalidMiddleware, StoreUnavailable
from tests.middleware import tasks
from tests.middleware.layers import Cipher
from tests.support.event_log import listening
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import members
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working

Next = Callable[[OutgoingJob], Awaitable[Any]]
CIPHER = Cipher(b"k" * 32)
EACH_SECOND = schedule(tasks.number, every(1), name="each-second")


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def make_retrying(proxy: Proxy, namespace: str) -> AsyncIterator[Callable[..., Hub]]:
    """A hub through the proxy; its outermost layer does as it is told when Redis does not answer, and tries again."""
    hubs: list[Hub] = []

    def make(do: Callable[[], Awaitable[None]], **options: Any) -> Hub:
        async def retrying(job: OutgoingJob, call_next: Next) -> Any:
            try:
                return await call_next(job)
            except StoreUnavailable:
                await do()
                return await call_next(job)

        hub = make_hub(
            proxy.url,
            namespace,
            tasks.greet,
            tasks.number,
            config=Config(namespace=namespace, command_deadline_s=0.3),
            enqueue_middleware=[retrying, CIPHER.sealing],
            middleware=[CIPHER.opening],
            **options,
        )
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        await hub.aclose()


async def test_an_enqueue_that_redis_did_not_answer_may_be_called_again(
    proxy: Proxy, make_retrying: Callable[..., Hub]
) -> None:
    """And what stands inside begins again as it began: the arguments are sealed once."""
    hub = make_retrying(proxy.accept)
    proxy.refuse()

    job = await hub.queue().enqueue(tasks.greet, "ada")
    await hub.worker(burst=True).run()

    assert job.created
    assert await job.result(10) == "nobody: ada"


@pytest.mark.parametrize("options", [{}, {"id": "one"}])
async def test_an_enqueue_whose_answer_was_lost_is_one_job_though_it_is_called_again(
    proxy: Proxy, make_retrying: Callable[..., Hub], options: dict[str, Any]
) -> None:
    """An automatic id is nobody else's, and a chosen one has a nonce."""
    outages: list[int] = []

    async def note() -> None:
        outages.append(len(await members(hub.queue().store, "ready")))

    hub = make_retrying(note)
    await (await hub.queue().enqueue(tasks.greet, "bob")).cancel()  # Redis knows the script
    proxy.swallow_reply_to(b"mw.greet", times=2)

    job = await hub.queue().enqueue(tasks.greet.options(**options), "ada")

    assert outages == [1]  # it was written
    assert job.created
    assert await members(hub.queue().store, "ready") == [job.id]
    await job.cancel()


async def test_a_batch_is_not_sent_again_by_one_of_its_layers_and_the_outage_is_told(
    proxy: Proxy, make_retrying: Callable[..., Hub]
) -> None:
    async def at_once() -> None: ...

    hub = make_retrying(at_once)
    proxy.refuse()
    with pytest.raises(InvalidMiddleware, match=r"called call_next twice.*Repeat the whole enqueue_many") as caught:
        await hub.queue().enqueue_many([tasks.number.call(), tasks.number.call()])
    await proxy.accept()

    assert isinstance(caught.value.__cause__, StoreUnavailable)
    assert await members(hub.queue().store, "ready") == []


async def test_a_tick_may_be_called_again(proxy: Proxy, make_retrying: Callable[..., Hub]) -> None:
    outages: list[str] = []

    async def accept() -> None:
        outages.append("over")
        await proxy.accept()

    async def refusing(job: OutgoingJob, call_next: Next) -> Any:
        if not outages:
            proxy.refuse()
        return await call_next(job)

    hub = make_retrying(accept, schedules=[EACH_SECOND])
    hub.enqueue_middleware.append(refusing)
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: log.of("schedule.fired"), description="it was fired")

    assert outages == ["over"]
    assert log.of("schedule.skipped") == []


async def test_a_redis_that_is_away_refuses_no_tick_whatever_the_layers_say(proxy: Proxy, namespace: str) -> None:
    """The tick is fired when Redis is back."""
    said: list[str] = []

    async def translating(job: OutgoingJob, call_next: Next) -> Any:
        said.append(job.id)
        if len(said) > 1:
            return await call_next(job)
        proxy.refuse()
        try:
            return await call_next(job)
        except StoreUnavailable:
            await proxy.accept()
            raise ValueError("the queue is away") from None

    config = Config(namespace=namespace, command_deadline_s=0.3)
    layers: Any = [translating]
    hub = make_hub(
        proxy.url, namespace, tasks.number, schedules=[EACH_SECOND], config=config, enqueue_middleware=layers
    )
    with listening("worker") as log:
        async with working(hub):
            await wait_until(lambda: log.of("schedule.fired"), description="it was fired")
    await hub.aclose()

    assert said[:2] == [said[0]] * 2
    assert log.of("schedule.fired")[0]["job"] == said[0]
    assert log.of("schedule.skipped") == []
