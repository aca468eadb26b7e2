"""uvicorn under a signal handler that is not its own: ``python -m tests.http.covered_uvicorn --port 8000``."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import uvicorn


def cover(server: uvicorn.Server) -> None:
    """Put a handler over uvicorn's, which passes the signal on."""

    def handle(number: int, frame: FrameType | None) -> None:
        server.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, handle)


class Covered(uvicorn.Server):
    """Its handler is covered once it has put it in."""

    async def startup(self, sockets: object = None) -> None:
        """Start as ever."""
        await super().startup(sockets)  # type: ignore[arg-type]
        cover(self)


if __name__ == "__main__":
    config = uvicorn.Config("tests.http.live_fastapi:app", port=int(sys.argv[2]))
    Covered(config).run()
