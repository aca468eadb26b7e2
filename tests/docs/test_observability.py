"""The pages on metrics, traces and Sentry: their snippets at work."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from arq_web import Config, Hub, JobFailed
from tests.docs.apps import app_on
from tests.docs.examples import (
    sentry,
    sentry_plain,
    traced_fastapi,
    traced_litestar,
    traced_tasks,
    watched_fastapi,
    watched_litestar,
    watched_tasks,
)
from tests.support.fleet import worker_fleet
from tests.support.waiting import wait_until
from tests.support.working import make_hub, working


@pytest.mark.parametrize("app", [watched_fastapi.app, watched_litestar.app], ids=["fastapi", "litestar"])
async def test_the_page_is_where_the_how_to_says(redis_url: str, namespace: str, app: Any) -> None:
    """Below ``health_path``."""
    async with app_on(app, redis_url, namespace) as (hub, client):
        async with working(hub):
            await (await hub.queue().enqueue(watched_tasks.resize, 2, 3)).result(10)
        answer = await client.get("/-/jobs/metrics")

    assert answer.status_code == 200
    assert 'arq_jobs_finished_total{outcome="succeeded",queue="default"' in answer.text


async def test_ones_own_metrics_are_on_the_same_page(redis_url: str, namespace: str) -> None:
    """Of the registry that was given."""
    hub = make_hub(redis_url, namespace, watched_tasks.resize, metrics=watched_tasks.metrics)
    async with working(hub):
        await (await hub.queue().enqueue(watched_tasks.resize, 2, 3)).result(10)
    await hub.aclose()
    page = watched_tasks.metrics.render()[1].decode()

    assert "pixels_resized_total" in page
    assert "arq_jobs_finished_total" in page


@pytest.mark.parametrize("app", [traced_fastapi.app, traced_litestar.app], ids=["fastapi", "litestar"])
async def test_a_request_is_traced_into_its_job(
    redis_url: str, namespace: str, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the page's own set-up of the SDK; the global provider is this test's alone."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER_SET_ONCE", Once())
    exporter = InMemorySpanExporter()
    traced_tasks.set_up_traces(exporter)
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    monkeypatch.setattr(traced_tasks, "tracer", provider.get_tracer("shop"))
    async with app_on(app, redis_url, namespace) as (hub, client):
        monkeypatch.setattr(hub.tracing, "_tracer", provider.get_tracer("arq_web"))
        async with working(hub):
            job_id = (await client.post("/pictures")).text.strip('"')  # FastAPI answers in JSON, Litestar in plain text
            await hub.queue().job(job_id, traced_tasks.resize).result(10)
    provider.shutdown()
    spans = {span.name: span for span in exporter.get_finished_spans()}

    sent, attempt, own = spans["send default"], spans["process default"], spans["read the picture"]
    assert own.parent == attempt.context
    [link] = attempt.links
    assert sent.context is not None
    assert link.context.span_id == sent.context.span_id


@pytest.fixture
def sentry_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A DSN on the loopback, and the events that come there."""
    events: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            lines = body.split(b"\n")
            events.extend(
                json.loads(event) for head, event in zip(lines[1::2], lines[2::2], strict=False) if b'"event"' in head
            )
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - its name

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", events
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("example", [sentry, sentry_plain], ids=["middleware", "plain"])
async def test_sentry_hears_of_a_failed_job(
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    sentry_server: tuple[str, list[dict[str, Any]]],
    example: Any,
) -> None:
    """One issue for one dead job, from a real worker process over HTTP, with the job's id."""
    dsn, events = sentry_server
    target = f"{example.__name__}:{'app' if example is sentry else 'hub'}"
    hub = Hub(url=redis_url, tasks=[example.charge], config=Config(namespace=namespace))
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet:
        worker = await fleet.start(target, env={"SENTRY_DSN": dsn})
        job = await hub.queue().enqueue(example.charge, 7)
        with pytest.raises(JobFailed):
            await job.result(20)
        await wait_until(lambda: events, description="Sentry has heard of it")
        worker.process.terminate()
        await worker.process.wait()
    await hub.aclose()

    [event] = events
    assert job.id in json.dumps(event)
    if example is sentry:
        [error] = event["exception"]["values"]
        assert (error["type"], error["value"]) == ("ConnectionError", "order 7: the bank does not answer")
        assert (event["tags"]["job"], event["contexts"]["job"]["attempt"]) == (job.id, 1)
        assert event["transaction"] == example.charge.name
    else:
        assert event["logger"] == "arq_web.worker"
