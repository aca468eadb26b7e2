"""A terminal that is painted frame by frame and read key by key, by hand: ANSI, no library. Not on Windows."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

_HAS_TERMIOS = importlib.util.find_spec("termios") is not None
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the other screen (what was there comes back), no cursor, no line is broken
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_SPECIAL_KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)?")  # an arrow, a function key: nothing of ours
_STYLES = {"title": "1", "head": "7", "trouble": "1;31", "dim": "2"}


class Terminal:
    """While the block lasts, the screen is ours. However it ends, by a signal too, it is as before.

    ``on_key`` gets each character that is typed, ``on_change`` is called when the screen is to be painted again,
    ``on_quit`` for the signals that end a program (Ctrl-C and its kind, a window that is closed) and a keyboard that is
    gone.
    """

    def __init__(
        self, *, on_key: Callable[[str], None], on_change: Callable[[], None], on_quit: Callable[[], None]
    ) -> None:
        self._on_key, self._on_change, self._on_quit = on_key, on_change, on_quit
        self._out: TextIO = sys.stdout
        self._keyboard = sys.stdin.fileno() if _HAS_TERMIOS and sys.stdin is not None and sys.stdin.isatty() else None
        self._before: list[Any] | None = None
        self._signals: dict[signal.Signals, Callable[[], None]] = {}

    @staticmethod
    def is_possible() -> bool:
        """Whether somebody looks at our standard output on a terminal that we can paint."""
        return _HAS_TERMIOS and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def has_keyboard(self) -> bool:
        """Whether somebody may press keys."""
        return self._keyboard is not None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        found = shutil.get_terminal_size()
        with contextlib.suppress(OSError, ValueError):
            found = os.get_terminal_size(self._out.fileno())
        return (found.columns or 80), (found.lines or 24)

    def paint(self, lines: Sequence[tuple[str, str]]) -> None:
        """Show ``lines``, each with its style, in the place of what is there: without a flicker, in one write."""
        is_coloured = not os.environ.get("NO_COLOR")
        shown = [_styled(text, style if is_coloured or style == "head" else "") for text, style in lines]
        self._write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in shown) + "\x1b[J")

    def __enter__(self) -> Self:
        """Take the screen and the keyboard, on the running loop."""
        loop = asyncio.get_running_loop()
        self._signals = {
            signal.SIGINT: self._on_quit,
            signal.SIGTERM: self._on_quit,
            signal.SIGQUIT: self._on_quit,
            signal.SIGHUP: self._on_quit,
            signal.SIGWINCH: self._on_change,
            signal.SIGTSTP: self._suspend,
        }
        for number, handler in self._signals.items():
            loop.add_signal_handler(number, handler)
        if self._keyboard is not None:
            loop.add_reader(self._keyboard, self._read)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give both back."""
        loop = asyncio.get_running_loop()
        self._give_back()
        if self._keyboard is not None:
            loop.remove_reader(self._keyboard)
        for number in self._signals:
            loop.remove_signal_handler(number)

    def _take(self) -> None:
        if self._keyboard is not None:
            import termios  # noqa: PLC0415 - not on Windows
            import tty  # noqa: PLC0415

            self._before = termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard)
        self._write(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that was closed
            self._write(_LEAVE)
        if self._keyboard is not None and self._before is not None:
            import termios  # noqa: PLC0415

            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    def _suspend(self) -> None:
        """Ctrl-Z: whoever goes on finds a picture, and until then a shell that works."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._on_change()

    def _read(self) -> None:
        assert self._keyboard is not None
        try:
            typed = os.read(self._keyboard, 100)
        except OSError:
            typed = b""
        if not typed:
            asyncio.get_running_loop().remove_reader(self._keyboard)
            self._on_quit()
        for key in _SPECIAL_KEY.sub("", typed.decode(errors="ignore")):
            self._on_key(key)

    def _write(self, text: str) -> None:
        self._out.write(in_encoding_of(self._out, text))
        self._out.flush()


def in_encoding_of(out: TextIO, text: str) -> str:
    """What ``out`` can show of a text: a question mark for what it cannot."""
    encoding = out.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def _styled(text: str, style: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text
