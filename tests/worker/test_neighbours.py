"""The sign of life between workers of one host: certain, or silent."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arq_web import Config
from arq_web.errors import InvalidConfig
from arq_web.worker import neighbours as neighbours_module
from arq_web.worker.neighbours import Neighbours
from tests.support.waiting import wait_until
from tests.support.working import make_hub

APPEAR = """
import os, subprocess, sys
from arq_web.worker.neighbours import Neighbours
sign = Neighbours("shop", sys.argv[1], sys.argv[2])
sign.appear()
if len(sys.argv) > 3:
    subprocess.Popen([sys.executable, "-c", "print('child', flush=True); input()"], pass_fds=[sign.handle])
else:
    print("up", flush=True)
input()
"""


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start another worker's process: its sign of life is there when this returns."""
    started: list[subprocess.Popen[bytes]] = []

    def start(worker: str, *more: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", APPEAR, worker, str(tmp_path), *more]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def folder_in(parent: Path) -> Path:
    """Where the lock files are."""
    [folder] = parent.glob("arq_web-*")
    return folder


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, as the memory killer would, and wait until it is gone."""
    process.kill()
    process.wait()


@pytest.fixture
def ours(tmp_path: Path) -> Neighbours:
    sign = Neighbours("shop", "host:1:me", str(tmp_path))
    sign.appear()
    return sign


def test_a_killed_neighbour_is_dead_at_once_and_one_that_stands_still_is_not(ours: Neighbours, start: Start) -> None:
    process = start("host:2:other")
    assert ours.dead() == []
    process.send_signal(signal.SIGSTOP)
    assert ours.dead() == []

    end(process)

    assert ours.dead() == ["host:2:other"]
    assert ours.dead() == ["host:2:other"]  # again for a while: its last words may come late


async def test_a_neighbour_whose_child_lives_on_is_not_dead_yet(ours: Neighbours, start: Start) -> None:
    """The child may still run a job of it."""
    process = start("host:2:other", "with a child")
    end(process)
    assert ours.dead() == []

    process.communicate()  # closes its input: the child ends

    await wait_until(lambda: ours.dead() == ["host:2:other"], description="the child is gone too")


def test_who_left_is_not_dead(ours: Neighbours, tmp_path: Path) -> None:
    other = Neighbours("shop", "host:2:other", str(tmp_path))
    other.appear()

    other.disappear()

    assert ours.dead() == []
    assert [path.name for path in folder_in(tmp_path).iterdir()] == ["shop host:1:me"]


def test_workers_of_one_process_are_neighbours_too(ours: Neighbours, tmp_path: Path) -> None:
    """Two apps in one process: the lock is the file's, not the process's."""
    other = Neighbours("shop", "host:1:other", str(tmp_path))
    other.appear()

    assert (ours.dead(), other.dead()) == ([], [])
    other.disappear()


def test_other_namespaces_are_none_of_our_business(tmp_path: Path, start: Start) -> None:
    process = start("host:2:other")
    foreign = Neighbours("another", "host:3:foreign", str(tmp_path))
    foreign.appear()
    end(process)

    assert foreign.dead() == []
    foreign.disappear()


def test_a_death_is_forgotten_and_its_file_removed_in_time(
    ours: Neighbours, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder must not fill up; the times are shortened, the waiting is not."""
    end(start("host:2:other"))
    assert ours.dead() == ["host:2:other"]

    monkeypatch.setattr(neighbours_module, "TELL_S", 0.0)
    assert ours.dead() == []
    assert (folder_in(tmp_path) / "shop host:2:other").exists()
    monkeypatch.setattr(neighbours_module, "FORGET_S", 0.0)
    ours.dead()

    assert not (folder_in(tmp_path) / "shop host:2:other").exists()


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path, start: Start) -> None:
    """Whoever can put files there could declare our workers dead."""
    end(start("host:2:other"))
    folder_in(tmp_path).chmod(0o777)
    sign = Neighbours("shop", "host:1:me", str(tmp_path))

    assert not sign.has_place()
    sign.appear()

    assert sign.handle is None
    assert sign.dead() == []
    sign.disappear()


def test_without_a_place_for_the_file_there_is_no_sign_and_no_error(tmp_path: Path) -> None:
    """The lease is enough."""
    sign = Neighbours("shop", "host:1:me", str(tmp_path / "missing"))

    assert not sign.has_place()
    sign.appear()
    assert sign.dead() == []


async def test_a_folder_that_was_asked_for_and_cannot_be_used_is_an_error(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Whoever sets lock_dir counts on it; and it must end a web app's start-up, not its embedded worker each second."""
    missing = tmp_path / "missing"
    hub = make_hub(redis_url, namespace, config=Config(namespace=namespace, lock_dir=str(missing)))

    with pytest.raises(InvalidConfig, match=r"lock_dir=.*missing"):
        hub.worker(burst=True)
    await hub.aclose()


@pytest.mark.parametrize("elsewhere", ["another boot 1 2", "BOOT 99999 1", ""])
def test_a_file_that_was_locked_elsewhere_is_not_judged(ours: Neighbours, tmp_path: Path, elsewhere: str) -> None:
    """Through a network, or another mount of the folder, a file is seen and its lock is not: it looks orphaned."""
    path = folder_in(tmp_path) / "shop host:2:other"
    path.write_text(elsewhere.replace("BOOT", Path("/proc/sys/kernel/random/boot_id").read_text().strip()))

    assert ours.dead() == []


def test_a_copy_of_a_dead_workers_file_says_nothing(ours: Neighbours, tmp_path: Path, start: Start) -> None:
    """A restored snapshot of the folder: the same words in another file."""
    end(start("host:2:other"))
    folder = folder_in(tmp_path)
    (folder / "shop host:3:living").write_bytes((folder / "shop host:2:other").read_bytes())

    assert ours.dead() == ["host:2:other"]


def test_a_neighbour_that_looks_at_the_wrong_moment_keeps_nobody_from_appearing(
    ours: Neighbours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shared lock is held for a moment on the file that has no name yet."""
    folder, real_mkstemp = folder_in(tmp_path), tempfile.mkstemp
    looks: list[threading.Timer] = []

    def mkstemp_under_a_look(**options: Any) -> tuple[int, str]:
        handle, hidden = real_mkstemp(**options)
        look = os.open(hidden, os.O_RDONLY)
        fcntl.flock(look, fcntl.LOCK_SH)
        looks.append(threading.Timer(0.2, os.close, (look,)))
        looks[0].start()
        return handle, hidden

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp_under_a_look)
    other = Neighbours("shop", "host:2:other", str(tmp_path))
    other.appear()
    looks[0].join()

    assert other.handle is not None
    assert sorted(path.name for path in folder.iterdir()) == ["shop host:1:me", "shop host:2:other"]
    other.disappear()


def test_only_so_many_deaths_are_told_at_once(ours: Neighbours, tmp_path: Path, start: Start) -> None:
    """Redis takes what they held in one script, and serves nobody else meanwhile."""
    processes = [start(f"host:{number}:other") for number in range(2, 6)]
    for process in processes:
        end(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours_module, "MOST_DEAD", 3)
        assert len(ours.dead()) == 3
