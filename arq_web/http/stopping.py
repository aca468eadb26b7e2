"""Has the server been told to stop? Open streams should end then: it waits for them before it says so to the app."""

from __future__ import annotations

import signal


def server_is_stopping() -> bool:
    """True once uvicorn, which has the handler of SIGTERM, is about to exit; False where another server runs.

    ASGI has no word for it: uvicorn stops listening, waits until every response has ended, and only then ends the
    app's lifespan. What it knows meanwhile is read here, and nothing is put in its way. Without it, streams and long
    polls end by themselves a little later.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
