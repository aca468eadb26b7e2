"""Opening a connection: to a server, to the master the sentinels name, or to the cluster node that owns a key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, cast

from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from arq_web.errors import StoreRefused, StoreUnavailable
from arq_web.store.link import Link, Receiver, link_over
from arq_web.store.replies import ErrorReply, Reply
from arq_web.store.target import Node, RedisTarget, node_text


class Dialer:
    """Opens connections to one target, one attempt at a time, with a pause after every failure.

    The pause is 50 ms, doubling up to 500 ms (at most half of ``deadline_s``), with jitter.
    """

    def __init__(self, target: RedisTarget, *, deadline_s: float, key_hint: bytes | None = None) -> None:
        self.target = target
        self._deadline_s = deadline_s
        self._slot = None if key_hint is None else key_slot(key_hint)
        self._nodes = list(target.nodes)
        self._redirect: Node | None = None
        self._failure_count = 0
        self._not_before = 0.0

    async def dial(self, receiver: Receiver) -> Link:
        """Open, log in, and give the connection's replies to ``receiver``.

        Takes at most the pause (500 ms) and ``deadline_s``.

        Raises:
            StoreRefused: the server does not take our credentials, or the database.
            StoreUnavailable: it could not be reached, or did not answer.
        """
        await asyncio.sleep(max(0.0, self._not_before - asyncio.get_running_loop().time()))
        before = _cancellations()
        try:
            async with asyncio.timeout(self._deadline_s):
                connection = await self._open()
        except (RedisError, OSError) as error:
            self.back_off()
            raise self._translate(error) from None  # the cause may repeat what we sent, password and all
        except StoreUnavailable:
            self.back_off()
            raise
        self._failure_count = 0
        if _cancellations() > before:
            await connection.disconnect(nowait=True)
            raise asyncio.CancelledError
        return link_over(connection, receiver)

    def back_off(self) -> None:
        """Make the next attempt wait: this one failed, or the server cannot serve us at the moment."""
        longest_s = min(_LONGEST_PAUSE_S, self._deadline_s / 2)
        pause_s = min(_FIRST_PAUSE_S * 2**self._failure_count, longest_s)
        self._failure_count = min(self._failure_count + 1, _MOST_DOUBLINGS)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311  not a secret
        self._not_before = asyncio.get_running_loop().time() + pause_s * jitter

    def redirect(self, moved: str) -> None:
        """Connect to the node that a ``MOVED <slot> <host>:<port>`` reply names, next time."""
        host, _, port = moved.rpartition(" ")[2].rpartition(":")
        if host and port.isdigit():
            self._redirect = (host, int(port))

    # -- one attempt ----------------------------------------------------------------------

    async def _open(self) -> AbstractConnection:
        match self.target.kind:
            case "single":
                return await self._log_in(self.target.make_connection(timeout_s=self._deadline_s))
            case "sentinel":
                return await self._open_master()
            case "cluster":
                return await self._open_owner()

    async def _open_master(self) -> AbstractConnection:
        master = await self._ask_nodes(self._ask_sentinel)
        connection = await self._log_in(self.target.make_connection(master, timeout_s=self._deadline_s))
        role = await self._ask(connection, "ROLE")
        if isinstance(role, list) and role[0] == b"master":
            return connection
        # A sentinel that lags names the old master for a while; it would refuse our writes.
        await connection.disconnect(nowait=True)
        raise self._unavailable(f"{node_text(master)} is no longer the master {self.target.master!r}")

    async def _open_owner(self) -> AbstractConnection:
        owner, self._redirect = self._redirect, None
        if owner is None:
            owner = await self._ask_nodes(self._ask_seed)
        return await self._log_in(self.target.make_connection(owner, timeout_s=self._deadline_s))

    async def _ask_nodes(self, ask: Callable[[Node, float], Awaitable[Node | None]]) -> Node:
        """Ask one node after the other for an address; who answers is asked first the next time."""
        # A share of the time each: a first node that swallows everything must not cost us the others.
        share_s = self._deadline_s / (len(self._nodes) + 1)
        whys: list[str] = []
        for node in list(self._nodes):
            try:
                async with asyncio.timeout(share_s):
                    found = await ask(node, share_s)
            except (RedisError, OSError) as error:
                if _is_refusal(error):
                    raise
                whys.append(f"{node_text(node)}: {str(error) or 'no answer'}")
                continue
            if found is not None:
                self._nodes.remove(node)
                self._nodes.insert(0, node)
                return found
            whys.append(f"{node_text(node)} does not know")
        what = f"the master {self.target.master!r}" if self.target.kind == "sentinel" else "the owner of the slot"
        raise self._unavailable(f"nobody told us {what} ({'; '.join(whys)})")

    async def _ask_sentinel(self, sentinel: Node, timeout_s: float) -> Node | None:
        connection = await self._log_in(self.target.make_sentinel_connection(sentinel, timeout_s=timeout_s))
        try:
            found = await self._ask(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.target.master)
        finally:
            await connection.disconnect(nowait=True)
        match found:
            case [bytes() as host, bytes() as port]:
                return host.decode(), int(port)
            case _:
                return None

    async def _ask_seed(self, seed: Node, timeout_s: float) -> Node | None:
        connection = await self._log_in(self.target.make_connection(seed, timeout_s=timeout_s))
        try:
            ranges = await self._ask(connection, "CLUSTER", "SLOTS")
        finally:
            await connection.disconnect(nowait=True)
        if self._slot is None:
            return seed
        for entry in ranges if isinstance(ranges, list) else []:
            match entry:
                case [int() as first, int() as last, [host, int() as port, *_], *_] if first <= self._slot <= last:
                    # A node that does not know its own address says "" or null: the one we reached it by.
                    return (host.decode() if isinstance(host, bytes) and host else seed[0]), port
                case _:
                    continue
        return None

    async def _log_in(self, connection: AbstractConnection) -> AbstractConnection:
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _ask(self, connection: AbstractConnection, *args: str) -> Reply:
        try:
            await connection.send_command(*args, check_health=False)
            return cast("Reply", await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    # -- failures -------------------------------------------------------------------------

    def _translate(self, error: Exception) -> StoreRefused | StoreUnavailable:
        why = self.target.scrub(ErrorReply(error).text)
        if _is_refusal(error):
            return StoreRefused(self.target.address, why)
        return self._unavailable(why or f"no answer within {self._deadline_s:g} s")

    def _unavailable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(self.target.address, why)


_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_MOST_DOUBLINGS: Final = 10


def _cancellations() -> int:
    # The wait_for of Python 3.11, by which redis-py sends, loses a cancellation that comes when its future is done.
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _is_refusal(error: BaseException | None) -> bool:
    # Over a unix socket redis-py logs in while it connects, and wraps what goes wrong there.
    while error is not None:
        # ReadOnlyError and its like are ResponseErrors too, but no step of a login meets them.
        if isinstance(error, (AuthenticationError, AuthorizationError, ResponseError)):
            return True
        error = error.__cause__
    return False
