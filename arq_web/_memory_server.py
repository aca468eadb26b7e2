"""A Redis in memory: fakeredis in a thread of this process. For development where no server is found, and for tests.

Found by its path, as ``_dev_server`` is, or imported: it needs nothing of this package.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import Any


class MemoryServer:
    """fakeredis in a thread of this process. On a unix socket: it knows no password, so over TCP all could read it."""

    def __init__(self, socket_path: str) -> None:
        """Listen at ``socket_path``, and serve until ``stop``."""
        self.pid = os.getpid()
        self._server = self._listen(socket_path)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def is_running(self) -> bool:
        """Whether it serves: as long as its process lives."""
        return True

    def activity(self) -> tuple[int, int]:
        """Count the clients now connected and all that ever were."""
        return len(self._server.clients), self._server.received_count

    def stop(self) -> None:
        """Take no more connections; what is stored ends with this process."""
        self._server.shutdown()
        self._server.server_close()

    def _listen(self, socket_path: str) -> Any:
        from fakeredis import TcpFakeServer  # noqa: PLC0415 -- only where no real server was found
        from fakeredis._clients._tcp_server import TCPFakeRequestHandler  # noqa: PLC0415
        from redis.exceptions import ResponseError  # noqa: PLC0415 -- fakeredis brings it

        class Handler(TCPFakeRequestHandler):
            def setup(self) -> None:
                super().setup()
                read: Any = self.current_client.read_response

                def read_response() -> Any:
                    # An error is a reply like any other. fakeredis would close the connection after it, and with that
                    # fail every other command that waits there: at the first NOSCRIPT of a server that is new.
                    try:
                        return read()
                    except ResponseError as error:
                        return error

                self.current_client.read_response = read_response  # type: ignore[assignment, method-assign, unused-ignore]

        class UnixFakeServer(TcpFakeServer):
            address_family = socket.AF_UNIX
            received_count = 0

            def server_bind(self) -> None:
                self.socket.bind(socket_path)

            def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
                connection, _ = super().get_request()
                self.received_count += 1
                # fakeredis tells its clients apart by their address; on a unix socket all have the same, ''.
                return connection, ("unix", self.received_count)

        server = UnixFakeServer(socket_path)  # type: ignore[arg-type, unused-ignore]
        server.RequestHandlerClass = Handler
        server.daemon_threads = True
        return server
