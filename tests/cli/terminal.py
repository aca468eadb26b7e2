"""A command in a real pseudo-terminal: what a person sees on it, and the keys that they press."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.projects import APP_WORKER, Project
from tests.support.waiting import wait_until

_STYLE = re.compile(r"\x1b\[[\d;]*m")
_FRAME = re.compile(r"\x1b\[H((?:(?!\x1b\[H).)*?)\x1b\[J", re.DOTALL)
LEFT = "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""What gives back the lines' ends, the cursor and the screen."""


class InTerminal:
    """The command, and the terminal that it has."""

    def __init__(self, process: asyncio.subprocess.Process, master: int, slave: int) -> None:
        self.process, self._master, self._slave = process, master, slave
        self._received = bytearray()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def text(self) -> str:
        """All that it has written."""
        return self._received.decode(errors="replace")

    @property
    def frame(self) -> str:
        """The last whole frame, without styles."""
        frames = _FRAME.findall(self.text)
        return _STYLE.sub("", frames[-1]).replace("\x1b[K", "").replace("\r", "") if frames else ""

    @property
    def frame_count(self) -> int:
        """How often it has painted."""
        return len(_FRAME.findall(self.text))

    @property
    def mode(self) -> list[Any]:
        """How the terminal is set: echo, lines, signals."""
        return termios.tcgetattr(self._slave)

    async def shows(self, text: str) -> None:
        """Wait for a frame that has ``text``."""
        await wait_until(
            lambda: text in self.frame or self.process.returncode is not None,
            timeout_s=20,
            description=f"the frame shows {text!r}",
        )
        assert text in self.frame, self.text

    def press(self, keys: str) -> None:
        """Type. What is no UTF-8 is written as a lone surrogate."""
        os.write(self._master, keys.encode(errors="surrogateescape"))

    def interrupt(self) -> None:
        """Ctrl-C: the terminal makes a signal of it."""
        self.press("\x03")

    def resize(self, columns: int, rows: int) -> None:
        """As dragging the window's corner does: the kernel sends SIGWINCH."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def ended(self) -> int:
        """Wait for its end; returns the exit status."""
        return await asyncio.wait_for(self.process.wait(), 20)

    def _read(self) -> None:
        self._received += os.read(self._master, 65536)


@asynccontextmanager
async def in_terminal(
    project: Project, *args: str, columns: int = 120, rows: int = 30, env: dict[str, str] | None = None
) -> AsyncGenerator[InTerminal]:
    """``app-worker`` with a terminal of its own, which it controls; killed if it still runs in the end."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *APP_WORKER,
        *args,
        cwd=project.folder,
        env={**project.env, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **(env or {})},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_control_terminal,
    )
    terminal = InTerminal(process, master, slave)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(slave)
        os.close(master)


def _control_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
