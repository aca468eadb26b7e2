"""A PostgreSQL server of our own: found, started in a folder of its own, stopped in the end.

It refuses to run as root: then it runs as the user ``postgres``, if there is one. Where there is no server, or no way
to run it, the tests that need it are skipped, with the reason.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

ENV = "ARQ_WEB_TEST_POSTGRES"
"""The folder of its programs; by default they are looked for."""
START_TIMEOUT_S = 30.0
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")
"""A server that lives for one test session need not survive the machine."""


class NoPostgres(Exception):
    """No server here; the message says why."""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server: where it listens."""

    port: int

    def url(self, driver: str = "asyncpg", database: str = "postgres") -> str:
        """As SQLAlchemy names it."""
        return f"postgresql+{driver}://postgres@127.0.0.1:{self.port}/{database}"


@contextmanager
def running_postgres() -> Generator[PostgresServer]:
    """Start a server, wait until it answers, and stop it in the end.

    Raises:
        NoPostgres: there is none to start.
    """
    programs, prefix = _programs(), _as_somebody()
    with tempfile.TemporaryDirectory(prefix="arq-web-postgres-") as folder:
        data = Path(folder) / "data"
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        _run(*prefix, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        port = free_port()
        options = [word for option in OPTIONS for word in ("-c", option)]
        listen = ["-p", str(port), "-h", "127.0.0.1", "-k", folder]
        with (Path(folder) / "log").open("ab") as log:
            command = [*prefix, str(programs / "postgres"), "-D", str(data), *listen, *options]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            _wait(programs, port, process)
            yield PostgresServer(port)
        finally:
            stop = [*prefix, str(programs / "pg_ctl"), "stop", "-D", str(data), "-m", "immediate"]
            subprocess.run(stop, check=False, capture_output=True, cwd=folder)
            process.wait(10)


def _programs() -> Path:
    named = os.environ.get(ENV)
    found = shutil.which("initdb")
    folders = [Path(named)] if named else [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoPostgres(f"there is no PostgreSQL server here (install postgresql, or set {ENV} to the folder of initdb)")


def _as_somebody() -> list[str]:
    """The words before a command: it ends with us, and is not root's."""
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    if os.geteuid() != 0:
        return [*guard, "--"] if guard else []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise NoPostgres("PostgreSQL does not run as root, and there is no user postgres") from None
    if not guard:
        raise NoPostgres("PostgreSQL does not run as root, and there is no setpriv to change the user")
    return [*guard, "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]


def _run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise NoPostgres(f"initdb failed: {done.stderr[-500:]}")


def _wait(programs: Path, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        asked = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        if subprocess.run(asked, check=False, capture_output=True, cwd="/").returncode == 0:
            return
        time.sleep(0.02)
    raise NoPostgres(f"it did not start within {START_TIMEOUT_S:g} s")
