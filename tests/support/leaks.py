"""The key-leak check: after a test, every key must have an owner or an end (P6 in the docs' delivery guarantees).

A key either carries a TTL, or it is one of these:

- ``j:<id>`` ``p:<id>`` ``u:<key>``: the record, large payload or unique key of a job that has not ended. Such a key
  must *not* have a TTL, or the job could vanish while it waits;
- ``ready`` ``due`` ``leases``: a sorted set, all of whose members have a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import redis

FORMAT_VERSION = 1
LIVE_STATES = frozenset(b"sqrt")  # scheduled, queued, running, retrying
ENDED_STATES = frozenset(b"cdxe")  # succeeded, dead, cancelled, expired
INDEXES = ("ready", "due", "leases")
_NO_TTL = -1
_NO_KEY = -2


def leaked_keys(client: redis.Redis, namespace: str) -> list[str]:
    """List the keys of ``namespace`` that break the rule, each with what is wrong about it."""
    keys = cast("list[bytes]", list(client.scan_iter(match=f"{namespace}:*", count=1000)))
    return sorted(f"{key.decode(errors='replace')}: {why}" for key in set(keys) for why in _faults(client, key))


def delete_keys(client: redis.Redis, namespace: str) -> None:
    """Delete all keys of ``namespace``, so that the next test's check has only its own to look at."""
    keys = cast("list[bytes]", list(client.scan_iter(match=f"{namespace}:*", count=1000)))
    if keys:
        client.unlink(*keys)


def _faults(client: redis.Redis, key: bytes) -> Iterator[str]:
    ttl_ms = client.pttl(key)
    if ttl_ms == _NO_KEY:  # its time came while we were looking
        return
    match = re.fullmatch(rb"([^:]+:%d:\{[^}]*\}:)(.+)" % FORMAT_VERSION, key, re.DOTALL)
    base, rest = match.groups() if match else (b"", b"")
    kind, _, name = rest.partition(b":")
    if kind in (b"j", b"p", b"u") and name:
        yield from _job_key_faults(client, base, kind, name, has_ttl=ttl_ms != _NO_TTL)
    elif rest.decode(errors="replace") in INDEXES:
        yield from _index_faults(client, base, key)
    elif ttl_ms == _NO_TTL:
        yield "no TTL, and no job owns it"


def _job_key_faults(client: redis.Redis, base: bytes, kind: bytes, name: bytes, *, has_ttl: bool) -> Iterator[str]:
    job_id = _string(client, base + b"u:" + name) if kind == b"u" else name
    record = _string(client, base + b"j:" + job_id) if job_id else None
    state = record[0] if record else None
    if state in LIVE_STATES and has_ttl:
        yield f"a TTL, though its job is in state {chr(state)!r} and has not ended"
    if state in ENDED_STATES and not has_ttl:
        yield f"no TTL, though its job has ended (state {chr(state)!r})"
    if state is None and not has_ttl:
        yield "no TTL, and its job has no record"
    if state is not None and state not in LIVE_STATES | ENDED_STATES:
        yield f"a record in an unknown state {chr(state)!r}"


def _index_faults(client: redis.Redis, base: bytes, key: bytes) -> Iterator[str]:
    if client.type(key) != b"zset":
        yield "not a sorted set"
        return
    for member in cast("list[bytes]", client.zrange(key, 0, -1)):
        if not client.exists(base + b"j:" + member):
            yield f"member {member.decode(errors='replace')!r} has no record"


def _string(client: redis.Redis, key: bytes) -> bytes | None:
    return cast("bytes | None", client.get(key)) if client.type(key) == b"string" else None
