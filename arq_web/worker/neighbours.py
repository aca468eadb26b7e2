"""A lock file per worker: how the workers of one host know at once that one of them has died.

The lease tells it everywhere, but late: it must outlast every pause of the network and of Redis. The kernel tells it at
once, and never wrongly: it drops a process's file lock when the process is gone, and not while it is merely slow,
stopped or cut off. Workers that do not see each other's files (other hosts, other containers) wait for the lease.

A file may be seen where its lock is not: through a network, or another mount. So each says in which run of which
kernel, and as which file of which device, it was locked; only who finds the very same may judge.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

_fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

TELL_S = 3.0
"""A death is told again for so long: the last words of the dead may reach Redis later than we do."""
FORGET_S = 10.0
"""Then its file is removed: whoever comes later has the lease."""
MOST_DEAD = 100
"""So many are told at once: Redis takes what they held in one script."""


class Neighbours:
    """This worker's sign of life, and those of the other workers of the same user on this host.

    Nothing here ever raises or waits: where there is no such sign, the lease is enough.
    """

    def __init__(self, namespace: str, worker: str, parent: str = "") -> None:
        """Do nothing yet.

        Args:
            namespace: workers of other namespaces are none of our business.
            worker: the worker's id.
            parent: where the folder of the lock files is made, one per user; empty for the host's memory.
        """
        self._prefix = f"{namespace} "
        self._name = self._prefix + worker
        self._folder = _folder_of_this_user(parent)
        self._boot = _boot_of_this_host()
        self._handle: int | None = None
        self._dead_since_s: dict[str, float] = {}

    @property
    def handle(self) -> int | None:
        """The file descriptor that holds the lock: a child process that inherits it prolongs our life by its own."""
        return self._handle

    def has_place(self) -> bool:
        """Whether there is a private folder for the files; it is made where it is missing."""
        try:
            _make_private(self._folder)
        except OSError:
            return False
        return _fcntl is not None

    def appear(self) -> None:
        """Show that we live, for as long as this process (or ``handle``) does, where that can be."""
        if self._handle is not None or not self.has_place():
            return
        with contextlib.suppress(OSError):
            # Locked before it bears its name: nobody may ever find it unlocked while we live.
            handle, hidden = tempfile.mkstemp(prefix=".", dir=self._folder)
            try:
                _fcntl.flock(handle, _fcntl.LOCK_EX)  # a neighbour that looks holds it for a moment
                os.write(handle, self._birth_of(handle))
                Path(hidden).rename(self._folder / self._name)
            except OSError:
                os.close(handle)
                Path(hidden).unlink(missing_ok=True)
                raise
            self._handle = handle

    def disappear(self) -> None:
        """Take the sign away: nothing is held any more. A worker that abandons a thread must not: its process will."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                (self._folder / self._name).unlink()
            os.close(handle)

    def dead(self) -> list[str]:
        """The ids of the workers that were found dead a moment ago."""
        if self._handle is None:
            return []
        now_s, found = time.monotonic(), list[str]()
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name == self._name or not self._is_orphaned(path):
                    continue
                since_s = self._dead_since_s.setdefault(path.name, now_s)
                if now_s - since_s > FORGET_S:  # also of other namespaces, whose workers may be gone for good
                    path.unlink(missing_ok=True)
                    del self._dead_since_s[path.name]
                elif now_s - since_s <= TELL_S and path.name.startswith(self._prefix) and len(found) < MOST_DEAD:
                    found.append(path.name.removeprefix(self._prefix))
        return found

    def _is_orphaned(self, path: Path) -> bool:
        """True when nobody holds the file's lock, and we would see it if somebody did."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            # Shared: two who look at once must not deceive each other.
            _fcntl.flock(handle, _fcntl.LOCK_SH | _fcntl.LOCK_NB)
            return os.read(handle, 1000) == self._birth_of(handle)
        except OSError:
            return False
        finally:
            os.close(handle)

    def _birth_of(self, handle: int) -> bytes:
        found = os.fstat(handle)
        return f"{self._boot} {found.st_dev} {found.st_ino}".encode()


def _folder_of_this_user(parent: str) -> Path:
    # In memory where the system has it: a look each half second must not wait for a disk.
    memory = "/dev/shm"  # noqa: S108 - the folder in it is ours alone, or it is not used
    parent = parent or (memory if os.access(memory, os.W_OK) else tempfile.gettempdir())
    return Path(parent) / f"arq_web-{os.getuid() if os.name == 'posix' else 0}"


def _make_private(folder: Path) -> None:
    """Make the folder, ours alone; raises OSError for one that somebody else may write to."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user")


def _boot_of_this_host() -> str:
    """One run of one kernel, where the system names it; else the host."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()
