"""Run the whole shop on this machine: web server, worker and mail server; Redis comes by itself.

``python -m example_app.demo [--framework fastapi|litestar] [--check]``, or ``make demo``. Prints lines to paste into
another terminal. Ctrl-C stops everything. ``--check`` does what the lines do, says whether it worked, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from example_app.lines import lines_to_paste
from example_app.processes import Child, EndedEarly, say
from example_app.shop.images import write_sample
from example_app.shop.settings import ROOT, settings

READY_S = 30.0
WORKER_SAYS = "worker.started"


class NotReady(Exception):
    """Something did not come up in time."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The running shop."""

    framework: str
    base_url: str
    sample: Path
    mail: Path
    children: tuple[Child, Child, Child]

    @property
    def app(self) -> str:
        """What uvicorn and app-worker are told."""
        return f"example_app.{self.framework}_app:app"

    @property
    def worker(self) -> Child:
        """The process of ``app-worker``."""
        return self.children[1]


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m example_app.demo", description=__doc__)
    parser.add_argument("--framework", choices=("fastapi", "litestar"), default="fastapi")
    parser.add_argument("--check", action="store_true", help="do what the printed lines do, and end")
    options = parser.parse_args()
    sys.exit(asyncio.run(run(options.framework, check=options.check)))


async def run(framework: str, *, check: bool) -> int:
    """Start all, wait for its end (a signal, a process that cannot live, the check), stop all; the exit code."""
    demo = prepare(framework)
    work = asyncio.create_task(_check(demo) if check else _serve(demo))
    _stop_on_signals(work, demo)
    keepers = [asyncio.create_task(child.keep_running()) for child in demo.children]
    try:
        await asyncio.wait([work, *keepers], return_when=asyncio.FIRST_COMPLETED)
        for each in keepers:
            if each.done():
                each.result()
        return await work
    except asyncio.CancelledError:
        return 0  # Ctrl-C is how a demo ends
    except (EndedEarly, NotReady) as error:
        say("demo", f"FAILED: {error}")
        return 1
    finally:
        work.cancel()
        # The web server first: no new work. Then the worker, which drains; its last jobs may send mail.
        for child in (demo.children[0], demo.worker, demo.children[2]):
            await child.stop()
        await asyncio.gather(work, *keepers, return_exceptions=True)
        say("demo", "all stopped; a private Redis ends by itself when nobody has used it for a minute")


def prepare(framework: str) -> Demo:
    """Choose ports, draw the sample picture, and say which processes there will be."""
    data = settings().data
    sample, mail = data / "sample.jpg", data / "mail"
    write_sample(sample)
    web_port, mail_port = free_port(8000), free_port(8025)
    own = {"ARQ_WEB_DEV": "1", "ARQ_WEB_EMBEDDED": "never", "PYTHONUNBUFFERED": "1"}
    shop = {"SHOP_DATA": str(data), "SHOP_SMTP_HOST": "127.0.0.1", "SHOP_SMTP_PORT": str(mail_port)}
    child = functools.partial(Child, cwd=ROOT, environ={**os.environ, **own, **shop})
    app, python = f"example_app.{framework}_app:app", sys.executable
    uvicorn = [python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(web_port), "--no-access-log"]
    smtpd = [python, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{mail_port}", "-c", "aiosmtpd.handlers.Mailbox"]
    children = (
        child("web", uvicorn, stop_limit_s=10),
        child("worker", [str(Path(python).with_name("app-worker")), app], stop_limit_s=30),
        child("mail", [*smtpd, str(mail)], stop_limit_s=3),
    )
    return Demo(framework, f"http://127.0.0.1:{web_port}", sample, mail, children)


def free_port(preferred: int) -> int:
    """``preferred`` if nobody listens there, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: it may have just ended
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


async def _serve(demo: Demo) -> int:
    await _wait_until_ready(demo)
    print("\n" + lines_to_paste(demo.app, demo.base_url, demo.sample), flush=True)
    await asyncio.Event().wait()
    return 0


async def _check(demo: Demo) -> int:
    # Imported here: only the check needs an HTTP client.
    from example_app.check import check_all  # noqa: PLC0415

    await _wait_until_ready(demo)
    return 0 if await check_all(demo.base_url, demo.sample, demo.mail, lambda: demo.worker.pid) else 1


async def _wait_until_ready(demo: Demo) -> None:
    """Wait for the web server to answer, the mail server to listen, the worker to be known to Redis.

    Raises:
        NotReady: one of them did not come up in time; its last lines are shown.
    """
    web, worker, mail = demo.children
    signs = (
        (web, functools.partial(_listens, demo.web_port)),
        (mail, functools.partial(_listens, demo.mail_port)),
        (worker, functools.partial(_succeeds, worker, "check", demo.app)),
    )
    try:
        async with asyncio.timeout(READY_S):
            for child, is_ready in signs:
                waiting_for = child
                while not await is_ready():
                    await asyncio.sleep(0.1)
    except TimeoutError:
        log = "\n".join(waiting_for.last_lines)
        raise NotReady(f"{waiting_for.name} did not come up within {READY_S:g} s. Its last lines:\n{log}") from None


async def _listens(port: int) -> bool:
    # uvicorn opens its port when the app's lifespan has begun: then it answers.
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _stop_on_signals(work: asyncio.Task[int], demo: Demo) -> None:
    """The first Ctrl-C stops in order; another one does not wait."""

    def stop() -> None:
        if not work.cancelling():
            say("demo", "stopping; once more to stop at once")
            work.cancel()
            return
        for child in demo.children:
            child.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
