"""``app-worker top``: in a real terminal, beside real workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from arq_web import Config, Hub, JobState, Queue
from arq_web.cli.text_width import cut, width
from arq_web.cli.top_facts import MOST_RUNNING, QueueFacts, Rates, Snapshot, Watch, WorkerFacts
from arq_web.cli.top_view import SORTS, View, frame, frame_object
from arq_web.job import JobInfo, ProgressInfo
from arq_web.store.inspection import Inspector
from arq_web.store.measuring import Measured
from arq_web.store.messages import WorkerSeen
from arq_web.store.store import WorkerKind
from tests.cli.drawing import draw
from tests.cli.shop import fail, nap
from tests.cli.terminal import LEFT, InTerminal, in_terminal
from tests.support.projects import SHOP, Project, project_in
from tests.support.redis_server import running_redis
from tests.support.waiting import wait_until

DRAWING = "tests.cli.drawing:hub"
SIZES = [(20, 4), (40, 10), (80, 24), (200, 60)]


async def test_top_shows_queues_workers_and_running_jobs_as_they_change(project: Project, queue: Queue) -> None:
    """What a person asks first: does it run, how far is it, is something stuck or dead?"""
    jobs = [await queue.enqueue(draw, fraction, f"page {fraction}") for fraction in (0.25, 0.75)]
    await project.start(DRAWING, "--concurrency", "2")
    worker = await _worker_of(queue)

    async with in_terminal(project, "top", DRAWING, "--interval", "0.2") as terminal:
        await terminal.shows("75% page 0.75")
        assert _row(terminal, "default ")[1:6] == ["0", "0", "2", "0", "0"]
        assert _row(terminal, worker)[1:3] == ["external", "2"]
        assert f"██░░░░░░░░ 25% page 0.25  draw  {jobs[0].id[:8]}…" in terminal.frame

        await queue.enqueue_many([draw.options(delay=600).call(0.1, "")])
        await queue.enqueue(draw, 0.5, "waits")
        await terminal.shows("default      1          1        2")
        terminal.press("q")

        assert await terminal.ended() == 0
    await _cancel_all(queue)


async def test_keys_sort_pause_and_quit(project: Project, queue: Queue) -> None:
    """Paused, the picture stands still while the queue goes on."""
    await queue.enqueue(nap, 1)

    async with in_terminal(project, "top", SHOP, "--interval", "0.1") as terminal:
        await terminal.shows("default      1")
        terminal.press("p")
        await terminal.shows("PAUSED")
        await queue.enqueue(nap, 1)
        until_s = time.monotonic() + 0.8  # eight looks, were it not paused
        while time.monotonic() < until_s:
            painted = terminal.frame_count
            terminal.press("s")
            await wait_until(lambda seen=painted: terminal.frame_count > seen, description="it is sorted")
            assert "default      1" in terminal.frame
        terminal.press("\udcc3")  # half of a letter
        terminal.press("\x1b[A \x1bOSp")  # an arrow and F4 among them, all in one read
        await terminal.shows("default      2")
        assert "PAUSED" not in terminal.frame
        terminal.press("q")

        assert await terminal.ended() == 0


@pytest.mark.parametrize("how", ["q", "ctrl-c", "ctrl-d", "ctrl-\\", "SIGTERM", "SIGHUP"])
async def test_the_terminal_is_as_before_however_it_ends(project: Project, how: str) -> None:
    """A shell without echo, or on the other screen, is a bad farewell."""
    async with in_terminal(project, "top", SHOP) as terminal:
        before = terminal.mode
        await terminal.shows("QUEUE")
        during = terminal.mode
        match how:
            case "q":
                terminal.press("q")
            case "ctrl-c":
                terminal.interrupt()
            case "SIGTERM" | "SIGHUP":
                terminal.process.send_signal(signal.Signals[how])
            case "ctrl-\\":
                terminal.press("\x1c")
            case _:
                terminal.press("\x04")
        code = await terminal.ended()

        assert (code, during != before, terminal.mode) == (0, True, before)
        assert terminal.text.rstrip().endswith(LEFT)
        assert "\x1b[?7l" in terminal.text


async def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(project: Project) -> None:
    """The shell between the two must work."""
    async with in_terminal(project, "top", SHOP) as terminal:
        before = terminal.mode
        await terminal.shows("QUEUE")
        terminal.press("\x1a")
        await wait_until(lambda: _is_stopped(terminal.process.pid), description="it is stopped")
        assert terminal.mode == before
        painted = terminal.frame_count

        terminal.process.send_signal(signal.SIGCONT)

        await wait_until(lambda: terminal.frame_count > painted, description="it paints again")
        assert terminal.mode != before
        terminal.press("q")
        assert await terminal.ended() == 0


async def test_a_frame_has_the_size_of_the_window(project: Project, queue: Queue) -> None:
    """Also after the window's corner was dragged, and at once: not at the next look."""
    await queue.enqueue(nap, 1)
    async with in_terminal(project, "top", SHOP, "--interval", "3000", columns=120, rows=30) as terminal:
        await terminal.shows("default      1")
        assert "REJECTED" in terminal.frame

        terminal.resize(columns=30, rows=6)
        await wait_until(lambda: _size(terminal.frame) <= (30, 6), description="it fits")
        assert "…" in terminal.frame

        terminal.resize(columns=120, rows=30)
        await terminal.shows("REJECTED")
        terminal.press("q")
        assert await terminal.ended() == 0


async def test_a_terminal_that_knows_ascii_only_shows_what_it_can(project: Project, queue: Queue) -> None:
    """LANG=C over ssh: what is cut, and what somebody has written, must not end it."""
    job = await queue.enqueue(draw, 0.25, "Maß 日本")
    await project.start(DRAWING)
    await wait_until(lambda: _runs(queue, job.id), description="it runs")
    env = {"PYTHONIOENCODING": "ascii"}

    async with in_terminal(project, "top", DRAWING, "--interval", "0.2", env=env) as terminal:
        await terminal.shows("25% Ma? ??")
        terminal.resize(columns=30, rows=20)
        await terminal.shows("~")
        assert terminal.frame.isascii()
        terminal.press("q")
        assert await terminal.ended() == 0
    once = await project.run("top", DRAWING, "--once", env=env)

    assert (once.code, "25% Ma? ??" in once.out) == (0, True)
    await _cancel_all(queue)


async def test_without_a_terminal_it_prints_one_frame(project: Project, queue: Queue) -> None:
    """For a log, a pipe, a bug report: no escape sequences, nothing that waits."""
    await queue.enqueue(nap.options(queue="mail"), 1)

    piped = await project.run("top", SHOP)
    plain = await project.run("top", SHOP, "--once", env={"PYTHONIOENCODING": "ascii"})
    one = await project.run("top", SHOP, "--queue", "mail")

    assert (piped.code, piped.err, "\x1b" in piped.out) == (0, "", False)
    assert [line.split()[:3] for line in piped.out.splitlines() if line.startswith(("default", "mail"))] == [
        ["default", "0", "0"],
        ["mail", "1", "0"],
    ]
    assert plain.code == 0
    assert "default" not in one.out


async def test_json_has_the_same_facts(project: Project, queue: Queue) -> None:
    """For scripts; a dead job and its counted failures too."""
    await queue.enqueue(fail, "luck")
    await project.run(SHOP, "--burst")

    facts = (await project.run("top", SHOP, "--json", "--queue", "default")).json

    [one] = facts["queues"]
    assert (one["name"], one["ready"], one["dead"]) == ("default", 0, 1)
    assert one["in_per_s"] > 0
    assert one["out_per_s"] > 0
    assert one["failed_per_s"] > one["out_per_s"]
    assert (facts["workers"], facts["running"]) == ([], [])


async def test_redis_away_is_a_line_and_no_end(tmp_path: Path) -> None:
    """The old picture stays, and it says that it is old; keys work meanwhile."""
    with running_redis() as first:
        port = first.port
        async with project_in(tmp_path, f"redis://:secret@127.0.0.1:{port}/0", "t") as project:
            project.env["REDIS_URL"] = first.url
            async with in_terminal(project, "top", SHOP, "--interval", "0.2") as terminal:
                await terminal.shows("mail")
                os.kill(first.pid, signal.SIGKILL)
                await terminal.shows("Redis does not answer since")
                assert "mail" in terminal.frame
                with running_redis(port=port):
                    await wait_until(lambda: "not answer" not in terminal.frame, description="it is back")
                    terminal.press("q")
                    assert await terminal.ended() == 0


async def test_a_redis_that_hangs_keeps_nobody_from_quitting(tmp_path: Path) -> None:
    """The look that is under way waits for seconds; the keyboard does not."""
    with running_redis() as server:
        async with project_in(tmp_path, server.url, "t") as project:
            async with in_terminal(project, "top", SHOP, "--interval", "0.1") as terminal:
                await terminal.shows("mail")
                os.kill(server.pid, signal.SIGSTOP)
                painted = terminal.frame_count
                terminal.press("s")
                await wait_until(lambda: terminal.frame_count > painted, description="it answers the key")
                terminal.press("q")
                assert await terminal.ended() == 0
            os.kill(server.pid, signal.SIGCONT)


async def test_once_with_a_redis_that_is_away_is_an_error(tmp_path: Path) -> None:
    """In a script nobody sees a line that says so."""
    with running_redis() as first:
        url = first.url
    async with project_in(tmp_path, url, "t") as project:
        finished = await project.run("top", SHOP, "--once")

    assert (finished.code, finished.out) == (1, "")
    assert "Redis" in finished.err


async def test_a_frame_costs_the_same_however_much_is_in_the_queue() -> None:
    """A look that grows with the queue is dearest when it is needed most."""
    with running_redis() as server:
        hub = Hub(url=server.url, tasks=[draw], config=Config(namespace="t"))
        queue, watch = hub.queue(), Watch([hub.queue().store])

        async def commands_of_a_look() -> int:
            connection = queue.store.connections.get()
            before = _processed(await connection.execute("INFO", "stats"))
            facts = await watch.look()
            assert len(facts.running) <= MOST_RUNNING
            return _processed(await connection.execute("INFO", "stats")) - before

        await queue.enqueue_many([draw.call(0.1, ""), draw.call(0.1, "")])
        await queue.store.claim("w:1:a", WorkerKind.EXTERNAL, "1.a", 1, 60_000)
        await watch.look()  # the script is known from here
        few = await commands_of_a_look()
        await queue.enqueue_many([draw.call(0.1, "") for _ in range(5000)])
        await queue.enqueue_many([draw.options(delay=600).call(0.1, "") for _ in range(1000)])
        await queue.store.claim("w:1:a", WorkerKind.EXTERNAL, "2.b", 1000, 60_000)
        many = await commands_of_a_look()
        await hub.aclose()

    assert many <= few + 1  # whether more run than are shown
    assert few < 25


def test_rates_are_over_the_last_ten_seconds() -> None:
    """Counters are per minute; a minute that begins meanwhile begins anew."""
    rates = Rates()
    at_ms = 60_000 * 1000 - 4_000

    assert rates.per_s(at_ms, {998: {}, 999: {"enqueued": 60}}) == {"enqueued": 1.0}
    assert rates.per_s(at_ms + 2_000, {998: {}, 999: {"enqueued": 80}}) == {"enqueued": 10.0}
    assert rates.per_s(at_ms + 8_000, {999: {"enqueued": 90}, 1000: {"enqueued": 10, "bury": 8}}) == {
        "enqueued": 5.0,
        "bury": 1.0,
    }
    later = rates.per_s(at_ms + 18_000, {999: {"enqueued": 90}, 1000: {"enqueued": 10, "bury": 8}})
    assert later == {"enqueued": 0.0, "bury": 0.0}


def test_rates_after_a_long_pause_begin_anew() -> None:
    """What the minutes between have counted is not known."""
    rates = Rates()
    rates.per_s(0, {-1: {}, 0: {"enqueued": 1000}})

    assert rates.per_s(120_000, {1: {"enqueued": 60}, 2: {}}) == {"enqueued": 1.0}


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("trouble", ["", "Redis does not answer since 3.0s, and this sentence is long " * 3])
def test_no_frame_is_larger_than_the_window(columns: int, rows: int, trouble: str) -> None:
    """A line too many scrolls the whole picture."""
    lines = frame(_crowd(), View("app-worker top"), columns=columns, rows=rows, trouble=trouble)

    assert len(lines) <= rows
    assert max(width(line.text) for line in lines) <= columns
    assert lines[-1].text.startswith("q quit")


def test_what_is_cut_has_a_sign_that_the_terminal_knows() -> None:
    """Also where the message beside a bar is cut."""
    crowd = _crowd()
    long = replace(crowd.running[0], progress=ProgressInfo(0.5, "page " * 20))
    texts = [
        "\n".join(
            line.text
            for line in frame(replace(crowd, running=[long]), View("x", is_plain=is_plain), columns=60, rows=None)
        )
        for is_plain in (True, False)
    ]

    assert texts[0].isascii()
    assert "~" in texts[0]
    assert "…" in texts[1]


def test_wide_letters_take_two_columns_and_accents_none() -> None:
    """What comes behind them stands below its title, and no line is wider than the window."""
    crowd = _crowd()
    running = [
        replace(crowd.running[0], progress=ProgressInfo(0.5, message))
        for message in ("x", "日本語日本語", "e\N{COMBINING ACUTE ACCENT}te\N{COMBINING ACUTE ACCENT}", "🎉 done")
    ]
    rows = [
        line.text
        for line in frame(replace(crowd, running=running), View("x"), columns=300, rows=None)
        if "task-0" in line.text
    ]
    narrow = frame(replace(crowd, running=running), View("x"), columns=41, rows=None)

    assert len({width(row.partition("task-0")[0]) for row in rows}) == 1
    assert len(rows) == 4
    assert (width("日本"), width("e\N{COMBINING ACUTE ACCENT}"), width("🎉")) == (4, 1, 2)
    assert max(width(line.text) for line in narrow) <= 41
    assert [cut("日本語", n, is_plain=False) for n in (0, 1, 2, 3, 5, 6)] == ["…", "…", "…", "日…", "日本…", "日本語"]


def test_what_does_not_fit_is_counted() -> None:
    """A list that ends in silence looks complete."""
    text = "\n".join(line.text for line in frame(_crowd(), View("top"), columns=200, rows=30))

    assert text.count(" more") == 3
    shown = text.partition("AGE")[2].count("page ")
    assert f"and {1000 - shown} more" in text


@pytest.mark.parametrize("sort", SORTS)
def test_running_jobs_are_sorted_as_asked(sort: str) -> None:
    """The oldest first, unless somebody wants it otherwise."""
    lines = frame(_crowd(), View("top", sort=sort), columns=200, rows=None)
    rows = [line.text for line in lines if "page" in line.text]
    column = {"age": 0, "task": 5, "progress": 2, "worker": -1}[sort]
    values = [row.split()[column] for row in rows]

    assert len(values) == 50
    order = sorted(values, key=_seconds if sort in ("age", "progress") else str, reverse=sort in ("age", "progress"))
    assert values == order


def test_what_jobs_say_cannot_paint() -> None:
    """A progress message with an escape sequence in it is shown, not obeyed."""
    facts = _crowd()
    evil = replace(facts.running[0], progress=ProgressInfo(0.5, "\x1b[2Jboo\n"), task="t:\x1b[H")

    text = "\n".join(line.text for line in frame(replace(facts, running=[evil]), View("x"), columns=300, rows=None))

    assert "\x1b" not in text
    assert "\\x1b[2Jboo" in text


def test_a_terminal_without_blocks_gets_plain_bars() -> None:
    """LANG=C."""
    text = "\n".join(line.text for line in frame(_crowd(), View("x", is_plain=True), columns=300, rows=None))

    assert text.isascii()
    assert "#####....." in text


def test_json_and_text_have_the_same_parts() -> None:
    """One is made from the other's facts."""
    shown = frame_object(_crowd())

    assert [len(shown[part]) for part in ("queues", "workers", "running")] == [20, 30, 50]
    assert shown["running"][3]["progress"]["fraction"] == 0.03


def _crowd() -> Snapshot:
    now_ms = 1_700_000_000_000
    measured = Measured(now_ms, 5, 4, 50, 2, 1, 61_000)
    queues = [QueueFacts(f"queue-{n}", measured, 1.5, 0.5, 0.0) for n in range(20)]
    workers = [WorkerFacts(f"host:{n}:aa", "external", ("queue-1",), 2, 10, 400) for n in range(30)]
    running = [
        JobInfo(
            id=f"{n:032x}",
            queue="queue-1",
            task=f"shop:task-{n % 7}",
            state=JobState.RUNNING,
            attempt=1,
            failures=0,
            crashes=0,
            max_crashes=3,
            priority=0,
            enqueued_at_ms=now_ms - 100_000,
            since_ms=now_ms - n * 1000,
            started_at_ms=now_ms - n * 1000,
            due_at_ms=None,
            expires_at_ms=None,
            keep_result_ms=0,
            unique=None,
            cancel_requested=False,
            worker=f"host:{n % 5}:aa",
            error=None,
            progress=ProgressInfo(n / 100, "page"),
            has_result=False,
        )
        for n in range(50)
    ]
    return Snapshot(now_ms, queues, workers, running)


def _seconds(text: str) -> float:
    number = text.rstrip("ms%")
    return float(number) / (1000 if text.endswith("ms") else 1)


def _row(terminal: InTerminal, begin: str) -> list[str]:
    [line] = [line for line in terminal.frame.splitlines() if line.startswith(begin)]
    return line.split()


def _size(text: str) -> tuple[int, int]:
    lines = text.splitlines()
    return max(map(len, lines)), len(lines)


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _processed(info: object) -> int:
    assert isinstance(info, bytes)
    [line] = [line for line in info.splitlines() if line.startswith(b"total_commands_processed:")]
    return int(line.partition(b":")[2])


async def _runs(queue: Queue, job_id: str) -> bool:
    info = await queue.job(job_id).info()
    return info.state is JobState.RUNNING and info.progress is not None


async def _worker_of(queue: Queue) -> str:
    found: list[WorkerSeen] = []

    async def has_claimed() -> bool:
        found[:] = await queue.store.workers()
        return bool(found)

    await wait_until(has_claimed, description="its first claim")
    [worker] = found
    return worker.id


async def _cancel_all(queue: Queue) -> None:
    for state in (JobState.RUNNING, JobState.QUEUED, JobState.SCHEDULED):
        for info in (await Inspector(queue.store).jobs(state)).jobs:
            await queue.job(info.id).cancel()
