"""What ``app-worker`` writes: the app's own lines carry their job, wherever it runs; ours tell only what is marked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arq_web import Hub, Job, OutgoingJob, Queue, Task
from tests.logs.shop import fail, mail, render, render_async, resize
from tests.support.projects import Project

SHOP = "tests.logs.shop:hub"
ARQ_TASKS = """
import logging, os
from arq_web.arq.connections import RedisSettings
from arq_web.logs import JobFilter

REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])
handler = logging.StreamHandler()
handler.addFilter(JobFilter())
handler.setFormatter(logging.Formatter("[%(job_id)s %(task)s %(attempt)s] %(message)s"))
log = logging.getLogger("greeter")
log.addHandler(handler)

async def greet(ctx):
    log.warning("hello")

async def startup(ctx):
    await ctx["redis"].enqueue_job("greet", _job_id="greet:1")

class WorkerSettings:
    functions = [greet]
    on_startup = startup
    redis_settings = REDIS
    queue_name = os.environ["ARQ_WEB_NAMESPACE"]
"""


async def lines_of(project: Project, *flags: str) -> list[dict[str, Any]]:
    finished = await project.run(SHOP, "--burst", "--log-format", "json", *flags)
    assert finished.code == 0, finished.err
    return [json.loads(line) for line in finished.err.splitlines() if line.startswith("{")]


async def test_the_apps_lines_carry_their_job_wherever_the_task_runs(project: Project, queue: Queue) -> None:
    """Coroutine, what it starts, thread, child process: the same fields under the same names."""
    jobs: dict[str, Job[Any]] = {
        resize.name: await queue.enqueue(resize),
        render.name: await queue.enqueue(render),
        render_async.name: await queue.enqueue(render_async),
        mail.name: await queue.enqueue(mail, 7),
    }

    lines = await lines_of(project)

    said = {line["message"]: line for line in lines if line["logger"] == "shop"}
    told: list[tuple[str, Task[..., Any]]] = [
        ("begins", mail),
        ("started by it", mail),
        ("has fields", mail),
        ("in a thread", resize),
        ("in a child", render),
        ("on a child's loop", render_async),
    ]
    for message, task in told:
        line = said[message]
        expected = {
            "job": jobs[task.name].id,
            "task": task.name,
            "queue": "default",
            "attempt": 1,
            "tenant": "acme",
            "level": line["level"],
            "logger": "shop",
        }
        assert expected.items() <= line.items(), message
    assert (said["has fields"]["step"], "step" in said["begins"]) == (2, False)
    assert "job" not in said["at import"]


async def test_what_is_logged_as_extra_is_shown_and_hides_nothing(project: Project, queue: Queue) -> None:
    """Two things of one name are both there."""
    job = await queue.enqueue(mail, 7)

    [line] = [line for line in await lines_of(project) if line.get("message") == "has fields"]

    assert (line["amount"], line["job"], line["job_"], line["ts_"]) == (3, job.id, "mine", "now")
    assert line["ts"].endswith("Z")


async def test_text_has_the_job_behind_the_message(project: Project, queue: Queue) -> None:
    """As in our own lines: the task without its module, eight characters of the id."""
    job = await queue.enqueue(mail, 7)

    finished = await project.run(SHOP, "--burst")

    [line] = [line for line in finished.err.splitlines() if "has fields" in line]
    assert line[8:] == f" WARN  shop             has fields  mail {job.id[:8]}…  attempt=1 tenant=acme step=2"


async def test_jobs_show_has_the_headers(project: Project, queue: Queue) -> None:
    """What a middleware gave the job explains what it does."""
    job = await queue.enqueue(mail, 7)

    shown = await project.run("jobs", "show", SHOP, job.id, "--json")
    text = await project.run("jobs", "show", SHOP, job.id)
    await job.cancel()

    assert shown.json["headers"] == {"tenant": "acme"}
    assert 'headers     {"tenant": "acme"}' in text.out


async def test_functions_of_arqs_api_know_their_job(project: Project) -> None:
    """By a filter in a set-up of their own: arq's lines stay as arq has them."""
    project.write("tasks.py", ARQ_TASKS)

    finished = await project.run("tasks.WorkerSettings", "--burst")

    assert "[greet:1 greet 1] hello" in finished.err + finished.out


async def test_our_lines_tell_who_and_how_long(project: Project, queue: Queue) -> None:
    """Whoever reads one line needs no other to know which queue, which worker, how long it waited and ran."""
    job = await queue.enqueue(mail, 7)
    dead = await queue.enqueue(fail, 9, "s3cret")

    lines = await lines_of(project, "--verbose")

    [started] = [line for line in lines if line.get("event") == "worker.started"]
    by_event = {(line["event"], line.get("job")): line for line in lines if line.get("event", "").startswith("job.")}
    for event, job_id in (("job.claimed", job.id), ("job.succeeded", job.id), ("job.dead", dead.id)):
        line = by_event[event, job_id]
        assert (line["worker"], line["queue"], line["attempt"]) == (started["worker"], "default", 1)
        assert line["waited_ms"] >= 0
    assert by_event["job.succeeded", job.id]["ran_ms"] >= 0
    assert by_event["job.dead", dead.id]["ran_ms"] >= 0


async def test_the_requests_id_is_on_all_lines_of_its_job(project: Project, hub: Hub, queue: Queue) -> None:
    """Ours and the app's: one search finds them."""

    async def of_request(job: OutgoingJob, call_next: Any) -> Any:
        job.headers["x-request-id"] = "req-1"
        return await call_next(job)

    hub.enqueue_middleware.insert(0, of_request)
    await queue.enqueue(mail, 7)
    await queue.enqueue(fail, 9, "x")

    lines = await lines_of(project, "--verbose")

    found = [line.get("event") or line["message"] for line in lines if line.get("request_id") == "req-1"]
    assert sorted(found) == sorted(
        ["job.claimed", "job.claimed", "begins", "started by it", "has fields", "job.succeeded", "job.dead"]
    )


async def test_only_marked_arguments_are_logged(project: Project, queue: Queue) -> None:
    """In the three lines that one looks for; the others of the same call nowhere, in no form."""
    await queue.enqueue(mail, 7, password="s3cret")
    await queue.enqueue(fail, 9, "s3cret")

    finished = await project.run(SHOP, "--burst", "--log-format", "json", "--verbose")
    lines = [json.loads(line) for line in finished.err.splitlines() if line.startswith("{")]

    marked = [(line["event"], line["args"]) for line in lines if "args" in line]
    assert sorted(marked, key=str) == [
        ("job.claimed", {"user_id": 7}),
        ("job.claimed", {"user_id": 9}),
        ("job.dead", {"user_id": 9}),
        ("job.succeeded", {"user_id": 7}),
    ]
    assert "s3cret" not in finished.err


@pytest.mark.parametrize("style", ["json", "text"])
async def test_the_password_of_redis_is_in_no_line(project: Project, queue: Queue, style: str) -> None:
    """The address is; whoever may read logs may not all read the database."""
    url = project.env["REDIS_URL"].replace("redis://", "redis://default:s3cret@")

    finished = await project.run(SHOP, "--burst", "--verbose", "--log-format", style, env={"REDIS_URL": url})

    assert "s3cret" not in finished.err + finished.out
    assert "127.0.0.1" in finished.err
