"""``app-worker jobs``, ``routes`` and ``check``: what a person sees and may do."""

from __future__ import annotations

import pytest
import redis.asyncio as redis_async

from arq_web import JobState, Queue
from arq_web.cli import job_search
from arq_web.cli.job_listing import whats_missing
from arq_web.cli.job_search import Wanted, list_jobs
from arq_web.store.inspection import Inspector
from tests.cli.shop import fail, nap, tell
from tests.cli.terminal import in_terminal
from tests.support.projects import SHOP, Project
from tests.support.waiting import wait_until


async def test_ls_shows_what_is_alive_and_what_is_dead(project: Project, queue: Queue) -> None:
    """With the id in full, since that is what the other commands take."""
    dead = await queue.enqueue(fail, "luck")
    await project.run(SHOP, "--burst")
    later = await queue.enqueue(nap.options(delay=600), 1)
    ready = await queue.enqueue(nap.options(queue="mail"), 1)

    finished = await project.run("jobs", "ls", SHOP)

    assert finished.code == 0
    assert "default: 0 queued, 0 running, 1 scheduled or retrying, 1 dead, 0 rejected" in finished.out
    assert "mail: 1 queued" in finished.out
    lines = {line.split()[0]: line for line in finished.out.splitlines() if line}
    assert "dead" in lines[dead.id]
    assert "ValueError: no luck at all" in lines[dead.id]
    assert "due in" in lines[later.id]
    assert "mail" in lines[ready.id]


@pytest.mark.parametrize("state", ["queued", "scheduled", "dead", "succeeded", "cancelled"])
async def test_ls_lists_one_state(project: Project, queue: Queue, state: str) -> None:
    """Also the states that nothing indexes."""
    await queue.enqueue(fail.options(id="dead"), "luck")
    await queue.enqueue(nap.options(id="succeeded"), 1)
    await project.run(SHOP, "--burst")
    await queue.enqueue(nap.options(id="queued"), 1)
    await queue.enqueue(nap.options(id="scheduled", delay=600), 1)
    await (await queue.enqueue(nap.options(id="cancelled"), 1)).cancel()

    finished = await project.run("jobs", "ls", SHOP, "--queue", "default", "--state", state, "--json")

    assert [(job["id"], job["state"]) for job in finished.json_lines] == [(state, state)]


async def test_ls_says_when_there_are_more(project: Project, queue: Queue) -> None:
    """A list that ends in silence looks complete."""
    await queue.enqueue_many([nap.call(1) for _ in range(3)])

    cut = await project.run("jobs", "ls", SHOP, "--limit", "2")
    whole = await project.run("jobs", "ls", SHOP, "--limit", "3")

    assert "There are more" in cut.out
    assert "There are more" not in whole.out


@pytest.mark.leaves_keys("garbage is what it is about")
async def test_garbage_stays_visible_as_rejects(
    project: Project, queue: Queue, redis: redis_async.Redis, namespace: str
) -> None:
    """Whatever was in the queue and was no job is kept, its bytes too, and can be looked at."""
    base = f"{namespace}:1:{{default}}:"
    await redis.set(f"{base}j:broken", b"\xff\xfe not a record\n")
    await redis.zadd(f"{base}ready", {"broken": 1})
    before = await project.run("jobs", "ls", SHOP)
    await project.run(SHOP, "--burst")

    after = await project.run("jobs", "ls", SHOP, "--state", "rejected")
    shown = await project.run("jobs", "show", SHOP, "broken")
    as_json = await project.run("jobs", "show", SHOP, "broken", "--json")
    [line] = (await project.run("jobs", "ls", SHOP, "--json", "--error", "RECORD")).json_lines

    assert (line["id"], line["state"], line["queue"]) == ("broken", "rejected", "default")
    assert "unreadable" in before.out
    assert "broken" in after.out
    assert "1 rejected" in after.out
    assert "\\xff\\xfe not a record" in shown.out
    assert as_json.json["state"] == "rejected"


async def test_show_tells_all_that_is_known_arguments_included(project: Project, queue: Queue) -> None:
    """The one command for "what happened to this job?"."""
    job = await queue.enqueue(fail.options(timeout=7), "luck")
    await project.run(SHOP, "--burst")

    finished = await project.run("jobs", "show", SHOP, job.id)

    info = await job.info()
    for text in (
        f"{job.id}  dead",
        "tests.cli.shop:fail",
        '"what": "luck"',
        f"(pid {info.worker_pid})",
        '"timeout_ms": 7000',
        "attempt 2 started",
        "ValueError: no luck",
        "Traceback (most recent call last):",
    ):
        assert text in finished.out


async def test_show_takes_the_beginning_of_an_id_and_prints_the_result(project: Project, queue: Queue) -> None:
    """A log line has eight characters of it."""
    job = await queue.enqueue(tell, "X")
    await project.run(SHOP, "--burst", env={"X": "1"})

    finished = await project.run("jobs", "show", SHOP, job.id[:8], "--json")

    assert finished.json["id"] == job.id
    assert finished.json["result"] == "worker 1"
    assert finished.json["arguments"] == {"name": "X"}


async def test_show_of_an_unknown_id_is_a_message_and_status_1(project: Project) -> None:
    """Not a traceback."""
    finished = await project.run("jobs", "show", SHOP, "nobody")

    assert finished.code == 1
    assert "There is no job 'nobody'" in finished.err


async def test_show_does_not_choose_among_several(project: Project, queue: Queue) -> None:
    """The beginning must be enough to tell."""
    for name in ("order-1", "order-2"):
        await queue.enqueue(nap.options(id=name), 1)

    finished = await project.run("jobs", "show", SHOP, "order-")

    assert finished.code == 1
    assert "order-1, order-2" in finished.err


async def test_cancel_says_what_became_of_each(project: Project, queue: Queue) -> None:
    """And ends with 1 if one of them could not be."""
    job = await queue.enqueue(nap, 1)

    fine = await project.run("jobs", "cancel", SHOP, job.id)
    mixed = await project.run("jobs", "cancel", SHOP, job.id, "nobody")

    assert (fine.code, fine.out) == (0, f"{job.id}: cancelled\n")
    assert (mixed.code, mixed.out) == (1, f"{job.id}: cancelled\nnobody: absent\n")
    assert await job.status() is JobState.CANCELLED


async def test_redrive_puts_a_job_back(project: Project, queue: Queue) -> None:
    """By id."""
    job = await queue.enqueue(fail, "luck")
    await project.run(SHOP, "--burst")

    finished = await project.run("jobs", "redrive", SHOP, job.id)

    assert (finished.code, finished.out) == (0, f"{job.id}: redriven\n")
    assert await job.status() is JobState.QUEUED


async def test_redrive_of_all_dead_takes_those_that_are_dead_now(
    project: Project, queue: Queue, redis: redis_async.Redis
) -> None:
    """In every queue of the app; an entry whose record is gone is passed over."""
    jobs = [await queue.enqueue(fail.options(queue=name), "luck") for name in ("default", "default", "mail")]
    await project.run(SHOP, "--burst")
    await redis.zadd((queue.store.base + b"dead").decode(), {"gone": 1})

    finished = await project.run("jobs", "redrive", SHOP, "--all-dead")

    assert finished.out == "default: 2 redriven\nmail: 1 redriven\n"
    assert {await job.status() for job in jobs} == {JobState.QUEUED}


async def test_redrive_needs_ids_or_all_dead(project: Project) -> None:
    """Nothing by accident."""
    finished = await project.run("jobs", "redrive", SHOP)

    assert finished.code == 2
    assert "Give the ids of jobs, or --all-dead." in finished.err


async def test_the_same_id_in_two_queues_must_be_told_apart(project: Project, queue: Queue) -> None:
    """Ids are unique per queue only: a guess could cancel the wrong job."""
    for name in ("default", "mail"):
        await queue.enqueue(nap.options(id="twin", queue=name), 1)

    guess = await project.run("jobs", "cancel", SHOP, "twin")
    told = await project.run("jobs", "cancel", SHOP, "twin", "--queue", "mail")

    assert guess.code == 1
    assert "say which, with --queue" in guess.err
    assert told.code == 0
    assert await queue.job("twin").status() is JobState.QUEUED


async def test_check_fails_until_a_worker_serves_every_queue(project: Project) -> None:
    """For a deployment's health check: the sentence names what is missing."""
    alone = await project.run("check", SHOP)
    worker = await project.start(SHOP, "--queue", "default")

    async def is_seen() -> bool:
        return (await project.run("check", SHOP, "--queue", "default")).code == 0

    await wait_until(is_seen, description="the worker is seen")
    half = await project.run("check", SHOP)
    worker.send()
    await worker.ended()

    assert (alone.code, half.code) == (1, 1)
    assert "No worker serves default, mail." in alone.err
    assert "No worker serves mail." in half.err


async def test_routes_shows_each_parameter_of_each_task_and_its_side(project: Project) -> None:
    """Nothing crosses from the request to the worker unseen."""
    text = await project.run("routes", SHOP)
    as_json = await project.run("routes", SHOP, "--json")

    sides = {each["task"]: each["sides"] for each in as_json.json}
    assert sides["tests.cli.shop:nap"] == {"ms": "argument", "ctx": "worker (context)"}
    assert sides["aside"] == {}
    assert "worker (context)" in text.out


async def test_routes_shows_what_an_adapters_task_knows_of_itself(project: Project) -> None:
    """Its route and the sides of its parameters, in the adapter's own words."""
    project.write(
        "main.py",
        """
from types import SimpleNamespace
from arq_web import Hub, task

@task
async def resize(image_id: int, owner: int) -> None: ...

resize.route = "POST /images/{image_id}/resize"
resize.sides = {"image_id": "request (path)", "owner": "request (RequestTime)"}
hub = Hub(tasks=[resize])
""",
    )

    finished = await project.run("routes", "main:hub", "--json")

    assert finished.json == [
        {
            "task": "main:resize",
            "route": "POST /images/{image_id}/resize",
            "sides": {"image_id": "request (path)", "owner": "request (RequestTime)"},
        }
    ]


async def test_a_worker_object_is_no_target_for_looking_at_jobs(project: Project) -> None:
    """It has no queues to ask; the message says what to give instead."""
    finished = await project.run("jobs", "ls", "tests.cli.shop:worker")

    assert finished.code == 2
    assert "this command needs the app, or its Hub" in finished.err


async def test_json_of_ls_is_one_object_per_line_and_nothing_else(project: Project, queue: Queue) -> None:
    """For jq and grep; what a person is told besides goes to standard error."""
    jobs = await queue.enqueue_many([nap.call(1) for _ in range(3)])

    finished = await project.run("jobs", "ls", SHOP, "--json", "--limit", "2")

    assert [(line["id"], line["state"]) for line in finished.json_lines] == [(job.id, "queued") for job in jobs[:2]]
    assert "There are more" in finished.err


async def test_ls_finds_by_task_error_worker_and_state(project: Project, queue: Queue) -> None:
    """Each narrows; a task goes by its own name, by that with the module, or by a pattern."""
    dead = await queue.enqueue(fail, "luck")
    await queue.enqueue(fail.options(id="other"), "money")
    await project.run(SHOP, "--burst")
    await queue.enqueue(nap.options(id="napping"), 1)
    worker = (await dead.info()).worker or ""

    async def ids(*flags: str) -> set[str]:
        return {line["id"] for line in (await project.run("jobs", "ls", SHOP, "--json", *flags)).json_lines}

    assert await ids("--error", "no LUCK") == {dead.id}
    assert await ids("--task", "fail") == await ids("--task", "tests.cli.shop:f*") == {dead.id, "other"}
    assert await ids("--task", "fail", "--state", "queued") == set()
    assert await ids("--worker", worker) == {dead.id, "other"}
    assert await ids("--worker", "nobody") == set()
    assert await ids("--task", "shop:fail") == set()


async def test_ls_finds_by_the_time_in_a_state(project: Project, queue: Queue, redis: redis_async.Redis) -> None:
    """The question is mostly: what runs for too long, what died just now?"""
    await queue.enqueue(nap.options(id="old"), 1)
    await queue.enqueue(nap.options(id="new"), 1)
    key = queue.store.base + b"j:old"
    record = await redis.get(key)
    assert isinstance(record, bytes)
    first, second, rest = record.split(b"\n", 2)
    created, more = second.split(b" ", 1)
    await redis.set(key, b"\n".join((first, b"%d %s" % (int(created) - 7_200_000, more), rest)))

    async def ids(*flags: str) -> list[str]:
        return [line["id"] for line in (await project.run("jobs", "ls", SHOP, "--json", *flags)).json_lines]

    assert await ids("--older-than", "90m") == ["old"]
    assert await ids("--newer-than", "1h") == ["new"]
    assert await ids("--older-than", "3h") == await ids("--newer-than", "500ms", "--older-than", "1s") == []
    refused = await project.run("jobs", "ls", SHOP, "--older-than", "yesterday")
    assert (refused.code, "no length of time" in refused.err) == (2, True)


async def test_ls_looks_behind_the_first_page_for_what_is_wanted(project: Project, queue: Queue) -> None:
    """A filter that only looks at the first rows finds nothing, and says so as if it knew."""
    await queue.enqueue_many([nap.call(1) for _ in range(700)])
    wanted = await queue.enqueue(tell, "X")

    finished = await project.run("jobs", "ls", SHOP, "--task", "tell", "--limit", "1", "--json")

    assert [line["id"] for line in finished.json_lines] == [wanted.id]
    assert "There are more" not in finished.err


async def test_ls_tells_why_it_does_not_show_all(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows are there for the asking; what is too far behind is not."""
    await queue.enqueue_many([nap.call(1) for _ in range(6)])
    monkeypatch.setattr(job_search, "MOST_LOOKED_AT", 4)
    monkeypatch.setattr(job_search, "_PAGE_COUNT", 2)
    inspector = Inspector(queue.store)

    async def missing(limit: int, wanted: Wanted) -> tuple[bool, list[str]]:
        listing = await list_jobs(inspector, "default", ["queued", "dead"], limit, wanted)
        return listing.has_more, listing.not_searched

    found = [
        await missing(3, Wanted(task="nap")),
        await missing(5, Wanted(task="nap")),
        await missing(3, Wanted(task="no*")),
        await missing(5, Wanted()),
        await missing(6, Wanted()),
    ]
    searched = await list_jobs(inspector, "default", ["queued"], 3, Wanted(task="no*"))

    assert found == [(True, []), (False, ["queued"]), (False, ["queued"]), (True, []), (False, [])]
    [line] = whats_missing([searched])
    assert "--limit" not in line
    assert "of queued only the first 100,000 were looked at" in line


async def test_redrive_of_many_shows_a_bar_on_a_terminal_only(project: Project, queue: Queue) -> None:
    """In a log file it would be noise."""
    for hub_queue, count in (("default", 150), ("mail", 1)):
        await queue.enqueue_many([fail.options(queue=hub_queue, max_tries=1).call("luck") for _ in range(count)])
    await project.run(SHOP, "--burst")

    async with in_terminal(project, "jobs", "redrive", SHOP, "--all-dead") as terminal:
        await terminal.ended()

    assert "redriving default" in terminal.text
    assert "100%" in terminal.text
    assert "default: 150 redriven" in terminal.text
    assert "mail: 1 redriven" in terminal.text
    await project.run(SHOP, "--burst")
    quiet = await project.run("jobs", "redrive", SHOP, "--all-dead")
    assert (quiet.out, quiet.err) == ("default: 150 redriven\nmail: 1 redriven\n", "")


async def test_redrive_that_is_interrupted_can_be_repeated(project: Project, queue: Queue) -> None:
    """Ctrl-C in the middle: each job is redriven, or dead as before; the second run does the rest."""
    await queue.enqueue_many([fail.options(max_tries=1).call("luck") for _ in range(3000)])
    await project.run(SHOP, "--burst", "--log-level", "critical")
    inspector = Inspector(queue.store)

    async def some_are_redriven() -> bool:
        return (await inspector.counts()).queued > 0

    async with in_terminal(project, "jobs", "redrive", SHOP, "--all-dead") as terminal:
        await wait_until(some_are_redriven, description="some are redriven")
        terminal.interrupt()
        assert await terminal.ended() == 1
    counts = await inspector.counts()
    again = await project.run("jobs", "redrive", SHOP, "--all-dead", "--queue", "default")

    assert "interrupted" in terminal.text
    assert (counts.queued + counts.dead, counts.dead > 0) == (3000, True)
    assert again.out == f"default: {counts.dead} redriven\n"
    assert (await inspector.counts()).queued == 3000
