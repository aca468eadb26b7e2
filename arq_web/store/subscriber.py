"""Messages that Redis pushes, on a connection of their own that is opened again whenever it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from arq_web.errors import StoreError, StoreRefused, StoreUnavailable
from arq_web.store.dial import Dialer
from arq_web.store.link import Link, pack
from arq_web.store.replies import ErrorReply, Fault, Reply, fault_of, store_error
from arq_web.store.target import RedisTarget

OnMessage = Callable[[bytes], None]


class Subscriber:
    """Hands messages of channels to callbacks. Belongs to the loop in which it is made; opened at first use.

    What is published while the connection is lost is not said again: ``on_reconnect`` is called when all channels
    are subscribed again, or when it was closed, so that its owner can look for itself.

    Args:
        target: which Redis.
        deadline_s: how long opening, a confirmation and a PING may take.
        quiet_s: after how long without a message to send a PING, which finds a connection that is dead in silence.
    """

    def __init__(self, target: RedisTarget, *, deadline_s: float = 2.0, quiet_s: float = 10.0) -> None:
        self.on_reconnect: Callable[[], None] | None = None
        self._address = target.address
        self._deadline_s = deadline_s
        self._quiet_s = quiet_s
        self._dialer = Dialer(target, deadline_s=deadline_s)
        self._loop = asyncio.get_running_loop()
        self._callbacks: dict[bytes, OnMessage] = {}
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._link: Link | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._runner: asyncio.Task[None] | None = None
        self._is_resubscribing = False
        self._heard_count = 0
        self._why = "not connected yet"
        self._is_closed = False

    async def subscribe(self, channel: bytes, callback: OnMessage) -> None:
        """Call ``callback`` with every message on ``channel``; returns once Redis has confirmed.

        One callback per channel: another one takes its place. It runs in the loop and must not block.

        Raises:
            StoreUnavailable: not confirmed within twice ``deadline_s``; nothing is subscribed then.
            StoreRefused: the credentials or rights do not suffice.
        """
        if self._is_closed:
            raise StoreUnavailable(self._address, _CLOSED_HERE)
        self._callbacks[channel] = callback
        confirmed = self._confirmations.setdefault(channel, self._loop.create_future())
        link = self._link
        if link is not None:
            link.write(pack(("SUBSCRIBE", channel)))
        self._ensure_running()
        await asyncio.wait({confirmed}, timeout=self._deadline_s)
        if not confirmed.done():
            if link is not None and link is self._link:
                self.on_lost(f"no reply within {self._deadline_s:g} s")
            await asyncio.wait({confirmed}, timeout=self._deadline_s)
        if not confirmed.done():
            self._fail_confirmations({channel}, StoreUnavailable(self._address, self._why))
        confirmed.result()

    def unsubscribe(self, channel: bytes) -> None:
        """Call back no more for ``channel``. Nothing happens if it is not subscribed."""
        if self._callbacks.pop(channel, None) is not None and self._link is not None:
            self._link.write(pack(("UNSUBSCRIBE", channel)))

    async def aclose(self) -> None:
        """Close for good."""
        self._is_closed = True
        self._fail_confirmations(set(self._confirmations), StoreUnavailable(self._address, _CLOSED_HERE))
        self._callbacks.clear()
        link, self._link = self._link, None
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait({self._runner})
        if link is not None:
            link.abort()
            await link.wait_closed()
        if self.on_reconnect is not None:
            self.on_reconnect()  # nothing comes here any more: whoever waits must look, or subscribe, elsewhere

    def dispose(self) -> None:
        """Close the socket although the loop is closed already."""
        self._is_closed = True
        link, self._link = self._link, None
        if link is not None:
            link.dispose()

    # -- keeping it open ------------------------------------------------------------------

    def _ensure_running(self) -> None:
        if self._runner is None:
            self._runner = self._loop.create_task(self._run(), name="arq_web.subscriber")

    async def _run(self) -> None:
        try:
            while self._callbacks:
                try:
                    link = await self._dialer.dial(self)
                except StoreRefused as error:
                    self._why = error.why
                    self._fail_confirmations(set(self._confirmations), error)
                except StoreUnavailable as error:
                    self._why = error.why
                else:
                    await self._watch_over(link)
                    self._is_resubscribing = True
        finally:
            self._runner = None

    async def _watch_over(self, link: Link) -> None:
        """Subscribe to everything, then return when the connection is lost; find out if it is dead in silence."""
        self._link, self._lost = link, self._loop.create_future()
        for channel in self._callbacks.keys() - self._confirmations.keys():
            self._confirmations[channel] = self._loop.create_future()
        if self._callbacks:
            link.write(pack(("SUBSCRIBE", *self._callbacks)))
        is_answer_due = True
        while not self._lost.done():
            heard_count = self._heard_count
            await asyncio.wait({self._lost}, timeout=self._deadline_s if is_answer_due else self._quiet_s)
            if self._heard_count != heard_count:
                is_answer_due = False
            elif is_answer_due:
                self.on_lost(f"no reply within {self._deadline_s:g} s")
            elif not self._lost.done():
                link.write(pack(("PING",)))
                is_answer_due = True

    def _fail_confirmations(self, channels: set[bytes], error: StoreError) -> None:
        for channel in channels:
            confirmation = self._confirmations.pop(channel, None)
            if confirmation is not None and not confirmation.done():
                self._callbacks.pop(channel, None)
                confirmation.set_exception(type(error)(error.address, error.why))
                # Of those whom a reconnect subscribes again, nobody waits for it.
                confirmation.exception()

    # -- receiving (called by the link) ---------------------------------------------------

    def on_replies(self, replies: Sequence[Reply | ErrorReply]) -> None:
        """Hand on messages, note confirmations."""
        self._heard_count += 1
        for reply in replies:
            match reply:
                case [b"message", bytes() as channel, bytes() as message]:
                    self._deliver(channel, message)
                case [b"subscribe", bytes() as channel, *_]:
                    self._confirm(channel)
                case ErrorReply():
                    self._refuse(reply.text)
                case _:
                    pass  # a PONG, an unsubscription: being heard of is all they are for

    def on_writable(self) -> None:
        """Nothing is ever held back here."""

    def on_lost(self, why: str) -> None:
        """Have the connection opened again."""
        self._why = why
        link, self._link = self._link, None
        if link is not None:
            link.abort()
        if not self._lost.done():
            self._lost.set_result(None)

    def _deliver(self, channel: bytes, message: bytes) -> None:
        callback = self._callbacks.get(channel)
        if callback is None:
            return
        try:
            callback(message)
        except Exception as error:  # noqa: BLE001  one owner's mistake must not cost the others their messages
            context = {"message": f"A callback for channel {channel!r} failed", "exception": error}
            self._loop.call_exception_handler(context)

    def _confirm(self, channel: bytes) -> None:
        confirmation = self._confirmations.pop(channel, None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(None)
        # All channels went into one SUBSCRIBE: with the first they are all there.
        if self._is_resubscribing:
            self._is_resubscribing = False
            if self.on_reconnect is not None:
                self.on_reconnect()

    def _refuse(self, text: str) -> None:
        fault = fault_of(text)
        if fault in (Fault.LOST, Fault.MOVED):
            self._dialer.back_off()
        else:
            self._fail_confirmations(set(self._confirmations), store_error(self._address, fault, text))
        self.on_lost(text)


_CLOSED_HERE: Final = "the connection was closed by this process"
