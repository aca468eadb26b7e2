"""The demo as a developer meets it: real processes, a private Redis, the printed lines pasted into a shell."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from example_app.shop.settings import ROOT

FRAMEWORKS = ("fastapi", "litestar")
LAST_LINE = "Ctrl-C here stops everything."

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A shell of one's own: no Redis named, so that there will be a private one, in this test's directory."""
    not_ours = ("ARQ_WEB_", "SHOP_", "REDIS_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
    return inherited | {"SHOP_DATA": str(tmp_path), "ARQ_WEB_DEV_DIR": str(tmp_path / "dev"), "ARQ_WEB_DEV_IDLE_S": "2"}


@pytest.fixture
def bare(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same on a machine that has Python and little else: no Redis, no curl."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cat", "tr", "sed"):
        (programs / name).symlink_to(shutil.which(name) or name)
    return environ | {"PATH": str(programs)}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_everything_works(framework: str, environ: dict[str, str]) -> None:
    """Thumbnails and mails appear, app-worker makes the report, the flaky task succeeds at its third try."""
    with start_demo(environ, framework, "--check") as demo:
        output = demo.communicate(timeout=100)[0]

    assert demo.returncode == 0, output
    assert [line.split(":")[0] for line in output.splitlines() if line.startswith("OK")] == [
        "OK     upload gets thumbnails",
        "OK     sign up twice sends one mail",
        "OK     order brings its receipt",
        "OK     report runs in the worker",
        "OK     third try succeeds",
    ]


@pytest.mark.parametrize(("framework", "machine"), [("fastapi", "environ"), ("litestar", "bare")])
def test_the_printed_lines_work_when_pasted(
    framework: str, machine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """They are all that a newcomer does."""
    environ: dict[str, str] = request.getfixturevalue(machine)

    with running_demo(environ, framework) as demo, Shell(environ) as shell:
        go_there, upload, pictures, sign_up, mails, report, status, show, reserve, jobs, routes = printed_lines(demo)
        shell.paste(go_there)
        assert '"image"' in shell.paste(upload)
        shell.paste_until(pictures, '"camera":"Pinhole 1"')
        assert '"created":true' in shell.paste(sign_up)
        assert '"created":false' in shell.paste(sign_up)
        shell.paste_until(mails, "welcome to the photo shop")
        shell.paste(report)
        shell.paste_until(status, '"state":"succeeded"')
        assert "(pid " in shell.paste(show)
        shell.paste(reserve)
        shell.paste_until(jobs, "reserve_stock")
        assert "/reports" in shell.paste(routes)

    assert len(list((tmp_path / "thumbnails").glob("*.jpg"))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ctrl_c_ends_the_report_that_runs_and_leaves_no_process_behind(framework: str, environ: dict[str, str]) -> None:
    """But the private Redis, until nobody has used it for a while."""
    with running_demo(environ, framework) as demo, Shell(environ) as shell:
        report, status, _ = printed_lines(demo)[5:8]
        shell.paste(report)
        shell.paste_until(status, '"state":"running"')
        count = len(shop_processes(environ))
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        output = demo.communicate(timeout=60)[0]

    assert demo.returncode == 0
    assert "job.succeeded    make_report" in output
    assert (count, shop_processes(environ)) == (5, {})  # the demo, its three children and the shell


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_worker_that_is_killed_is_started_again_and_its_report_ends(environ: dict[str, str]) -> None:
    """What the README invites to try."""
    with running_demo(environ, "fastapi") as demo, Shell(environ) as shell:
        report, status, _ = printed_lines(demo)[5:8]
        shell.paste(report)
        shell.paste_until(status, '"state":"running"')
        [worker] = [pid for pid, command in shop_processes(environ).items() if "app-worker" in command]
        os.kill(worker, signal.SIGKILL)
        ended = shell.paste_until(status, '"state":"succeeded"')

    assert '"crashes":1' in ended


def test_what_cannot_come_up_ends_the_demo_with_its_reason(environ: dict[str, str]) -> None:
    with start_demo(environ | {"ARQ_WEB_CONCURRENCY": "none"}, "fastapi") as demo:
        output = demo.communicate(timeout=60)[0]

    assert demo.returncode == 1
    assert "ARQ_WEB_CONCURRENCY" in output
    assert "FAILED: " in output


def start_demo(environ: dict[str, str], framework: str, *options: str) -> subprocess.Popen[str]:
    """In a session of its own, so that Ctrl-C in the terminal of the tests is not for it."""
    command = [sys.executable, "-m", "example_app.demo", "--framework", framework, "--port", "0", *options]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def running_demo(environ: dict[str, str], framework: str) -> Iterator[subprocess.Popen[str]]:
    """``make demo``; stopped at the end, if it has not been."""
    with start_demo(environ, framework) as demo:
        try:
            yield demo
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=60)


def printed_lines(demo: subprocess.Popen[str]) -> list[str]:
    """The lines to paste, without the comments between them; the demo is up when it has printed them."""
    assert demo.stdout is not None
    seen = []
    for line in demo.stdout:
        seen.append(line.rstrip())
        if seen[-1] == LAST_LINE:
            first = seen.index(next(each for each in seen if each.startswith("The shop is open")))
            return [each for each in seen[first + 1 : -1] if each and not each.startswith("#")]
    pytest.fail("The demo did not come up:\n" + "\n".join(seen))


def shop_processes(environ: dict[str, str]) -> dict[int, str]:
    """All processes of this test's demo by their id, itself and the shell included; not those of its private Redis."""
    mark, found = f"ARQ_WEB_DEV_DIR={environ['ARQ_WEB_DEV_DIR']}".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return {pid: line for pid, line in found.items() if "_dev_server" not in line and "redis-server" not in line}


class Shell:
    """A terminal into which lines are pasted, one after the other."""

    END = "--- end of the answer ---"

    def __init__(self, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def paste(self, line: str) -> str:
        """Run one line and return what it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\necho; echo '{self.END}'\n")
        self._process.stdin.flush()
        return "".join(iter(self._process.stdout.readline, f"{self.END}\n"))

    def paste_until(self, line: str, wanted: str) -> str:
        """Paste a line again and again, as somebody does who waits for it."""
        deadline = time.monotonic() + 20
        while wanted not in (answer := self.paste(line)):
            assert time.monotonic() < deadline, f"{line}\nprints\n{answer}\nwithout {wanted}"
            time.sleep(0.1)
        return answer
