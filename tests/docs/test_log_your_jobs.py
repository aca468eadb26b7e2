"""The examples of how-to/log-your-jobs.md work."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from arq_web import Config, Hub, task
from arq_web.logs import job_fields
from tests.docs.apps import app_on
from tests.docs.examples import logging_fastapi, logging_litestar, logging_own, logging_tenant
from tests.docs.examples.logging_job import charge
from tests.support.projects import project_in
from tests.support.working import make_hub, queue_of, working

NAME = charge.name


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """Whatever an example configures is taken back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.usefixtures("plain_logging")
async def test_a_dict_config_shows_the_job(redis_url: str, namespace: str) -> None:
    """As the page's format has it."""
    written = io.StringIO()
    config = copy.deepcopy(logging_own.LOGGING)
    config["handlers"]["out"]["stream"] = written  # type: ignore[index]
    logging.config.dictConfig(config)
    hub = make_hub(redis_url, namespace, charge)
    async with queue_of(hub) as queue, working(hub):
        job = await queue.enqueue(charge, 7, "4111")
        await job.result(10)

    assert f"INFO tests.docs.examples.logging_job [{job.id} {NAME} -] asking the bank" in written.getvalue()
    assert "4111" not in written.getvalue()


@task(name="structured")
async def structured() -> None:
    """Log through structlog."""
    with job_fields(step=1):
        structlog.get_logger().info("hello", amount=3)


@pytest.mark.usefixtures("plain_logging")
async def test_structlog_has_the_job(redis_url: str, namespace: str) -> None:
    """Through one processor."""
    importlib.import_module("tests.docs.examples.logging_structlog")
    hub, written = make_hub(redis_url, namespace, structured), io.StringIO()
    with contextlib.redirect_stdout(written):
        async with queue_of(hub) as queue, working(hub):
            job = await queue.enqueue(structured)
            await job.result(10)

    assert json.loads(written.getvalue()) == {
        "event": "hello",
        "level": "info",
        "amount": 3,
        "step": 1,
        "job": job.id,
        "task": "structured",
        "attempt": 1,
        "request_id": None,
    }


@pytest.mark.parametrize("app", [logging_fastapi.app, logging_litestar.app], ids=["fastapi", "litestar"])
async def test_the_apps_give_each_request_an_id(redis_url: str, namespace: str, app: Any) -> None:
    """The way of it into a job is in tests/logs/test_request_ids.py."""
    async with app_on(app, redis_url, namespace) as (hub, client):
        response = await client.get("/jobs/nobody", headers={"X-Request-ID": "req-1"})
        assert charge in hub.registry

    assert response.headers["x-request-id"] == "req-1"


async def test_a_tenants_name_is_on_the_lines(redis_url: str, namespace: str, tmp_path: Any) -> None:
    """Set by the enqueue's middleware, shown in the worker; and the lines are those of the page."""
    hub: Hub = logging_tenant.hub
    hub.config, hub._url = Config(namespace=namespace), redis_url
    async with queue_of(hub) as queue:
        logging_tenant.tenant.set("acme")
        job = await queue.enqueue(charge, 7, "4111")
    async with project_in(tmp_path, redis_url, namespace) as project:
        target = "tests.docs.examples.logging_tenant:hub"
        finished = await project.run(target, "--burst", "--log-format", "json")

    lines = [json.loads(line) for line in finished.err.splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("message") == "the bank says yes"]
    line.pop("ts")
    assert line == {
        "level": "INFO",
        "logger": "tests.docs.examples.logging_job",
        "message": "the bank says yes",
        "job": job.id,
        "task": NAME,
        "queue": "default",
        "attempt": 1,
        "tenant": "acme",
        "bank": "first",
        "amount": 12,
    }
    [end] = [line for line in lines if line.get("event") == "job.succeeded"]
    assert end["args"] == {"order_id": 7}
