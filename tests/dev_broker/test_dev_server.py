"""The development Redis while it runs: one for all who ask, nothing left behind, gone when nobody uses it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from arq_web._dev_server import DevState, is_watched, locked, read_state
from arq_web.dev_broker import dev_broker
from arq_web.errors import DevBrokerFailed
from tests.dev_broker.support import (
    REDIS_ON_PATH,
    client,
    is_gone,
    is_up,
    needs_redis,
    start_joiner,
    state_of,
    wait_until,
    wait_until_gone,
)

# -- one server, shared --------------------------------------------------------------------


def test_processes_that_start_at_the_same_moment_share_one_server(project: Path) -> None:
    """``uvicorn --workers`` and ``app-worker`` come up together in any order."""
    joiners = [start_joiner() for _ in range(8)]
    for joiner in joiners:
        assert joiner.stdout is not None
        joiner.stdout.readline()
    for joiner in joiners:
        assert joiner.stdin is not None
        joiner.stdin.write("go\n")
        joiner.stdin.flush()

    found = {joiner.stdout.readline() for joiner in joiners if joiner.stdout is not None}
    for joiner in joiners:
        joiner.communicate()

    assert len(found) == 1
    assert found.pop().startswith("unix://")
    assert [joiner.returncode for joiner in joiners] == [0] * 8


@needs_redis
def test_a_start_that_is_interrupted_ends_in_one_server(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the first half-second: who comes next must neither start a second one nor end the first."""
    (project / "bin").mkdir()
    slow = project / "bin" / "redis-server"
    slow.write_text(f'#!/bin/sh\nsleep 0.5\nexec {REDIS_ON_PATH} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{project / 'bin'}:{os.environ['PATH']}")
    lock = project / ".arq-web" / "server.lock"
    joiner = start_joiner()
    assert joiner.stdin is not None
    joiner.stdin.write("go\n")
    joiner.stdin.flush()
    wait_until(lambda: lock.exists() and len(lock.read_text().split()) == 3, "its Redis is starting")
    joiner.kill()
    joiner.communicate()
    starting = lock.read_text()

    state = state_of(dev_broker())

    assert starting.split()[1:] == [str(state.supervisor_pid), str(state.server_pid)]


def test_ctrl_c_in_the_terminal_does_not_end_the_server(project: Path) -> None:
    """The terminal signals the whole group; the worker in the other terminal still needs the server."""
    joiner = start_joiner()
    assert joiner.stdin is not None
    assert joiner.stdout is not None
    joiner.stdin.write("go\n")
    joiner.stdin.flush()
    assert joiner.stdout.readline() == "ready\n"
    assert joiner.stdout.readline().startswith("unix://")
    before = state_of(dev_broker())

    os.killpg(joiner.pid, signal.SIGINT)
    joiner.communicate()

    assert joiner.returncode != 0
    assert os.getsid(before.supervisor_pid) != joiner.pid
    assert state_of(dev_broker()) == before


@needs_redis
def test_data_survives_the_end_of_the_server(project: Path) -> None:
    """Jobs of yesterday are there when the developer comes back."""
    first = dev_broker()
    before = state_of(first)
    with client(first) as connection:
        connection.set("job", "queued")
    os.kill(before.supervisor_pid, signal.SIGTERM)
    wait_until_gone(before)
    assert read_state(first.directory) is None
    assert not Path(before.socket_path).exists()

    second = dev_broker()

    with client(second) as connection:
        assert connection.get("job") == "queued"
    assert second.url == first.url
    assert state_of(second).server_pid != before.server_pid


# -- what was left behind ------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", '{"url": "redis://localhost"}', "null"])
def test_a_state_file_that_is_not_ours_is_replaced(project: Path, content: str) -> None:
    """A full disk, an older version: the file must not stand in the way for ever."""
    (project / ".arq-web").mkdir()
    (project / ".arq-web" / "dev.json").write_text(content)

    assert is_up(dev_broker())


def test_a_state_file_of_dead_processes_is_replaced(project: Path) -> None:
    """After a power cut file and socket are still there."""
    before = state_of(dev_broker())
    for pid in (before.supervisor_pid, before.server_pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until_gone(before)
    assert read_state(project / ".arq-web") == before

    broker = dev_broker()

    assert is_up(broker)
    assert state_of(broker).supervisor_pid != before.supervisor_pid


def test_a_state_file_with_the_pid_of_another_process_is_replaced(project: Path) -> None:
    """After a reboot the pid is somebody else's: a live process, and not ours to signal."""
    bystander = DevState("redis-server", str(project / "redis.sock"), os.getpid(), os.getpid())
    (project / ".arq-web").mkdir()
    (project / ".arq-web" / "server.lock").write_text(f"host {os.getpid()} {os.getpid()}")
    (project / ".arq-web" / "dev.json").write_text(
        json.dumps({name: getattr(bystander, name) for name in DevState.__slots__})
    )

    assert is_up(dev_broker())


@needs_redis
def test_a_redis_that_lost_its_supervisor_is_replaced_with_its_data(project: Path) -> None:
    """Nobody would ever end it, and a second Redis beside it would write the same append-only file."""
    first = dev_broker()
    before = state_of(first)
    with client(first) as connection:
        connection.set("job", "queued")
    os.kill(before.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: not is_watched(first.directory), "the supervisor is dead")
    assert is_up(first)

    second = dev_broker()

    assert is_gone(before.server_pid)
    with client(second) as connection:
        assert connection.get("job") == "queued"


@needs_redis
def test_the_supervisor_ends_when_its_redis_dies(project: Path) -> None:
    """A supervisor of nothing would give its address to the next who asks."""
    before = state_of(dev_broker())

    os.kill(before.server_pid, signal.SIGKILL)

    wait_until(lambda: is_gone(before.supervisor_pid), "the supervisor has ended")
    assert read_state(project / ".arq-web") is None
    assert is_up(dev_broker())


def test_the_server_ends_when_its_directory_is_removed(project: Path) -> None:
    """``git clean -xdf`` must not leave a process that nobody can find."""
    broker = dev_broker()
    before = state_of(broker)

    shutil.rmtree(broker.directory)
    after = state_of(dev_broker())

    wait_until_gone(before)
    assert after.server_pid != before.server_pid
    assert is_up(broker), "the first server took the second one's socket with it"


@needs_redis
def test_a_server_on_the_other_side_of_a_container_is_left_alone(project: Path) -> None:
    """Where a project is mounted into a container, the pids noted inside are those of strangers outside."""
    broker = dev_broker()
    before = state_of(broker)
    lock = broker.directory / "server.lock"
    noted = lock.read_text()
    lock.write_text(f"pid:[1] {before.supervisor_pid} {before.server_pid}")
    os.kill(before.supervisor_pid, signal.SIGSTOP)  # it would notice what comes now
    Path(before.socket_path).rename(project / "not-seen-here.sock")

    with pytest.raises(DevBrokerFailed, match=r"on the other side of a container.*ARQ_WEB_DEV_DIR"):
        dev_broker()

    assert not is_gone(before.server_pid)
    lock.write_text(noted)
    os.kill(before.supervisor_pid, signal.SIGCONT)


# -- the end -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis-server", "in-memory"])
def test_it_ends_when_nobody_is_connected_any_more(project: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Nothing of ours runs on the developer's machine the day after; a waiting worker, however quiet, keeps it up."""
    monkeypatch.setenv("ARQ_WEB_DEV_IDLE_S", "0.5")
    monkeypatch.setenv("ARQ_WEB_DEV_SERVER", kind)
    broker = dev_broker()
    before = state_of(broker)

    with client(broker) as worker:
        waited = worker.blpop(["empty"], timeout=2)
        assert waited is None
        assert worker.ping()
        assert not is_gone(before.supervisor_pid)

    wait_until_gone(before)
    assert read_state(broker.directory) is None
    assert not Path(before.socket_path).exists()


def test_it_does_not_end_while_somebody_joins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins holds the lock: the server that it finds alive must be there when it connects."""
    monkeypatch.setenv("ARQ_WEB_DEV_IDLE_S", "0.3")
    broker = dev_broker()
    before = state_of(broker)

    with locked(broker.directory / "lock", timeout_s=5), pytest.raises(TimeoutError):
        wait_until(lambda: is_gone(before.supervisor_pid), "it has ended all the same", timeout_s=1.5)

    wait_until(lambda: is_gone(before.supervisor_pid), "the server has ended")


def test_a_join_counts_as_use_though_it_is_over_in_a_moment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app joins first and connects when it has been imported: its time to do so begins with the join."""
    monkeypatch.setenv("ARQ_WEB_DEV_IDLE_S", "0.6")
    before = state_of(dev_broker())

    for _ in range(6):
        time.sleep(0.3)  # the pace of the joins is what is tested
        assert state_of(dev_broker()) == before

    wait_until(lambda: is_gone(before.supervisor_pid), "the server has ended")


@needs_redis
def test_joining_a_server_that_is_about_to_end_never_fails(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either it stays or it is gone for good and the data is in the next one; there is no half-dead server."""
    monkeypatch.setenv("ARQ_WEB_DEV_IDLE_S", "0.5")
    pace = random.Random(7)
    servers = set[int]()

    for round_number in range(1, 10):
        broker = dev_broker()
        with client(broker) as connection:
            assert connection.incr("rounds") == round_number
            servers.add(state_of(broker).server_pid)
        time.sleep(pace.uniform(0.45, 0.75))  # around the moment of its end; the pace is what is tested

    assert len(servers) > 1
