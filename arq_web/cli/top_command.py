"""``app-worker top main:app``: a live view of queues, workers and running jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import replace

import click

from arq_web.cli.app_source import AppSource, chosen_queues, takes_app, with_connections
from arq_web.cli.terminal import Terminal, in_encoding_of
from arq_web.cli.top_facts import Snapshot, Watch
from arq_web.cli.top_view import View, frame, frame_object
from arq_web.errors import StoreError
from arq_web.hub import Hub
from arq_web.logs import duration

ONCE_COLUMNS = 1000


@click.command()
@takes_app
@click.option(
    "--queue", "-q", "queues", multiple=True, metavar="NAME", help="This queue only; default: all of the app's."
)
@click.option(
    "--interval", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Print one frame and end; so it is where no terminal looks.")
@click.option("--json", "in_json", is_flag=True, help="Print one frame as JSON and end.")
def top(source: AppSource, /, *, queues: tuple[str, ...], interval: float, once: bool, in_json: bool) -> None:
    """Watch queues, workers and running jobs.

    Keys: q quits, s sorts the running jobs by something else, p pauses and goes on, space looks now.

    \b
      app-worker top main:app
      app-worker top main:app --json | jq .queues
    """  # noqa: D301 - click reads the escape
    hub = source.load_hub()
    names = chosen_queues(hub, queues)
    view = View(f"app-worker top   {source.target}   {hub.queues.connections.target.address}", is_plain=_is_plain())

    async def watch(hub: Hub) -> None:
        looking = Watch([hub.queue(name).store for name in names])
        if once or in_json or not Terminal.is_possible():
            _print(await looking.look(), view, in_json=in_json)
        else:
            await Top(looking, view, interval).run()

    with_connections(hub, watch)


class Top:
    """The live view: looks at Redis on its own, so that a Redis that does not answer keeps nobody from quitting."""

    def __init__(self, looking: Watch, view: View, interval_s: float) -> None:
        self._looking, self._view, self._interval_s = looking, view, interval_s
        self._facts: Snapshot | None = None
        self._trouble, self._since_s = "", 0.0
        self._is_over = False
        self._changed, self._wanted = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Show frames until somebody quits."""
        terminal = Terminal(on_key=self._press, on_change=self._changed.set, on_quit=self._quit)
        with terminal:
            looking = asyncio.create_task(self._look(), name="arq_web.top")
            try:
                while not self._is_over:
                    self._paint(terminal)
                    await self._next_change()
                    if looking.done():
                        looking.result()  # a fault of ours: it is to be seen, not a picture that stands still
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        try:
            while True:
                if not self._view.is_paused:
                    await self._look_once()
                    self._changed.set()
                self._wanted.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), self._interval_s)
        finally:
            self._changed.set()

    async def _look_once(self) -> None:
        try:
            self._facts = await self._looking.look()
        except StoreError as error:
            self._since_s = self._since_s or time.monotonic()
            self._trouble = " ".join(str(error).split())
        else:
            self._trouble, self._since_s = "", 0.0

    async def _next_change(self) -> None:
        """Until there is something to paint; in trouble each second, since its age is shown."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), 1.0 if self._trouble else None)
        self._changed.clear()

    def _paint(self, terminal: Terminal) -> None:
        columns, rows = terminal.size
        view = replace(self._view, has_keys=terminal.has_keyboard)
        trouble = ""
        if self._trouble:
            ago = duration((time.monotonic() - self._since_s) * 1000)
            trouble = f"Redis does not answer since {ago}: what is below is old. {self._trouble}"
        lines = frame(self._facts, view, columns=columns, rows=rows, trouble=trouble)
        terminal.paint([(line.text, line.style) for line in lines])

    def _press(self, key: str) -> None:
        match key:
            case "q" | "Q" | "\x04":
                self._quit()
            case "s":
                self._view = replace(self._view, sort=self._view.next_sort)
            case "p":
                self._view = replace(self._view, is_paused=not self._view.is_paused)
                self._wanted.set()
            case " ":
                self._wanted.set()
            case _:
                return
        self._changed.set()

    def _quit(self) -> None:
        self._is_over = True
        self._changed.set()


def _print(facts: Snapshot, view: View, *, in_json: bool) -> None:
    if in_json:
        click.echo(json.dumps(frame_object(facts), default=str))
        return
    for line in frame(facts, replace(view, has_keys=False), columns=ONCE_COLUMNS, rows=None):
        click.echo(in_encoding_of(sys.stdout, line.text))


def _is_plain() -> bool:
    try:
        "█░…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
