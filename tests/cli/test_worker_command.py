"""``app-worker main:app``: signals, burst, queues, lifespan, and an end in time."""

from __future__ import annotations

import asyncio
import json
import signal
import time

from arq_web import JobState, Queue
from arq_web.events import all_events
from tests.cli.shop import aside, fail, hold, nap, tell
from tests.support.journal import counts, read_journal
from tests.support.projects import SHOP, TINY_APP, Project
from tests.support.waiting import wait_until

HUB = "tests.cli.shop:hub"


async def test_sigterm_lets_running_jobs_end_and_leaves_the_others_queued(project: Project, queue: Queue) -> None:
    """A deployment must cost no job: neither one that runs nor one that waits."""
    jobs = await queue.enqueue_many([nap.call(300) for _ in range(20)])
    worker = await project.start(SHOP, "--concurrency", "4", "--drain-timeout", "5")
    await wait_until(lambda: _started(project) >= 5, description="some run")

    worker.send()
    code = await worker.ended(within_s=6)
    infos = [await job.info() for job in jobs]

    assert code == 0
    assert {info.state for info in infos} == {JobState.SUCCEEDED, JobState.QUEUED}
    assert {(info.failures, info.crashes) for info in infos} == {(0, 0)}


async def test_a_second_sigterm_hands_back_at_once_what_still_runs(project: Project, queue: Queue) -> None:
    """Whoever sends it twice does not want to wait; the job is not to pay for it."""
    worker = await project.start(SHOP, "--drain-timeout", "60")
    job = await queue.enqueue(nap, 60_000)
    await wait_until(lambda: _started(project) == 1, description="it runs")

    worker.send()
    await worker.says("worker.draining")
    worker.send()
    code = await worker.ended(within_s=5)
    info = await job.info()

    assert code == 0
    assert (info.state, info.failures, info.crashes) == (JobState.QUEUED, 0, 0)


async def test_ctrl_c_is_a_sigterm(project: Project) -> None:
    """No traceback of a KeyboardInterrupt, and a clean exit status."""
    worker = await project.start(SHOP)

    worker.send(signal.SIGINT)
    code = await worker.ended(within_s=5)

    assert code == 0
    assert "Traceback" not in worker.log


async def test_a_thread_that_cannot_be_stopped_does_not_keep_the_process(project: Project, queue: Queue) -> None:
    """The orchestrator would kill it anyway; its lease lapses after the end, so nothing runs twice."""
    worker = await project.start(SHOP, "--drain-timeout", "0.5")
    job = await queue.enqueue(hold, 60.0)
    await wait_until(lambda: _started(project) == 1, description="it runs")

    worker.send()
    sent_s = time.monotonic()
    code = await worker.ended()
    info = await job.info()

    assert code == 0
    assert time.monotonic() - sent_s < 0.5 + 3.5
    assert info.state is JobState.RUNNING
    assert "leaving without the end of" in worker.log


async def test_burst_ends_when_nothing_is_left(project: Project, queue: Queue) -> None:
    """Retries included: they are part of the work at hand."""
    jobs = [await queue.enqueue(nap, 10), await queue.enqueue(fail, "luck")]

    finished = await project.run(SHOP, "--burst")

    assert finished.code == 0
    assert [await job.status() for job in jobs] == [JobState.SUCCEEDED, JobState.DEAD]


async def test_queues_are_served_in_the_order_of_the_flags(project: Project, queue: Queue) -> None:
    """Strict order: the second queue has its turn when the first is empty."""
    default = [await queue.enqueue(nap, 1) for _ in range(3)]
    mail = [await queue.enqueue(nap.options(queue="mail"), 1) for _ in range(3)]

    finished = await project.run(SHOP, "--burst", "-c", "1", "--queue", "mail", "--queue", "default")

    started = [entry.job_id for entry in read_journal(project.folder / "journal") if entry.what == "start"]
    assert finished.code == 0
    assert started == [job.id for job in (*mail, *default)]


async def test_a_worker_of_one_queue_leaves_the_others_alone(project: Project, queue: Queue) -> None:
    """``--queue`` is a restriction."""
    other = await queue.enqueue(nap, 1)
    own = await queue.enqueue(aside)

    await project.run(SHOP, "--burst", "--queue", "mail")

    assert await own.status() is JobState.SUCCEEDED
    assert await other.status() is JobState.QUEUED


async def test_the_apps_lifespan_runs_around_all_jobs(project: Project, queue: Queue) -> None:
    """A job finds what a request finds, up to its last line."""
    worker = await project.start(SHOP)
    await queue.enqueue(nap, 500)
    await wait_until(lambda: _started(project) == 1, description="it runs")

    worker.send()
    await worker.ended()

    assert _life(project) == ["startup", "start", "end", "shutdown"]


async def test_without_lifespan_the_app_is_not_started(project: Project, queue: Queue) -> None:
    """For apps whose start-up is for the web alone."""
    await queue.enqueue(nap, 1)

    finished = await project.run(SHOP, "--burst", "--no-lifespan")

    assert finished.code == 0
    assert _life(project) == ["start", "end"]


async def test_a_hub_without_an_app_is_a_target_too(project: Project, queue: Queue) -> None:
    """Not everybody has a web app."""
    job = await queue.enqueue(nap, 1)

    finished = await project.run(HUB, "--burst")

    assert finished.code == 0
    assert await job.status() is JobState.SUCCEEDED
    assert _life(project) == ["start", "end"]


async def test_a_ready_made_worker_is_a_target_and_keeps_its_own_settings(project: Project, queue: Queue) -> None:
    """A flag that would do nothing is refused, or somebody believes in it."""
    job = await queue.enqueue(nap, 1)

    refused = await project.run("tests.cli.shop:worker", "--concurrency", "3", "--burst")
    worker = await project.start("tests.cli.shop:worker")
    await wait_until(lambda: _started(project) == 1, description="it ran")
    worker.send()

    assert await worker.ended() == 0
    assert await job.status() is JobState.SUCCEEDED
    assert refused.code == 2
    assert "--concurrency and --burst must be set where it is made" in refused.err


async def test_an_app_that_knows_no_lifespan_is_fine(project: Project, queue: Queue) -> None:
    """As for uvicorn: an exception before the first answer means that the protocol is not supported."""
    project.write("main.py", TINY_APP)

    finished = await project.run("main:app", "--burst")

    assert finished.code == 0
    assert "Traceback" not in finished.err


async def test_a_failed_startup_ends_with_3_and_the_apps_message(project: Project) -> None:
    """No job may run in an app that is not up."""
    finished = await project.run(SHOP, env={"SHOP_FAILS_AT": "startup"})

    assert finished.code == 3
    assert "The app's start-up failed: no database" in finished.err
    assert "worker.started" not in finished.err


async def test_a_failed_shutdown_is_shown_and_ends_with_1(project: Project) -> None:
    """The jobs are safe, but something of the app is not."""
    finished = await project.run(SHOP, "--burst", env={"SHOP_FAILS_AT": "shutdown"})

    assert finished.code == 1
    assert "the pool is stuck" in finished.err


async def test_a_shutdown_that_hangs_does_not_keep_the_process(project: Project) -> None:
    """Bounded by what is left of the drain time, or three seconds."""
    worker = await project.start(SHOP, "--drain-timeout", "0", env={"SHOP_FAILS_AT": "hang"})

    worker.send()
    code = await worker.ended(within_s=6)

    assert code == 1
    assert "the app's shutdown did not end within 3 s" in worker.log


async def test_the_worker_says_what_it_is(project: Project) -> None:
    """One look at the log answers the first questions of whoever is called at night."""
    worker = await project.start(SHOP, "--queue", "mail", "-c", "3")

    for text in (f"for {SHOP}", "Redis redis://127.0.0.1", "queue mail;", "3 jobs at a time", "5 tasks"):
        assert text in worker.log
    assert "schedule new-year (cron 0 8 1 1 * Europe/Berlin): next " in worker.log


async def test_json_lines_are_events_with_declared_fields_or_messages(project: Project, queue: Queue) -> None:
    """A log collector must be able to rely on docs/reference/events.md."""
    await queue.enqueue(nap, 1)
    await queue.enqueue(fail, "luck")

    finished = await project.run(SHOP, "--burst", "--log-format", "json", "--log-level", "debug")
    lines = [json.loads(line) for line in finished.err.splitlines()]

    fields = {event.name: set(event.fields) for event in all_events()}
    frame = {"ts", "level", "logger"}
    assert {"worker.started", "job.claimed", "job.succeeded", "job.dead"} <= {line.get("event") for line in lines}
    for line in lines:
        if "event" in line:
            assert line.keys() - frame - {"event"} <= fields[line["event"]]
        else:
            within = {"job", "task", "queue", "attempt"} if line["logger"] == "shop" else set()
            assert line.keys() - {"exc_info"} == frame | {"message"} | within


async def test_the_apps_own_lines_are_shown_in_the_same_frame(project: Project, queue: Queue) -> None:
    """Whoever calls ``log.info`` in a task wants to see it, without setting up logging."""
    await queue.enqueue(fail, "luck")

    finished = await project.run(SHOP, "--burst")

    assert " INFO  shop             about to fail" in finished.err
    assert " ERROR job.dead         fail " in finished.err
    assert "\n               at all" in finished.err


async def test_an_app_that_sets_up_logging_keeps_its_own(project: Project, queue: Queue) -> None:
    """Its root handlers stay alone, and dictConfig does not silence the worker."""
    project.write(
        "main.py",
        TINY_APP
        + """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"own": {"format": "OWN %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"level": "INFO", "handlers": ["own"]},
})
logging.info("here")
""",
    )

    finished = await project.run("main:app", "--burst")

    assert "OWN here" in finished.err
    assert finished.err.count("worker.started") == 1
    assert "for main:app;" in finished.err
    assert "OWN worker.started" not in finished.err


async def test_the_role_is_set_before_the_app_is_imported(project: Project, queue: Queue) -> None:
    """So that module-level code can leave out what is for the web alone."""
    job = await queue.enqueue(tell, "X")

    await project.run(SHOP, "--burst", env={"X": "1"})

    assert await job.result(timeout=1) == "worker 1"


async def test_either_event_loop_works(project: Project, queue: Queue) -> None:
    """uvloop is taken where it is installed, so both are somebody's default."""
    for loop in ("asyncio", "uvloop"):
        job = await queue.enqueue(nap, 1)

        finished = await project.run(SHOP, "--burst", "--loop", loop)

        assert finished.code == 0
        assert await job.status() is JobState.SUCCEEDED


async def test_a_signal_during_the_start_ends_it(project: Project) -> None:
    """A start-up that waits for a database must not need kill -9."""
    app = TINY_APP.replace(
        'raise RuntimeError("no lifespan here")',
        'await receive(); print("starting", flush=True)\n        import asyncio; await asyncio.sleep(60)',
    )
    project.write("main.py", app)
    worker = await project.start("main:app", is_up=False)
    await worker.says("starting")

    worker.send()
    code = await asyncio.wait_for(worker.process.wait(), 5)

    assert code == 0


def _started(project: Project) -> int:
    return sum(counts(read_journal(project.folder / "journal"), "start").values())


def _life(project: Project) -> list[str]:
    return [entry.what for entry in read_journal(project.folder / "journal")]
