"""``python -m tests.http.example_server fastapi 16401``: an example app under uvicorn, with a quick worker inside."""

from __future__ import annotations

import sys

import uvicorn

from example_app.shop import orders
from example_app.shop.settings import make_directories

PAUSE_S = 0.01


def main(framework: str, port: str) -> None:
    """Serve until the process is told to stop."""
    orders.PAUSE_S = PAUSE_S
    make_directories()
    uvicorn.run(f"example_app.{framework}_app:app", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
