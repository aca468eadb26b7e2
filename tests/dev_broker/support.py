"""Looking at a development Redis from outside, and ending one for certain."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
import redis

import arq_web.dev_broker
from arq_web._dev_server import DevState, locked, read_state
from arq_web.dev_broker import DevBroker

REPOSITORY = Path(arq_web.dev_broker.__file__).parents[1]
REDIS_ON_PATH = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS_ON_PATH is None, reason="needs redis-server on PATH")

JOIN = """
import sys
from arq_web._dev_server import read_state
from arq_web.dev_broker import dev_broker
print("ready", flush=True)
sys.stdin.readline()
broker = dev_broker()
state = read_state(broker.directory)
print(broker.url, state.supervisor_pid, state.server_pid, flush=True)
sys.stdin.readline()
"""


def start_joiner() -> subprocess.Popen[str]:
    """Start a process in a terminal session of its own; it says ready, joins at a line on stdin, ends at another."""
    return subprocess.Popen(
        [sys.executable, "-c", JOIN],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def end_holders(lock: Path) -> None:
    pids = [int(word) for word in lock.read_text().split()[1:]]
    with suppress(TimeoutError), locked(lock, timeout_s=0):
        return  # nobody holds it: those pids are history
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        with suppress(TimeoutError):
            wait_until(lambda: all(is_gone(pid) for pid in pids), f"{pids} are gone", timeout_s=5)
            return


def is_gone(pid: int) -> bool:
    """A zombie counts as gone: in a container nobody may reap the orphans."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def wait_until(is_true: Callable[[], bool], description: str, *, timeout_s: float = 10) -> None:
    """Wait in a plain test function; TimeoutError if it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(description)
        time.sleep(0.02)


def wait_until_gone(state: DevState) -> None:
    wait_until(lambda: is_gone(state.supervisor_pid) and is_gone(state.server_pid), "the server has ended")


def state_of(broker: DevBroker) -> DevState:
    state = read_state(broker.directory)
    assert state is not None
    return state


def client(broker: DevBroker) -> closing[redis.Redis]:
    return closing(redis.Redis.from_url(broker.url, decode_responses=True, socket_timeout=5))


def is_up(broker: DevBroker) -> bool:
    with client(broker) as connection:
        return bool(connection.ping())
