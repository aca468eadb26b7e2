"""The blocking wait for a wake marker, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from arq_web.errors import StoreUnavailable
from arq_web.store.dial import Dialer
from arq_web.store.link import Link, pack
from arq_web.store.replies import ErrorReply, Fault, Reply, fault_of, store_error
from arq_web.store.target import RedisTarget

POP_S = 6.0
"""How long Redis holds one blocking read: longer than a wait. Each wait ends by our own clock, since Redis looks ten
times a second whose time has passed; and managed Redis is paid per command: three idle waits are one read."""


class BlockingConnection:
    """Waits for wake markers; one wait at a time. Belongs to the loop in which it is made; opened at first use.

    A pop is never cancelled: a wait that ends early (``wake``, a cancelled caller, a shorter timeout) leaves its
    pop outstanding, and the next wait for the same keys takes it over. So a freed slot costs no reconnect.

    Args:
        target: which Redis.
        deadline_s: how long after its timeout a pop may stay unanswered, and how long opening may take.
        pop_s: how long one pop lasts.
        key_hint: in a cluster, a key of the node to connect to.
    """

    def __init__(
        self, target: RedisTarget, *, deadline_s: float = 2.0, pop_s: float = POP_S, key_hint: bytes | None = None
    ) -> None:
        self._address = target.address
        self._deadline_s, self._pop_s = deadline_s, pop_s
        self._dialer = Dialer(target, deadline_s=deadline_s, key_hint=key_hint)
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._keys: tuple[bytes, ...] = ()
        self._pop: asyncio.Task[bytes | None] | None = None
        self._answer: asyncio.Future[bytes | None] | None = None
        self._woken: asyncio.Future[None] | None = None
        self._is_woken = False
        self._is_closed = False
        self.on_spare: Callable[[], None] | None = None
        """Called when a marker was taken that nobody waits for: by a pop that outlived its wait."""

    async def wait(self, keys: Sequence[bytes], timeout_s: float) -> bytes | None:
        """Wait for a marker in one of the lists ``keys``, and take it: BLPOP.

        Returns:
            The key it was taken from; None when ``timeout_s`` passed, when ``wake`` was called, or when the pop came to
            its own end (then somewhat early).

        Raises:
            StoreUnavailable: no connection, or the connection was lost; the next wait opens another, after a pause.
            StoreRefused: the credentials or rights do not suffice.
            StoreCorrupt: one of the keys is not a list.
        """
        if self._is_closed:
            raise StoreUnavailable(self._address, _CLOSED_HERE)
        if self._is_woken:
            self._is_woken = False
            return None
        await self._ensure_pop(tuple(keys))
        pop, woken = self._pop, self._loop.create_future()
        if pop is None:  # closed meanwhile
            raise StoreUnavailable(self._address, _CLOSED_HERE)
        self._woken = woken
        try:
            either: set[asyncio.Future[Any]] = {pop, woken}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._woken, self._is_woken = None, False
        if not pop.done():
            return None
        self._pop = None
        if pop.cancelled():
            raise StoreUnavailable(self._address, _CLOSED_HERE)
        return pop.result()

    def wake(self) -> None:
        """End the wait that is going on, or else the next one, at once. The connection stays as it is."""
        self._is_woken = True
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def aclose(self) -> None:
        """Close for good; a wait that is going on raises StoreUnavailable."""
        self._is_closed = True
        link = self._link
        await self._drop_pop()
        if link is not None:
            link.abort()
            await link.wait_closed()

    def dispose(self) -> None:
        """Close the socket although the loop is closed already."""
        self._is_closed = True
        link, self._link = self._link, None
        if link is not None:
            link.dispose()

    # -- the pop --------------------------------------------------------------------------

    async def _ensure_pop(self, keys: tuple[bytes, ...]) -> None:
        """Have a pop of ``keys`` outstanding: that of an earlier wait, or a new one."""
        if self._pop is not None and self._keys == keys:
            return
        await self._drop_pop()
        self._keys = keys
        self._pop = self._loop.create_task(self._run_pop(keys), name="arq_web.blocking.pop")
        self._pop.add_done_callback(self._on_pop_ended)

    def _on_pop_ended(self, pop: asyncio.Task[bytes | None]) -> None:
        """Look at its error in any case: when nobody waits any more, nobody is left to be told."""
        has_marker = not pop.cancelled() and pop.exception() is None and pop.result() is not None
        if has_marker and self._woken is None and self.on_spare is not None:
            self.on_spare()

    async def _drop_pop(self) -> None:
        pop, self._pop = self._pop, None
        if pop is not None:
            pop.cancel()
            await asyncio.wait({pop})

    async def _run_pop(self, keys: tuple[bytes, ...]) -> bytes | None:
        try:
            if self._link is None:
                self._link = await self._dialer.dial(self)
            answer: asyncio.Future[bytes | None] = self._loop.create_future()
            self._answer = answer
            self._link.write(pack(("BLPOP", *keys, f"{self._pop_s:.3f}")))
            await asyncio.wait({answer}, timeout=self._pop_s + self._deadline_s)
            if answer.done():
                return answer.result()
            raise StoreUnavailable(
                self._address, f"no reply to a blocking read within {self._deadline_s:g} s after its end"
            )
        except BaseException:
            # A reply that still comes must not be taken for that of the next pop.
            self._drop_link()
            raise

    def _drop_link(self) -> None:
        link, self._link, self._answer = self._link, None, None
        if link is not None:
            link.abort()

    # -- receiving (called by the link) ---------------------------------------------------

    def on_replies(self, replies: Sequence[Reply | ErrorReply]) -> None:
        """Take the pop's reply."""
        if not replies:
            return  # a part of it
        answer = self._answer
        if answer is None or answer.done() or len(replies) != 1:
            self.on_lost("it sent a reply that nobody asked for")
            return
        reply = replies[0]
        if isinstance(reply, ErrorReply):
            fault = fault_of(reply.text)
            if fault is Fault.MOVED:
                self._dialer.redirect(reply.text)
            elif fault is Fault.LOST:
                self._dialer.back_off()
            answer.set_exception(store_error(self._address, fault, reply.text))
        else:
            key = reply[0] if isinstance(reply, list) else None
            answer.set_result(key if isinstance(key, bytes) else None)

    def on_writable(self) -> None:
        """Nothing is ever held back here."""

    def on_lost(self, why: str) -> None:
        """Tell the pop; the next one opens another connection."""
        answer = self._answer
        self._drop_link()
        if answer is not None and not answer.done():
            answer.set_exception(StoreUnavailable(self._address, why))


_CLOSED_HERE: Final = "the connection was closed by this process"
