"""Ports that nobody has at this moment, and that no outgoing connection takes before their server binds them.

Asking the kernel for any free port (``bind`` to 0) gives one of those it also gives to outgoing connections: with
several test processes at work somebody has it a moment later. Ours lie below 32,768, where Linux begins with those.
"""

from __future__ import annotations

import random
import socket

CLUSTER_BUS_OFFSET = 10_000
"""The nodes of a Redis cluster speak to each other on their port and this."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    return _free(10_000, 20_000, and_at=0)


def free_cluster_port() -> int:
    """A port of which also the node's second one, ``CLUSTER_BUS_OFFSET`` above it, is free."""
    return _free(20_000, 22_768, and_at=CLUSTER_BUS_OFFSET)


def _free(first: int, end: int, *, and_at: int) -> int:
    while True:
        port = random.randrange(first, end)
        if _is_free(port) and _is_free(port + and_at):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
