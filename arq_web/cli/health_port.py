"""``--health-port``: where a worker answers probes. Open before the app is imported, closed when the worker has ended.

So a port that is in use is said at once, and a startup probe finds somebody however long the import takes.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from arq_web.cli.group import WrongSetup
from arq_web.errors import InvalidConfig
from arq_web.health.exchange import in_url
from arq_web.health.facts import WorkerHealth
from arq_web.health.routes import HealthRoutes
from arq_web.health.server import HealthServer, open_port
from arq_web.worker.worker import Worker

ENV = "ARQ_WEB_HEALTH_PORT"
HIGHEST = 65_535
_log = logging.getLogger("arq_web.health")


@dataclass(frozen=True, slots=True)
class HealthPlace:
    """Where to answer, and what counts as blocked."""

    host: str
    port: int
    max_lag_s: float

    def open(self) -> socket.socket:
        """Listen there, and say so in the log.

        Raises:
            WrongSetup: that cannot be.
        """
        try:
            listening = open_port(self.host, self.port)
        except OSError as error:
            raise WrongSetup(
                f"--health-port {self.port} on {self.host} cannot be opened: {_why(error)}. "
                "Several workers on one host need a port each; with --processes one is enough for all."
            ) from error
        host, port = listening.getsockname()[:2]
        _log.info("health: http://%s:%d, /livez, /readyz, /startupz, /metrics and /scale", in_url(host), port)
        return listening


def health_port(flag: int | None, environ: Mapping[str, str]) -> int | None:
    """The flag's port, else the environment's, else none.

    Args:
        flag: of the command line; None where it was not given.
        environ: the environment's variables.

    Raises:
        InvalidConfig: the environment's is no port.
    """
    text = environ.get(ENV, "").strip()
    if flag is not None or not text:
        return flag
    if text.isascii() and text.isdigit() and 1 <= int(text) <= HIGHEST:
        return int(text)
    raise InvalidConfig("health_port", text, f"a number from 1 to {HIGHEST}", ENV)


class HealthPort:
    """Answers for this process's worker; says that it starts until it is given one."""

    def __init__(self, listening: socket.socket, max_lag_s: float) -> None:
        """Begin to answer.

        Args:
            listening: where.
            max_lag_s: how late the worker's loop may be.
        """
        self._health = WorkerHealth()
        self._metrics: object = None
        routes = HealthRoutes(
            self._health.facts,
            lambda: () if self._health.vitals is None else self._health.vitals.stores,
            metrics=lambda: self._metrics,
            max_lag_s=max_lag_s,
        )
        self._server = HealthServer(listening, routes.answer)

    def attach(self, worker: Worker, metrics: object) -> None:
        """Answer for ``worker`` from here on; call on its loop.

        Args:
            worker: of this process.
            metrics: the app's; None where they are off.
        """
        self._metrics = metrics
        self._health.attach(worker.vitals)

    def close(self) -> None:
        """End. Safe to repeat."""
        self._server.stop()


@contextmanager
def answering(place: HealthPlace | None, listening: socket.socket | None = None) -> Iterator[HealthPort | None]:
    """Answer at ``place`` from here on; None where nobody asked for that.

    Args:
        place: where; None for nowhere.
        listening: a supervisor's socket, in the place of that.

    Raises:
        WrongSetup: the port cannot be opened.
    """
    if place is None:
        yield None
        return
    if listening is None:
        listening = place.open()
    port = HealthPort(listening, place.max_lag_s)
    try:
        yield port
    finally:
        port.close()


def _why(error: OSError) -> str:
    """Without the address, which asyncio and socket add to the system's words in their own ways."""
    if error.errno is not None and error.errno > 0:  # a name that is not found has a negative one
        return os.strerror(error.errno)
    return str(error.strerror or error)
