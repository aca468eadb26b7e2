"""``--reload``: another worker when a file changes, and no process left behind."""

from __future__ import annotations

import os

from tests.support.projects import TINY_APP, Project
from tests.support.waiting import wait_until


async def test_a_changed_file_starts_the_worker_again(project: Project) -> None:
    """The new process has the new code; the old one has drained."""
    project.write("main.py", TINY_APP)
    parent = await project.start("main:app", "--reload")
    assert "1 task" in parent.log

    project.write("main.py", TINY_APP.replace("tasks=[nothing]", "tasks=[]"))
    await parent.says("worker.started", times=2)
    parent.send()
    code = await parent.ended()

    assert code == 0
    assert "main.py changed: starting the worker again" in parent.log
    assert "0 tasks" in parent.log
    assert parent.count("worker.stopped") == 2


async def test_a_broken_file_is_waited_out(project: Project) -> None:
    """Half-written code is normal while developing."""
    project.write("main.py", "def broken(:\n")
    parent = await project.start("main:app", "--reload", is_up=False)
    await parent.says("waiting for a change")

    project.write("main.py", TINY_APP)
    await parent.says("worker.started")
    parent.send()

    assert await parent.ended() == 0
    assert "SyntaxError" in parent.log


async def test_a_child_whose_parent_was_killed_stops(project: Project) -> None:
    """It would claim jobs with old code for ever."""
    project.write("main.py", TINY_APP)
    parent = await project.start("main:app", "--reload")
    [child] = [pid for pid in _processes() if _parent_of(pid) == parent.process.pid]

    parent.process.kill()
    await parent.ended()

    await wait_until(lambda: not _is_alive(child), description="the child has ended")
    assert "worker.stopped" in parent.log


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _is_alive(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def _stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - not worth a Path
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
