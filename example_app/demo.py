"""Run the whole shop on this machine: web server, worker and mail server; Redis comes by itself.

``python -m example_app.demo [--framework fastapi|litestar] [--check]``, or ``make demo``. Prints lines to paste into
another terminal. Ctrl-C stops everything. ``--check`` does what the lines do, says whether it worked, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from example_app.lines import lines_to_paste
from example_app.processes import Child, Ended, say
from example_app.shop.images import write_sample
from example_app.shop.settings import ROOT, settings

READY_S = 30.0
HOST = "127.0.0.1"
APP_WORKER = str(Path(sys.executable).with_name("app-worker"))


class NotReady(Exception):
    """Something did not come up in time."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The shop as it is to run: where, and by which processes."""

    app: str
    """What uvicorn and app-worker are told."""
    web_port: int
    mail_port: int
    data: Path
    environ: Mapping[str, str]
    web: Child
    worker: Child
    mail: Child

    @property
    def in_stop_order(self) -> tuple[Child, Child, Child]:
        """The web server first: no new work. Then the worker, which drains; its last jobs may send mail."""
        return self.web, self.worker, self.mail

    @property
    def base_url(self) -> str:
        """Where the web server is."""
        return f"http://{HOST}:{self.web_port}"

    @property
    def sample(self) -> Path:
        """A picture to upload."""
        return self.data / "sample.jpg"

    @property
    def mails(self) -> Path:
        """Where the mail server puts what it gets (a Maildir)."""
        return self.data / "mail"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m example_app.demo", description="Run the whole shop on this machine."
    )
    parser.add_argument("--framework", choices=("fastapi", "litestar"), default="fastapi")
    parser.add_argument("--port", type=int, default=8000, help="of the web server; if it is taken (or 0), any free one")
    parser.add_argument("--check", action="store_true", help="do what the printed lines do, and end")
    options = parser.parse_args()
    sys.exit(asyncio.run(run(make_demo(options.framework, options.port), check=options.check)))


def make_demo(framework: str, port: int) -> Demo:
    """Choose ports and say which processes there will be; nothing is started."""
    app, data, python = f"example_app.{framework}_app:app", settings().data, sys.executable
    web_port, mail_port = _free_port(port), _free_port()
    own = {"ARQ_WEB_DEV": "1", "ARQ_WEB_EMBEDDED": "never", "PYTHONUNBUFFERED": "1"}
    shop = {"SHOP_DATA": str(data), "SHOP_SMTP_HOST": HOST, "SHOP_SMTP_PORT": str(mail_port)}
    environ = {**os.environ, **own, **shop}
    uvicorn = [python, "-m", "uvicorn", app, "--host", HOST, "--port", str(web_port)]
    mailbox = ["-c", "aiosmtpd.handlers.Mailbox", str(data / "mail")]
    smtpd = [python, "-m", "aiosmtpd", "--nosetuid", "--listen", f"{HOST}:{mail_port}", *mailbox]
    return Demo(
        app,
        web_port,
        mail_port,
        data,
        environ,
        web=Child("web", uvicorn, cwd=ROOT, environ=environ, stop_limit_s=10),
        worker=Child("worker", [APP_WORKER, app], cwd=ROOT, environ=environ, stop_limit_s=30),
        mail=Child("mail", smtpd, cwd=ROOT, environ=environ, stop_limit_s=3),
    )


async def run(demo: Demo, *, check: bool) -> int:
    """Start all, serve until Ctrl-C (or check, and end), stop all; the exit code."""
    write_sample(demo.sample)
    work = asyncio.create_task(_check(demo) if check else _serve(demo))
    _stop_on_signals(work, demo)
    keepers = [asyncio.create_task(child.keep_running()) for child in demo.in_stop_order]
    try:
        done, _ = await asyncio.wait([work, *keepers], return_when=asyncio.FIRST_COMPLETED)
        if work.cancelled():
            return 0  # Ctrl-C is how a demo ends
        return next(iter(done)).result() or 0
    except (Ended, NotReady) as error:
        say("demo", f"FAILED: {error}")
        return 1
    finally:
        work.cancel()
        for child in demo.in_stop_order:
            await child.stop()
        await asyncio.gather(work, *keepers, return_exceptions=True)
        say("demo", "all stopped (a private Redis ends by itself when nobody has used it for a while)")


async def _serve(demo: Demo) -> int:
    await _wait_until_ready(demo)
    print(f"\n{lines_to_paste(demo.app, demo.base_url, demo.sample, demo.mails)}", flush=True)
    await asyncio.Event().wait()
    return 0


async def _check(demo: Demo) -> int:
    # Imported here: nothing else of the demo needs an HTTP client.
    import httpx  # noqa: PLC0415

    from example_app.check import Shop, check_all  # noqa: PLC0415

    async def job_info(job_id: str) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(await _app_worker(demo, "jobs", "show", demo.app, job_id, "--json") or "{}")
        return info

    await _wait_until_ready(demo)
    async with httpx.AsyncClient(base_url=demo.base_url, timeout=20) as http:
        shop = Shop(http, demo.sample, demo.mails, worker_pid=lambda: demo.worker.pid, job_info=job_info)
        return 0 if await check_all(shop) else 1


async def _wait_until_ready(demo: Demo) -> None:
    """Wait for the mail server to listen, the web server to answer, the worker to be known to Redis.

    Raises:
        NotReady: one of them did not come up in time; its last lines are shown.
    """
    waiting_for = demo.mail
    try:
        async with asyncio.timeout(READY_S):
            await _wait_for_listener(demo.mail_port)
            waiting_for = demo.web
            await _wait_for_listener(demo.web_port)  # uvicorn listens once the app's lifespan has begun
            waiting_for = demo.worker
            await _wait_for_worker(demo)
    except TimeoutError:
        log = "\n".join(waiting_for.last_lines)
        raise NotReady(f"{waiting_for.name} did not come up within {READY_S:g} s. Its last lines:\n{log}") from None


async def _wait_for_listener(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            return
        await asyncio.sleep(0.1)


async def _wait_for_worker(demo: Demo) -> None:
    """``app-worker check`` says so when every queue has a worker."""
    while True:
        if await _app_worker(demo, "check", demo.app):
            return
        await asyncio.sleep(0.1)


async def _app_worker(demo: Demo, *words: str) -> bytes:
    """What ``app-worker`` prints; nothing, if it fails."""
    process = await asyncio.create_subprocess_exec(
        APP_WORKER,
        *words,
        cwd=ROOT,
        env=demo.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:  # Ctrl-C, or out of patience
            process.kill()
    return output if process.returncode == 0 else b""


def _stop_on_signals(work: asyncio.Task[int], demo: Demo) -> None:
    """The first Ctrl-C stops all in order; another one does not wait."""

    def stop() -> None:
        if work.cancelling() or work.done():
            for child in demo.in_stop_order:
                child.kill()
            return
        say("demo", "stopping; once more stops at once")
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _free_port(preferred: int = 0) -> int:
    """``preferred``, unless somebody has it."""
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: one that just ended is free
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise OSError(f"there is no free port on {HOST}")


if __name__ == "__main__":
    main()
