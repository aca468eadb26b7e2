"""A real browser, for what only a browser does: headless Chromium on a page that tells what it sees."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WITHOUT = "there is no Chromium here (Debian: apt-get install chromium)"
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root there is none to be had
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    # What it would ask of the world is refused here, and only costs time.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",  # with it, it stays
)
SPY = """<script>
  let told = 0
  function tell(what, more = {}) {
    const word = { number: told++, what, ...more }
    fetch("COLLECTOR", { method: "POST", mode: "no-cors", body: JSON.stringify(word) })
  }
  window.EventSource = class extends EventSource {
    constructor(url) {
      super(url)
      this.addEventListener("open", () => tell("open"))
      this.addEventListener("error", () => tell("error", { ready: this.readyState }))
      for (const name of ["state", "progress", "done"])
        this.addEventListener(name, (event) => {
          tell(name, { id: event.lastEventId, data: JSON.parse(event.data) })
          if (name === "done") setTimeout(() => tell("shown", shown()))
        })
    }
  }
  const at = (selector) => document.querySelector(selector)
  const shown = () => ({ bar: at("#bar").value, words: at("#words").textContent })
  addEventListener("load", () => at("#start").click())
</script>
"""


@dataclass
class Browser:
    """What the page has told so far."""

    told: list[dict[str, Any]] = field(default_factory=list)

    def heard(self, what: str) -> list[dict[str, Any]]:
        """Of one kind, in their order."""
        return sorted((word for word in self.told if word["what"] == what), key=lambda word: int(word["number"]))


@asynccontextmanager
async def spied(html: str, pages: Path, name: str) -> AsyncGenerator[Browser]:
    """Put a page into the folder ``pages`` that tells what its EventSource does."""
    browser = Browser()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        browser.told.append(json.loads(await reader.readexactly(size)))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (pages / name).write_text(SPY.replace("COLLECTOR", f"http://127.0.0.1:{port}/") + html)
    async with server:
        yield browser


@asynccontextmanager
async def looking_at(url: str, folder: Path) -> AsyncGenerator[None]:
    """Have Chromium show a page; it is gone at the end."""
    assert CHROMIUM is not None
    with (folder / "chromium.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", url, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
