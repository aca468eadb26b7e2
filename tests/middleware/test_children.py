"""Attempts in child processes: the child has the app's layers, or it does not run the job."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator

import pytest

from arq_web import Hub, JobState
from arq_web.errors import InvalidTask
from tests.middleware import process_app, tasks
from tests.middleware.conftest import MakeHub
from tests.middleware.layers import acting_for, as_tenant, with_tenant
from tests.support.event_log import listening
from tests.support.store_helpers import command, record_of
from tests.support.working import working


@pytest.fixture
async def hub(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """That of ``process_app``, as a child of this process will make it."""
    monkeypatch.setenv("MW_REDIS_URL", redis_url)
    monkeypatch.setenv("MW_NAMESPACE", namespace)
    hub = importlib.reload(process_app).hub
    yield hub
    await hub.aclose()


async def test_a_child_passes_the_apps_layers(hub: Hub) -> None:
    """The tenant is set in the other process."""
    async with working(hub):
        with acting_for("acme"):
            job = await hub.queue().enqueue(tasks.greet_in_process, "ada")

        greeting, pid = await job.result(30)
        assert greeting == "acme: ada"
        assert pid != os.getpid()


async def test_what_a_child_enqueues_passes_them_too(hub: Hub) -> None:
    """Whose job it is goes on to the jobs that it makes."""
    async with working(hub):
        with acting_for("acme"):
            first = await hub.queue().enqueue(tasks.enqueue_in_process, "ada")

        second = hub.queue().job(await first.result(30), tasks.greet)
        assert await second.result(10) == "acme: ada"


@pytest.mark.parametrize(
    "layers", [{"middleware": [as_tenant]}, {"enqueue_middleware": [with_tenant]}], ids=["attempts", "enqueues"]
)
async def test_a_worker_whose_app_no_child_can_load_does_not_start(
    make: MakeHub, layers: dict[str, list[object]]
) -> None:
    """Run without its layers, the job would act for nobody, and silently."""
    hub = make(only=(tasks.greet_in_process,), **layers)

    with pytest.raises(InvalidTask, match="its app has middleware") as caught:
        hub.worker()

    assert "app-worker module:app" in str(caught.value)


async def test_without_layers_it_starts(make: MakeHub) -> None:
    """A module is enough then."""
    hub = make(only=(tasks.greet_in_process,))

    assert hub.worker().options.queues == ("default",)


async def test_a_suspect_whose_app_no_child_can_load_runs_here_with_its_layers(make: MakeHub) -> None:
    hub = make(only=(tasks.greet,), middleware=[as_tenant], enqueue_middleware=[with_tenant])
    store = hub.queue().store
    with acting_for("acme"):
        job = await hub.queue().enqueue(tasks.greet, "ada")
    spec = (await record_of(store, job.id)).split(b"\n", 1)[1]
    await command(store, "SET", store.base + b"j:" + job.id.encode(), b"q 2 0 2 0 - 1 1 0 - w\n" + spec)
    with listening("worker") as log:
        async with working(hub):
            assert await job.result(10) == "acme: ada"

    assert [each["job"] for each in log.of("job.not_isolated")] == [job.id]
    assert await job.status() is JobState.SUCCEEDED
