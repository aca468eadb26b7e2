"""A queue that belongs to one test: all of it can be seen, time passes in it by command, and it is wiped in the end.

Nothing here is for an application: it reads all keys of the queue, and deletes them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from arq_web.job import JobInfo
from arq_web.store import scripts
from arq_web.store.connection import Reply
from arq_web.store.inspection import Inspector
from arq_web.store.store import Store

_SCAN_COUNT: Final = 1000
_ALL: Final = 1_000_000


class Sandbox:
    """One queue of a namespace that nobody else uses. Every method may raise StoreUnavailable or StoreRefused."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def jobs(self) -> list[JobInfo]:
        """Every job that has a record, finished ones too, with its arguments; the oldest first."""
        ids = await Inspector(self.store).find("", limit=_ALL)
        infos = await asyncio.gather(*(self.store.read(each, with_payload=True) for each in ids))
        return sorted((info for info in infos if info is not None), key=lambda info: info.enqueued_at_ms)

    async def next_due_in_ms(self) -> int | None:
        """Until the earliest job of those that are due later is; 0 when its time has come; None when there is none."""
        connection = self.store.connections.get(self.store.base)
        first = await connection.execute("ZRANGE", self.store.base + b"due", 0, 0, "WITHSCORES")
        due_ms = [_int(each) for each in _list(first)[1:]]
        return max(0, due_ms[0] - await self.store.server_now_ms()) if due_ms else None

    async def hasten(self, ms: int, job_ids: Sequence[str] = ()) -> int:
        """Let ``ms`` pass for all jobs that wait (or for these); returns for how many it did."""
        connection = self.store.connections.get(self.store.base)
        arguments = scripts.HASTEN.arguments(job_ids, ms=ms, nonce=secrets.token_urlsafe(8))
        return _int(await connection.run_script(scripts.HASTEN.script, (self.store.base,), arguments))

    async def wipe(self) -> int:
        """Delete every key of the queue; returns how many there were."""
        pattern = b"".join(b"\\" + bytes([c]) if c in b"\\*?[]" else bytes([c]) for c in self.store.base) + b"*"
        connection = self.store.connections.get(self.store.base)
        position, wiped = 0, 0
        while True:
            reply = await connection.execute("SCAN", position, "MATCH", pattern, "COUNT", _SCAN_COUNT)
            assert isinstance(reply, list)
            keys = [key for key in _list(reply[1]) if isinstance(key, bytes)]
            if keys:
                await connection.execute("DEL", *keys)
                wiped += len(keys)
            position = _int(reply[0])
            if not position:
                return wiped


def _list(value: Reply) -> list[Reply]:
    return value if isinstance(value, list) else []


def _int(value: Reply) -> int:
    return int(value) if isinstance(value, (int, bytes)) else 0
