"""How many processes ``--processes`` means: the flag, the environment, the cores that this host grants us."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from arq_web.cli.process_count import granted_cores, process_count, usable_cores
from arq_web.errors import InvalidConfig
from tests.support.projects import SHOP, Project


@pytest.mark.parametrize(
    ("flag", "environ", "count"),
    [
        (None, {}, 1),
        (None, {"ARQ_WEB_PROCESSES": ""}, 1),
        (None, {"ARQ_WEB_PROCESSES": " 3 "}, 3),
        ("2", {"ARQ_WEB_PROCESSES": "3"}, 2),
        ("1", {"ARQ_WEB_PROCESSES": "3"}, 1),
        ("256", {}, 256),
        ("auto", {}, usable_cores()),
        (None, {"ARQ_WEB_PROCESSES": "auto"}, usable_cores()),
    ],
)
def test_the_flag_comes_before_the_environment(flag: str | None, environ: dict[str, str], count: int) -> None:
    """And one process is the default."""
    assert process_count(flag, environ, reload=False) == count


@pytest.mark.parametrize("wrong", ["0", "-1", "257", "two", "1.5", "²", "AUTO"])
def test_what_is_no_count_is_refused_with_what_is_one(wrong: str) -> None:
    """And with where it was said."""
    with pytest.raises(click.UsageError, match=f"--processes {wrong} is not valid: .* a number from 1 to 256, or auto"):
        process_count(wrong, {}, reload=False)
    with pytest.raises(InvalidConfig, match=f"{wrong}.*ARQ_WEB_PROCESSES.* a number from 1 to 256, or auto"):
        process_count(None, {"ARQ_WEB_PROCESSES": wrong}, reload=False)


def test_reload_is_for_one_process() -> None:
    """Said by whoever asked for more, with the way out; ``auto`` is refused on every host alike."""
    for flag in ("2", "auto"):
        with pytest.raises(click.UsageError, match=f"--reload is for one process, and --processes asks for {flag}"):
            process_count(flag, {}, reload=True)
    with pytest.raises(click.UsageError, match=r"ARQ_WEB_PROCESSES asks for 2: .* or add --processes 1"):
        process_count(None, {"ARQ_WEB_PROCESSES": "2"}, reload=True)

    assert process_count("1", {"ARQ_WEB_PROCESSES": "2"}, reload=True) == 1


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/kubepods/pod/app", {"kubepods/pod/app/cpu.max": "max 100000", "kubepods/cpu.max": "100000 100000"}, 1),
        ("0::/host/path/of/the/container", {"cpu.max": "100000 100000"}, 1),
        ("4:memory:/x\n3:cpu,cpuacct:/docker/1", {"cpu/docker/1/cpu.cfs_quota_us": "100000"}, 1),
        ("3:cpu,cpuacct:/docker/1", {"cpu/cpu.cfs_quota_us": "100000"}, 1),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1"}, None),
        ("4:memory:/x\n3:cpu:/y", {"cpu/x/cpu.cfs_quota_us": "100000"}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
    ],
)
def test_the_cores_of_auto_are_those_that_the_control_group_grants(
    tmp_path: Path, lines: str, files: dict[str, str], quota: int | None
) -> None:
    """In either version; the least of the groups around us; a part of a core is one more process."""
    for name, text in {
        "proc/self/cgroup": lines,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        if path.name == "cpu.cfs_quota_us":
            path.with_name("cpu.cfs_period_us").write_text("100000\n")

    assert granted_cores(tmp_path) == quota


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_the_cores_of_auto_are_those_that_the_process_may_run_on() -> None:
    """``taskset`` and ``docker --cpuset-cpus`` count."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


async def test_the_environment_may_come_from_the_env_file(project: Project) -> None:
    """As every other setting; the flag is stronger."""
    project.write("shop.env", "ARQ_WEB_PROCESSES=2\n")

    two = await project.run(SHOP, "--burst", "--env-file", "shop.env")
    one = await project.run(SHOP, "--burst", "--env-file", "shop.env", "--processes", "1")

    assert (two.code, one.code) == (0, 0)
    assert "2 processes: the first one starts alone" in two.err
    assert "processes:" not in one.err


async def test_a_wrong_number_is_a_wrong_use(project: Project) -> None:
    """Before anything is started."""
    finished = await project.run(SHOP, "--processes", "none")

    assert finished.code == 2
    assert "must be a number from 1 to 256, or auto" in finished.err
