"""Which job code belongs to, for logging set-ups of every kind."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import logging
import logging.handlers
import math
import pickle
import queue as queues
from collections.abc import Iterator
from typing import Any

import pytest

from arq_web import INJECTED, Config, Hub, JobContext, OutgoingJob, task
from arq_web.errors import InvalidConfig, InvalidTask
from arq_web.log_context import context_fields
from arq_web.logged_args import MOST_CHARS, logged_args
from arq_web.logs import JobFilter, JsonFormatter, LogContext, current_job, job_fields
from tests.logs.shop import mail, spread
from tests.support.working import queue_of, working

log = logging.getLogger("shop.mail")
FORMAT = "%(job_id)s|%(task)s|%(queue)s|%(attempt)s|%(request_id)s|%(message)s"
seen: list[Any] = []


@task(name="mail:send")
async def send(number: int) -> None:
    """Let the other one run in between."""
    with job_fields(number=number):
        await asyncio.sleep(0)
        log.info("sent %s", number)
        seen.append(current_job())


@task(name="mail:thread")
def in_thread() -> None:
    """The same in a thread."""
    log.info("sent in a thread")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler with a JobFilter and a format of the user's own writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(JobFilter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield stream
    log.removeHandler(handler)


@pytest.fixture
def tasks_hub(redis_url: str, namespace: str) -> Hub:
    """Its tasks, in this process."""
    return Hub(url=redis_url, config=Config(namespace=namespace), tasks=[send, in_thread])


async def test_a_filter_gives_any_format_the_job(tasks_hub: Hub, written: io.StringIO) -> None:
    """In a format string as python.org shows it; jobs that run at the same time are told apart."""
    seen.clear()
    queue = tasks_hub.queue()
    log.info("before")
    async with working(tasks_hub):
        jobs = [await queue.enqueue(send, number) for number in range(5)]
        jobs.append(await queue.enqueue(in_thread))
        for job in jobs:
            await job.result(10)
    log.info("after")
    await tasks_hub.aclose()

    lines = written.getvalue().splitlines()
    assert (lines[0], lines[-1]) == ("-|-|-|-|-|before", "-|-|-|-|-|after")
    assert sorted(lines[1:-1]) == sorted(
        [f"{job.id}|mail:send|default|1|-|sent {number}" for number, job in enumerate(jobs[:5])]
        + [f"{jobs[5].id}|mail:thread|default|1|-|sent in a thread"]
    )
    assert {(each.id, each.task, each.fields["number"]) for each in seen} == {
        (job.id, "mail:send", number) for number, job in enumerate(jobs[:5])
    }
    assert current_job() is None


async def test_a_filter_on_a_queue_handler_keeps_the_job(tasks_hub: Hub) -> None:
    """The listener writes in a thread of its own, which knows of no job."""
    records: queues.SimpleQueue[logging.LogRecord] = queues.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(JobFilter(outside=None))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        log.info("outside")
        async with working(tasks_hub):
            job = await tasks_hub.queue().enqueue(send, 1)
            await job.result(10)
    finally:
        log.removeHandler(handler)
        await tasks_hub.aclose()

    outside, inside = records.get(), records.get()
    assert not hasattr(outside, "job_id")
    assert (inside.job_id, inside.number) == (job.id, 1)  # type: ignore[attr-defined]


def test_a_filter_leaves_what_somebody_has_said() -> None:
    """``extra=`` is nearer to the line."""
    record = logging.makeLogRecord({"task": "theirs"})

    assert JobFilter().filter(record)
    assert (record.task, record.queue) == ("theirs", "-")  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", [math.nan, {math.inf: 1}, [[math.nan]]])
def test_a_line_is_strict_json_whatever_is_in_it(value: object) -> None:
    """One line that the collector refuses is one that nobody finds."""
    line = JsonFormatter().format(logging.makeLogRecord({"msg": "x", "name": "shop", "odd": value}))

    assert "odd" in json.loads(line, parse_constant=pytest.fail)


def test_a_list_within_itself_is_no_end() -> None:
    """Of the line."""
    loop: list[object] = []
    loop.append(loop)

    assert (
        json.loads(JsonFormatter().format(logging.makeLogRecord({"name": "shop", "msg": "x", "odd": loop})))["odd"]
        == "[[...]]"
    )


@pytest.mark.parametrize("name", ["job", "task", "queue", "attempt", "request_id"])
def test_fields_of_ones_own_cannot_hide_ours(name: str) -> None:
    """A search for a job must find all of it, and only it."""
    with pytest.raises(InvalidConfig, match="job_fields"), job_fields(**{name: 1}):
        pass
    with pytest.raises(InvalidConfig, match="headers"):
        LogContext(headers=[name])


@pytest.mark.parametrize("headers", ["tenant", ["x tenant"], ["1st"]])
def test_headers_must_be_names_of_fields(headers: Any) -> None:
    """Said where they are written."""
    with pytest.raises(InvalidConfig, match="headers"):
        LogContext(headers=headers)


async def test_what_is_known_is_carried_and_what_is_said_stays() -> None:
    """The request's id by default; or whatever your own set-up knows it by."""
    job = OutgoingJob("1", "t", "q", {}, b"")
    said = OutgoingJob("1", "t", "q", {"x-request-id": "said"}, b"")

    async def call_next(job: OutgoingJob) -> None: ...

    context = LogContext(request_id=lambda: "from elsewhere")
    await context.carry(job, call_next)
    await context.carry(said, call_next)
    await LogContext().carry(nothing := OutgoingJob("1", "t", "q", {}, b""), call_next)

    assert (job.headers, said.headers) == ({"x-request-id": "from elsewhere"}, {"x-request-id": "said"})
    assert nothing.headers == {}


async def test_a_jobs_headers_go_on_into_the_jobs_that_it_enqueues(redis_url: str, namespace: str) -> None:
    """So that one id finds the request and all that came of it."""
    ids: list[str | None] = ["req-1"]
    context = LogContext(request_id=lambda: ids.pop() if ids else None)
    config = Config(namespace=namespace)
    hub = Hub(url=redis_url, config=config, tasks=[mail, spread], enqueue_middleware=[context.carry])
    async with queue_of(hub) as queue, working(hub):
        first = await queue.enqueue(spread)
        nested = queue.job(await first.result(10), mail)

        assert (await nested.result(10), ids) == ("req-1", [])


@pytest.mark.parametrize(
    ("log_args", "message"),
    [
        ("user_id", r"Write log_args=\['user_id'\]"),
        (["user"], "'user', which is no parameter"),
        (["rest"], "'rest', which is no parameter"),
        (["job"], "'job' of log_args is filled in by the worker"),
        ([1], "names of the function's parameters"),
        (7, "names of the function's parameters"),
    ],
)
def test_marking_what_is_no_argument_is_refused_where_it_is_written(log_args: Any, message: str) -> None:
    """A wrong name would log nothing, in silence."""
    with pytest.raises(InvalidTask, match=message):

        @task(log_args=log_args)
        async def pay(user_id: int, *rest: int, job: JobContext = INJECTED) -> None: ...


def test_marked_arguments_are_shown_as_they_are_and_short() -> None:
    """Defaults are not in a call; a document is no argument for a log."""
    encoded = send.codec.encode_call((3,), {})
    long = json.dumps({"text": "x" * 1000, "more": {"a": 1}, "when$": {"$": "tuple", "v": [1, 2]}}).encode()

    shown = logged_args(["text", "more", "when", "missing"], long) or {}
    assert logged_args(["number"], encoded) == {"number": 3}
    assert len(str(shown["text"])) == MOST_CHARS
    assert (shown["more"], shown["when"]) == ("{'a': 1}", "(1, 2)")
    assert logged_args([], encoded) is None
    assert logged_args(["number"], b"\x00encrypted") is None


def test_fields_may_end_in_another_context() -> None:
    """As those of a dependency do, which is a plain ``def`` with a yield: each half runs in a copy of the request's."""
    adding = job_fields(tenant="acme")

    contextvars.copy_context().run(adding.__enter__)
    contextvars.copy_context().run(adding.__exit__, None, None, None)

    assert context_fields() == {}


kept: list[contextvars.Context] = []


@task(name="mail:start")
async def start(text: str) -> None:
    """Start what outlives the job: a timer, a task, whatever has a context."""
    kept.append(contextvars.copy_context())


async def test_what_a_job_has_started_does_not_keep_its_arguments(redis_url: str, namespace: str) -> None:
    hub = Hub(url=redis_url, config=Config(namespace=namespace), tasks=[start])
    async with queue_of(hub) as queue, working(hub):
        job = await queue.enqueue(start, "x" * 500_000)
        await job.result(10)
    context = kept.pop()
    [bound] = [value for name, value in context.items() if name.name == "arq_web_job"]

    known = context.run(current_job)

    assert known is not None
    assert known.id == job.id
    assert len(pickle.dumps(bound)) < 1000
