"""The network of these tests: whoever asks for localhost:6379, as the documents do, reaches the Redis of this test.

Python imports a module of this name at its start, if it is on the path (PYTHONPATH names this folder).
"""

import os
import socket

_look_up = socket.getaddrinfo
_PORT = int(os.environ.get("TEST_REDIS_PORT", "6379"))


def _redirected(host, port, *args, **kwargs):
    is_redis = str(port) == "6379" and host in ("localhost", b"localhost", "127.0.0.1")
    return _look_up("127.0.0.1", _PORT, *args, **kwargs) if is_redis else _look_up(host, port, *args, **kwargs)


socket.getaddrinfo = _redirected
