"""The engine's way to the Redis of a client: one set of connections per Redis and process, whatever pools there are.

arq's users make a pool per request and never close it; so what belongs to a pool must not be what costs a socket.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import redis.exceptions
from redis.asyncio import Redis

from arq_web.arq._translate import queue_word
from arq_web.config import ENV_PREFIX, Config
from arq_web.errors import StoreError, StoreRefused, StoreUnavailable
from arq_web.queue import QueueSet
from arq_web.store.connection import Connections
from arq_web.store.pool_target import PoolTarget, from_pool
from arq_web.store.store import Store
from arq_web.store.watcher import Watcher


class Link:
    """Connections, queues and reply channels in one Redis and namespace."""

    def __init__(self, target: PoolTarget, config: Config) -> None:
        """Open nothing yet."""
        self.connections = Connections(target, deadline_s=config.command_deadline_s)
        self.queues = QueueSet(self.connections, config)
        self._stores: dict[str, Store] = {}
        self._users: weakref.WeakSet[Redis] = weakref.WeakSet()

    def store(self, queue_name: str) -> Store:
        """The verbs of a queue, by arq's name for it."""
        store = self._stores.get(queue_name)
        if store is None:
            store = self._stores[queue_name] = self.queues.store(queue_word(queue_name))
        return store

    def watcher(self) -> Watcher:
        """Tells when jobs end."""
        return self.queues.watcher()

    def queues_of_worker(self, keep_dead_s: float) -> QueueSet:
        """The same queues, for a worker: jobs that end without an outcome of their own are kept for so long."""
        config = self.queues.config
        return QueueSet(self.connections, replace(config, keep_dead_s=min(max(keep_dead_s, 60.0), 366 * 86_400.0)))

    def take(self, client: Redis) -> None:
        """``client`` uses this."""
        self._users.add(client)

    async def leave(self, client: Redis) -> None:
        """``client`` is closed; with the last one the running loop's connections are."""
        self._users.discard(client)
        if not self._users:
            _forget(self)
            await self.connections.aclose()


def link_of(client: Redis) -> Link:
    """The link of a client; every client of the same Redis has the same one."""
    known, namespace = _link_by_client.get(client), os.environ.get(_NAMESPACE_ENV)
    if known is None or known[0] != namespace:
        link = _shared_link(from_pool(client.connection_pool), Config.from_env())
        known = _link_by_client[client] = namespace, link
        link.take(client)
    return known[1]


async def leave(client: Redis) -> None:
    """The client is closed: its link may be closed too."""
    known = _link_by_client.pop(client, None)
    if known is not None:
        await known[1].leave(client)


@contextmanager
def as_redis_errors() -> Iterator[None]:
    """Let our errors be those that callers of a redis client expect."""
    try:
        yield
    except StoreUnavailable as error:
        raise redis.exceptions.ConnectionError(str(error)) from error
    except StoreRefused as error:
        raise redis.exceptions.AuthenticationError(str(error)) from error
    except StoreError as error:
        raise redis.exceptions.ResponseError(str(error)) from error


_link_by_client: weakref.WeakKeyDictionary[Redis, tuple[str | None, Link]] = weakref.WeakKeyDictionary()
_links: dict[Any, Link] = {}
_NAMESPACE_ENV = f"{ENV_PREFIX}NAMESPACE"
_making = threading.Lock()


def _shared_link(target: PoolTarget, config: Config) -> Link:
    key = (config, target.kind, target.nodes, target.connection_class, _key_of(target.options))
    with _making:
        found = _links.get(key)
        if found is None:
            found = _links[key] = Link(target, config)
        return found


def _forget(link: Link) -> None:
    """A fake server must not live as long as the process, because somebody asked it once."""
    with _making:
        for key in [key for key, each in _links.items() if each is link]:
            del _links[key]


def _key_of(options: Any) -> frozenset[tuple[str, object]]:
    return frozenset((name, _hashable(value)) for name, value in options.items())


def _hashable(value: object) -> object:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
