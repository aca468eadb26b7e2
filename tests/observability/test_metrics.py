"""What is counted: read from the page that Prometheus reads, after real jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import prometheus_client
import pytest
import redis.asyncio as redis_async
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

import arq_web.fastapi
from arq_web import Config, Hub, Job, JobFailed, Retry, Snooze, task
from arq_web.errors import InvalidConfig, QueueFull
from arq_web.metrics import Metrics
from arq_web.metrics.families import FAMILIES, Kind
from arq_web.store.measuring import measure_as_leader
from arq_web.worker.loop_watch import EVERY_S, LoopWatch
from tests.observability.scrapes import page_of
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working


@task
async def greet() -> str:
    return "hello"


@task(max_tries=2, retry=lambda failures, error: 0.0)
async def fail(how: str = "error") -> None:
    if how == "retry":
        raise Retry(delay=600)
    if how == "snooze":
        raise Snooze(delay=600)
    raise OSError("disk full")


@task
async def hold() -> None:
    await asyncio.sleep(3600)


may_end = asyncio.Event()


@task
async def wait_for_it() -> None:
    await may_end.wait()


@task(queue="other")
async def elsewhere() -> None:
    """Of a queue of its own."""


@task(name="unheard_of")
async def unheard_of() -> None:
    """Enqueued by an app of another version."""


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    hub = make_hub(redis_url, namespace, greet, fail, hold, metrics=True)
    yield hub
    await hub.aclose()


async def ended(*jobs: Job[object]) -> None:
    for job in jobs:
        with suppress(JobFailed):
            await job.result(10)


async def test_jobs_are_counted_from_their_enqueue_to_their_end(hub: Hub) -> None:
    """What was asked for, what was tried, what came of it."""
    queue = hub.queue()
    async with working(hub):
        await ended(*[await queue.enqueue(greet) for _ in range(3)], await queue.enqueue(fail))
    page = page_of(hub)

    of_greet, of_fail = {"queue": "default", "task": greet.name}, {"queue": "default", "task": fail.name}
    assert page.value("arq_jobs_enqueued_total", **of_greet) == 3
    assert page.value("arq_jobs_finished_total", **of_greet, outcome="succeeded") == 3
    assert page.value("arq_job_attempts_total", **of_fail, outcome="retrying", reason="failed") == 1
    assert page.value("arq_job_attempts_total", **of_fail, outcome="dead", reason="failed") == 1
    assert page.value("arq_jobs_finished_total", **of_fail, outcome="dead") == 1
    for family in ("wait", "run"):
        assert page.value(f"arq_job_{family}_seconds_count", **of_fail) == 2
        assert page.value(f"arq_job_{family}_seconds_bucket", **of_fail, le="60.0") == 2
    assert page.value("arq_job_total_seconds_count", **of_fail) == 1
    assert page.value("arq_enqueue_seconds_count", queue="default", outcome="created") == 4


@pytest.mark.parametrize(
    ("how", "outcome", "reason"), [("retry", "retrying", "retry"), ("snooze", "snoozed", "snooze")]
)
async def test_an_attempt_that_asks_for_another_is_no_end_of_the_job(
    hub: Hub, how: str, outcome: str, reason: str
) -> None:
    """Finished are jobs, not attempts."""
    async with working(hub):
        await hub.queue().enqueue(fail, how)
        await wait_until(
            lambda: page_of(hub).value("arq_job_attempts_total", outcome=outcome, reason=reason) == 1,
            description="the attempt is counted",
        )

    assert page_of(hub).value("arq_jobs_finished_total", task=fail.name) == 0


async def test_enqueues_that_make_no_job_are_told_apart(redis_url: str, namespace: str) -> None:
    """The same id again, a full queue."""
    hub = make_hub(redis_url, namespace, greet, metrics=True, max_queued=1)
    queue = hub.queue()
    for _ in range(2):
        await queue.enqueue(greet.options(id="once"))
    with pytest.raises(QueueFull):
        await queue.enqueue(greet)
    await hub.aclose()
    page = page_of(hub)

    assert page.value("arq_jobs_enqueued_total", task=greet.name) == 1
    for outcome in ("created", "existing", "full"):
        assert page.value("arq_enqueue_seconds_count", outcome=outcome) == 1


async def test_tasks_that_the_app_does_not_know_are_one(redis_url: str, namespace: str, hub: Hub) -> None:
    """Whoever may enqueue must not be able to make time series without an end."""
    foreign = make_hub(redis_url, namespace, *(task(name=f"x{n}")(unheard_of.fn) for n in range(3)), queues=["default"])
    for each in foreign.registry:
        await foreign.queue().enqueue(each)
    await foreign.aclose()
    async with working(hub):
        await wait_until(
            lambda: page_of(hub).value("arq_job_attempts_total", task="(unknown)", outcome="parked") == 3,
            description="all three are parked",
        )

    assert len(page_of(hub).labels("arq_job_attempts_total")) == 1


async def test_what_runs_and_what_could_is_shown_while_it_does(hub: Hub) -> None:
    """Utilisation: running / slots."""
    assert (page_of(hub).value("arq_jobs_running"), page_of(hub).value("arq_worker_slots")) == (0, 0)
    async with working(hub, concurrency=7, drain_s=0):
        await hub.queue().enqueue(hold)
        await wait_until(lambda: page_of(hub).value("arq_jobs_running") == 1, description="one runs")
        assert page_of(hub).value("arq_worker_slots") == 7
        await wait_until(
            lambda: (page_of(hub).value("arq_worker_lease_renewals_total", result="ok") or 0) >= 1,
            description="its lease was renewed",
        )

    assert (page_of(hub).value("arq_jobs_running"), page_of(hub).value("arq_worker_slots")) == (0, 0)


async def test_an_attempt_whose_job_was_taken_away_is_fenced(hub: Hub) -> None:
    """What it returns then is recorded nowhere; that it happened is."""
    async with working(hub, drain_s=0) as worker:
        await hub.queue().enqueue(hold)
        await wait_until(lambda: page_of(hub).value("arq_jobs_running") == 1, description="it runs")
        await hub.queue().store.reclaim(dead=[worker.id])
        await wait_until(
            lambda: page_of(hub).value("arq_jobs_fenced_total", task=hold.name) == 1,
            description="the attempt has lost it",
        )


async def test_the_numbers_of_a_queue_are_read_once_somebody_looks(hub: Hub) -> None:
    """Not before: who is scraped by nobody must not lead."""
    queue = hub.queue()
    await queue.enqueue_many([greet.call(), greet.call(), greet.options(delay=600).call()])
    async with hub.lifespan():
        assert page_of(hub).value("arq_queue_ready", queue="default") is None
        await wait_until(lambda: page_of(hub).value("arq_queue_ready") is not None, description="they are read")
        page = page_of(hub)
        assert await measure_as_leader(queue.store, "another", 1000) is None

    assert (page.value("arq_queue_ready"), page.value("arq_queue_scheduled")) == (2, 1)
    assert (page.value("arq_queue_running"), page.value("arq_queue_dead"), page.value("arq_queue_rejected")) == (
        0,
        0,
        0,
    )
    assert 0 <= (page.value("arq_queue_oldest_ready_age_seconds") or 0) < 10
    assert 0 <= (page.value("arq_queue_measured_age_seconds") or 0) < 12
    assert (page.value("arq_redis_rtt_seconds_count") or 0) >= 1
    assert page_of(hub).value("arq_queue_ready") is None  # its end is the end of its lead
    await wait_until(lambda: _leads(hub, "another"), timeout_s=1, description="another leads at once")


async def test_who_is_scraped_by_nobody_does_not_lead(hub: Hub) -> None:
    """His numbers would be seen by nobody, and keep others from it."""
    async with hub.lifespan():
        await asyncio.sleep(0.6)  # twice the pause before a first look

        assert await _leads(hub, "another")


async def test_who_has_lost_the_lead_tells_nothing_from_his_next_look_on(hub: Hub, redis: redis_async.Redis) -> None:
    """After a failover that forgot who leads, two might think so: but not for long."""
    async with hub.lifespan():
        await wait_until(lambda: page_of(hub).value("arq_queue_ready") is not None, description="they are told")
        await redis.set(hub.queue().store.base + b"lead", "another", px=60_000)
        await wait_until(
            lambda: page_of(hub).value("arq_queue_ready") is None, timeout_s=8, description="they are told no more"
        )


async def _leads(hub: Hub, leader: str) -> bool:
    return await measure_as_leader(hub.queue().store, leader, 1000) is not None


async def test_a_web_app_counts_its_answers(redis_url: str, namespace: str) -> None:
    """What clients were told, and which of them asked twice."""
    app = FastAPI()
    plugin = arq_web.fastapi.ArqWeb(
        app, url=redis_url, config=Config(namespace=namespace, embedded="never"), metrics=True, max_queued=2
    )

    @app.post("/greet", status_code=202)
    @arq_web.fastapi.background_job
    async def greet_somebody() -> None: ...

    with TestClient(app) as client:
        for _ in range(2):
            assert client.post("/greet", headers={"idempotency-key": "a"}).status_code == 202
        assert [client.post("/greet").status_code for _ in range(2)] == [202, 503]
    page = page_of(plugin.hub)

    assert page.value("arq_http_enqueue_total", status="202") == 3
    assert page.value("arq_http_enqueue_total", status="503") == 1
    assert page.value("arq_idempotent_replays_total") == 1


async def test_a_loop_that_is_blocked_shows_while_it_is(hub: Hub) -> None:
    """A scrape is answered by another thread."""
    async with hub.lifespan():
        await asyncio.sleep(0)  # it begins to beat
        before = page_of(hub).value("arq_worker_loop_lag_seconds") or 0
        time.sleep(0.6)  # noqa: ASYNC251 - on purpose
        now = page_of(hub).value("arq_worker_loop_lag_seconds") or 0

    assert now - before > 0.2


async def test_what_a_loop_was_blocked_is_summed_up(hub: Hub) -> None:
    """However seldom somebody looks, nothing of it is missed; and it never falls, as one that is restarted would."""
    seen: list[float] = []

    def look() -> None:
        seen.append(page_of(hub).value("arq_worker_loop_blocked_seconds_total") or 0)

    async with hub.lifespan():
        await asyncio.sleep(0)  # it begins to watch
        for _ in range(2):
            look()
            time.sleep(1)  # noqa: ASYNC251 - on purpose
            look()
            await asyncio.sleep(2 * EVERY_S)
    look()

    assert seen == sorted(seen)
    assert 2 - 2 * EVERY_S - 0.1 < seen[-1] - seen[0] < 3


async def test_lags_are_forgotten_after_a_while() -> None:
    """A worker that once was slow is not slow for ever; the sum remembers."""
    watch = LoopWatch()
    _, due_s = watch._late_s_and_due_at_s
    watch._note(due_s + 3)
    assert watch.longest_s == pytest.approx(3, abs=0.1)
    for seconds in (16, 32):
        watch._late_s_and_due_at_s = 3.0, due_s + seconds
        watch._note(due_s + seconds)
    watch.stop()

    assert watch.longest_s < 1
    assert watch.blocked_s == pytest.approx(3, abs=0.1)


async def test_a_tasks_counters_are_there_before_anything_happens(redis_url: str, namespace: str) -> None:
    """From nothing to 1 is no increase to Prometheus: it would not hear of the first death."""
    hub = make_hub(redis_url, namespace, greet, elsewhere, queues=["default", "other"], metrics=True)
    page = page_of(hub)

    for each in (greet, elsewhere):
        labels = {"queue": "other" if each is elsewhere else "default", "task": each.name}
        for counter in ("enqueued", "fenced", "recovered", "poisoned"):
            assert page.value(f"arq_jobs_{counter}_total", **labels) == 0
        for outcome in ("succeeded", "dead", "cancelled", "expired"):
            assert page.value("arq_jobs_finished_total", **labels, outcome=outcome) == 0
    assert page.labels("arq_job_run_seconds_bucket") == []


async def test_a_scrape_opens_nothing(namespace: str) -> None:
    """It comes in a thread, and maybe before the app is up."""
    hub = make_hub("redis://127.0.0.1:1/0", namespace, greet, metrics=True)

    assert page_of(hub).value("arq_jobs_enqueued_total", task=greet.name) == 0
    assert hub._queues is None


async def test_a_redis_that_is_away_shows_and_is_no_time_of_a_job(redis_server: RedisServer, namespace: str) -> None:
    """Its looks fail, its renewals too; what its job waits for its end to be recorded it has not run."""
    async with running_proxy(redis_server.port) as proxy:
        config = Config(namespace=namespace, command_deadline_s=0.3, lease_s=5)
        hub = make_hub(proxy.url, namespace, wait_for_it, config=config, metrics=True)
        async with working(hub, drain_s=5):
            may_end.clear()
            await hub.queue().enqueue(wait_for_it)
            await wait_until(lambda: page_of(hub).value("arq_jobs_running") == 1, description="it runs")
            await wait_until(lambda: page_of(hub).value("arq_redis_up") == 1, description="Redis is up")
            errors = page_of(hub).value("arq_redis_errors_total")
            proxy.refuse()
            proxy.cut()
            may_end.set()
            await wait_until(lambda: page_of(hub).value("arq_redis_up") == 0, timeout_s=10, description="Redis is away")
            during = page_of(hub)
            await proxy.accept()
            await wait_until(lambda: page_of(hub).value("arq_redis_up") == 1, timeout_s=10, description="it is back")
        await hub.aclose()
        page = page_of(hub)

    assert errors == 0
    assert (during.value("arq_redis_errors_total") or 0) > (
        during.value("arq_worker_lease_renewals_total", result="failed") or 0
    )
    assert page.value("arq_job_run_seconds_count") == 1
    assert (page.value("arq_job_run_seconds_sum") or 0) < (page.value("arq_job_total_seconds_sum") or 0) / 2


async def test_every_metric_says_what_it_is_and_in_which_unit(hub: Hub) -> None:
    """Seconds, or things that are counted."""
    counted = {"arq_jobs_running", "arq_worker_slots", "arq_queue_ready", "arq_queue_scheduled", "arq_queue_running"}
    counted |= {"arq_queue_dead", "arq_queue_rejected", "arq_redis_up"}
    page = page_of(hub)
    for family in FAMILIES:
        assert len(family.help) > 10
        assert family.help.endswith(".")
        suffix = "_total" if family.kind is Kind.COUNTER else "_seconds"
        assert family.name.endswith(suffix) or family.name in counted
        assert page.families[family.name.removesuffix("_total")].documentation == family.help


async def test_openmetrics_is_given_to_whom_asks_for_it(hub: Hub) -> None:
    """By its own parser."""
    content_type, text = _metrics(hub).render("application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics_families(text.decode())}  # type: ignore[no-untyped-call]
    assert {"arq_jobs_finished", "arq_job_run_seconds"} <= names


async def test_ones_own_metrics_are_on_the_page_of_ones_own_registry(redis_url: str, namespace: str) -> None:
    """One page for all."""
    registry = CollectorRegistry()
    Counter("pictures_resized", "Pictures that were resized.", registry=registry).inc()
    hub = make_hub(redis_url, namespace, greet, metrics=Metrics(registry))
    page = page_of(hub)

    assert page.value("pictures_resized_total") == 1
    assert page.value("arq_jobs_running") == 0
    assert Metrics().registry is not prometheus_client.REGISTRY  # two apps in one process do not meet there


def test_what_cannot_be_is_refused_at_the_start(redis_url: str, namespace: str) -> None:
    """Two apps on one page would count into each other."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    with pytest.raises(InvalidConfig, match="each app needs a registry of its own"):
        Metrics(registry)
    make_hub(redis_url, namespace, metrics=metrics)
    with pytest.raises(InvalidConfig, match="one Metrics"):
        make_hub(redis_url, namespace, metrics=metrics)
    for buckets in ((), (1.0, 0.5), (1.0, 1.0)):
        with pytest.raises(InvalidConfig, match="greater than the one before"):
            Metrics(buckets=buckets)


async def test_queue_gauges_can_be_left_out(redis_url: str, namespace: str) -> None:
    """Where another exporter has them already."""
    hub = make_hub(redis_url, namespace, greet, metrics=Metrics(queue_gauges=False))
    page_of(hub)
    async with hub.lifespan():
        await wait_until(lambda: page_of(hub).value("arq_redis_up") == 1, description="whether Redis is there is told")
        assert await measure_as_leader(hub.queue().store, "another", 100) is not None
        assert page_of(hub).value("arq_queue_ready") is None


async def test_a_redis_that_answers_with_errors_is_up(hub: Hub, redis: redis_async.Redis) -> None:
    """Who is woken up should not look for a network that is broken."""
    index = hub.queue().store.base + b"ready"
    await redis.set(index, "what")
    page_of(hub)
    async with hub.lifespan():
        await wait_until(
            lambda: (page_of(hub).value("arq_redis_errors_total") or 0) >= 1, description="an error is counted"
        )
        assert page_of(hub).value("arq_redis_up") == 1
    await redis.delete(index)


def _metrics(hub: Hub) -> Metrics:
    assert isinstance(hub.metrics, Metrics)
    return hub.metrics
