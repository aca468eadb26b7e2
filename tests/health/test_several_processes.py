"""``--processes``: one port for all of them; the supervisor answers."""

from __future__ import annotations

import os
import signal
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from arq_web import Queue
from arq_web.health.merged import merged_metrics
from tests.health.app import block, nap
from tests.health.support import HEALTH_APP, becomes, body, get, status
from tests.support.freezing import frozen
from tests.support.journal import read_journal
from tests.support.projects import Project, Running
from tests.support.waiting import wait_until

BREAKABLE_APP = """
import os
from tests.health.app import app
if os.path.exists("broken"):
    raise SystemExit("it is broken")
"""

SLOW_APP = """
import os
import time
from tests.health.app import app
while os.path.exists("hold"):
    time.sleep(0.01)
"""


async def start(project: Project, port: int, *args: str, target: str = HEALTH_APP, metrics: bool = False) -> Running:
    env = {"WITH_METRICS": "1"} if metrics else None
    running = await project.start(target, "--processes", "2", "--health-port", str(port), *args, env=env)
    await becomes(port, "/readyz", 200)
    return running


async def stop(running: Running) -> None:
    running.send()
    assert await running.ended(within_s=8) == 0


async def test_one_port_answers_for_all(project: Project, port: int) -> None:
    """Each of them is named, and the queues' numbers are not doubled."""
    running = await start(project, port, "-c", "3")

    live, ready, up = [await body(port, path) for path in ("/livez", "/readyz", "/startupz")]
    scale = await body(port, "/scale")

    for each in (live, ready, up):
        assert each["status"] == "ok"
        assert sorted(each["processes"]) == ["1", "2"]
        assert all(process["slots"] == 3 for process in each["processes"].values())
    assert (scale["workers"], scale["slots"]) == (2, 6)
    assert await status(port, "/scale/nobodys") == 404
    assert await status(port, "/nope") == 404
    assert running.count("health: http://") == 1
    await stop(running)
    assert await status(port, "/livez") == 0


@pytest.mark.timeout(120)
async def test_one_blocked_process_is_enough_to_be_not_alive(project: Project, queue: Queue, port: int) -> None:
    """Sidekiq's check fails here: one port, many processes."""
    running = await start(project, port, "--health-max-lag", "2")

    await queue.enqueue(block, 9.0)
    await becomes(port, "/livez", 503)
    wrong = await body(port, "/livez")
    await becomes(port, "/livez", 200)

    [reason] = wrong["reasons"]
    assert reason in {"process 1", "process 2"}
    assert "blocked" in wrong["reasons"][reason]
    await stop(running)


@pytest.mark.timeout(120)
async def test_a_stopped_process_is_not_alive_though_it_says_nothing(project: Project, port: int) -> None:
    """Frozen: it renews nothing either. The answer comes within the three seconds of a probe."""
    running = await start(project, port)
    async with frozen(running.processes(2)[0]):
        began_s = time.monotonic()
        wrong = await body(port, "/livez")
        took_s = time.monotonic() - began_s

    assert wrong["reasons"] == {"process 2": "it does not answer"}
    assert took_s < 3
    await becomes(port, "/livez", 200)
    await stop(running)


@pytest.mark.timeout(120)
async def test_a_process_that_dies_again_and_again_makes_it_not_ready_but_leaves_it_alive(
    project: Project, port: int
) -> None:
    """The other one's jobs must not pay for it. Nor, for a while, is it of use when none is left: see test_merged."""
    project.write("main.py", BREAKABLE_APP)
    running = await start(project, port, target="main:app")
    project.write("broken", "")

    os.kill(running.processes(2)[0], signal.SIGKILL)
    await running.says("process.looping")
    seen = await status(port, "/livez"), await status(port, "/readyz")
    os.kill(running.processes(1)[0], signal.SIGKILL)
    await running.says("process.looping", times=3)
    none_left = await status(port, "/livez"), await status(port, "/readyz")

    assert (seen, none_left) == ((200, 503), (200, 503))
    (project.folder / "broken").unlink()
    await becomes(port, "/readyz", 200, timeout_s=40)
    await stop(running)


@pytest.mark.timeout(120)
async def test_a_process_that_is_not_up_yet_makes_it_not_ready_but_leaves_it_alive(project: Project, port: int) -> None:
    """However slow its import: frozen even, here, so that it answers nothing."""
    project.write("main.py", SLOW_APP)
    running = await start(project, port, target="main:app")
    project.write("hold", "")
    os.kill(running.processes(2)[0], signal.SIGKILL)
    await wait_until(lambda: len(running.processes(2)) == 2, description="its successor is started")
    slow = running.processes(2)[1]

    async with frozen(slow):
        seen = await status(port, "/livez"), await status(port, "/readyz"), await status(port, "/startupz")
        (project.folder / "hold").unlink()

    assert seen == (200, 503, 503)
    await becomes(port, "/readyz", 200)
    await stop(running)


async def test_draining_processes_are_alive_and_not_ready(project: Project, queue: Queue, port: int) -> None:
    """As one is."""
    running = await start(project, port)
    await queue.enqueue(nap, 1500)
    await wait_until(lambda: read_journal(project.folder / "journal"), description="it runs")

    running.send()
    await running.says("worker.draining")
    seen = await status(port, "/livez"), await status(port, "/readyz")

    assert seen == (200, 503)
    assert await running.ended(within_s=6) == 0


async def test_a_port_in_use_ends_the_supervisor_before_it_starts_a_process(project: Project, port: int) -> None:
    """Once, and not from each of its processes."""
    await project.start(HEALTH_APP, "--health-port", str(port))

    second = await project.run(HEALTH_APP, "--processes", "2", "--health-port", str(port))

    assert second.code == 2
    assert second.err.count("cannot be opened") == 1
    assert "process.started" not in second.err


async def test_metrics_are_those_of_all_processes(project: Project, port: int) -> None:
    """A scrape of one port must not see a counter jump between processes."""
    running = await start(project, port, metrics=True)

    page = (await get(port, "/metrics")).body.decode()
    slots = [line for line in page.splitlines() if line.startswith("arq_worker_slots{")]

    assert len(slots) == 2
    assert 'process="1"' in slots[0]
    assert 'process="2"' in slots[1]
    assert page.count("# TYPE arq_worker_slots ") == 1
    await stop(running)


def test_pages_of_metrics_are_merged_by_family() -> None:
    """The text format wants all samples of a family together, under one head."""
    one = (
        '# HELP a_total What is a.\n# TYPE a_total counter\na_total{q="x y"} 1.0\na_total 2.0\n# TYPE b gauge\nb{} 3\n'
    )
    two = '# HELP a_total What is a.\n# TYPE a_total counter\na_total{q="{"} 4.0 1700000000\n'

    assert merged_metrics({1: one, 2: two}) == (
        "# HELP a_total What is a.\n# TYPE a_total counter\n"
        'a_total{process="1",q="x y"} 1.0\na_total{process="1"} 2.0\na_total{process="2",q="{"} 4.0 1700000000\n'
        '# TYPE b gauge\nb{process="1"} 3\n'
    )


def test_labels_of_the_apps_own_cannot_spoil_the_page_of_all_processes() -> None:
    """One named as ours, one that only looks so, values with line ends in them that are none to Prometheus."""
    registry = CollectorRegistry()
    ours = Counter("own", "Of the app.", ["process", "text"], registry=registry)
    spared = Counter("spared", "Of the app.", ["exported_process", "process"], registry=registry)
    texts = ["a\u2028b", "c\x85d", "e\x0bf", "g\nh", 'i"j\\', "process=", "}"]
    for text in texts:
        ours.labels("theirs", text).inc()
    spared.labels("x", "y").inc()
    page = generate_latest(registry).decode()

    families = {family.name: family for family in text_string_to_metric_families(merged_metrics({1: page, 2: page}))}

    found = [sample.labels for sample in families["own"].samples if sample.name == "own_total"]
    assert found == [{"process": n, "exported_process": "theirs", "text": text} for n in "12" for text in texts]
    labels = {"process": "2", "exported_process": "x", "exported_exported_process": "y"}
    assert labels in [sample.labels for sample in families["spared"].samples]
