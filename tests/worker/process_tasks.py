"""Tasks that need a process of their own, or deserve one. Run as a module, it is a worker for them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from arq_web import INJECTED, Config, Hub, JobContext, Progress, Queue, task


@task(run_in="process", aliases=["pids_before_its_rename"])
def pids() -> tuple[int, int]:
    return os.getpid(), os.getppid()


@task(run_in="process", timeout=0.3, max_tries=1)
def spin(pid_file: str) -> None:
    _leave_pid(pid_file)
    while True:
        pass


@task(run_in="process", timeout=0.3, max_tries=1)
async def spin_the_loop() -> None:
    while True:
        pass


@task(run_in="process")
async def hang(pid_file: str) -> None:
    _leave_pid(pid_file)
    await asyncio.sleep(3600)


@task(run_in="process")
def hang_in_thread(pid_file: str) -> None:
    _leave_pid(pid_file)
    time.sleep(3600)


@task(run_in="process")
async def hang_the_loop(pid_file: str) -> None:
    _leave_pid(pid_file)
    time.sleep(3600)  # noqa: ASYNC251 - nothing of the child's own runs meanwhile


@task(run_in="process")
async def tidy_up(pid_file: str, trace_file: str) -> None:
    _leave_pid(pid_file)
    try:
        await asyncio.sleep(3600)
    finally:
        _note(trace_file, "cleaned up")


@task(run_in="process", max_crashes=2)
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(run_in="process", max_crashes=1)
def vanish() -> None:
    os._exit(0)


@task(run_in="process", max_crashes=1)
def die_before_its_own_child(pid_file: str) -> None:
    if os.fork() == 0:
        _leave_pid(pid_file)
        time.sleep(3600)
    while not Path(pid_file).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


@task(run_in="process", max_tries=1)
async def leave() -> None:
    sys.exit("enough")


@task(run_in="process", max_tries=1)
async def fail() -> None:
    raise ValueError("no such luck")


@task(run_in="process")
def chatter() -> str:
    print("x" * 100_000, flush=True)
    os.write(1, b"\x00\x00\x00\x05hello\n")
    return "said"


@task(run_in="process")
async def report(gate_file: str, progress: Progress = INJECTED) -> None:
    await progress(0.5, "half")
    while not Path(gate_file).exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)


@task(run_in="process")
async def wait_for_gate(pid_file: str, gate_file: str) -> int:
    _leave_pid(pid_file)
    while not Path(gate_file).exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    return os.getpid()


@task(run_in="process")
async def enqueue_another(queue: Queue = INJECTED, ctx: JobContext = INJECTED) -> tuple[str, str]:
    return (await queue.enqueue(pids)).id, ctx.worker


@task(max_crashes=2)
async def poison(journal: str) -> None:
    _note(journal, "poison")
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_crashes=2)
async def neighbour(journal: str, gate_file: str) -> int:
    _note(journal, "neighbour")
    while not Path(gate_file).exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    return os.getpid()


@task
async def in_the_worker() -> int:
    return os.getpid()


def _leave_pid(pid_file: str) -> None:
    draft = Path(f"{pid_file}.new")
    draft.write_text(str(os.getpid()))
    draft.rename(pid_file)


def _note(journal: str, word: str) -> None:
    with Path(journal).open("a") as file:
        file.write(f"{word} {os.getpid()}\n")


async def _work() -> None:
    config = Config(namespace=os.environ["TEST_NAMESPACE"], lease_s=2.0, command_deadline_s=1.0)
    hub = Hub(tasks=[poison, neighbour, hang_the_loop], config=config)
    await hub.worker().run()


if __name__ == "__main__":
    asyncio.run(_work())
