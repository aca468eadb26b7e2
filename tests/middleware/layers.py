"""What an app may put around its jobs: a tenant, a cipher, a switch, and one that notes who came by."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from arq_web import IncomingJob, OutgoingJob, Snooze

Next = Callable[[Any], Awaitable[Any]]

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@contextmanager
def acting_for(name: str) -> Iterator[None]:
    """Whose request it is, in this block."""
    token = tenant.set(name)
    try:
        yield
    finally:
        tenant.reset(token)


async def with_tenant(job: OutgoingJob, call_next: Next) -> Any:
    job.headers["tenant"] = tenant.get()
    return await call_next(job)


async def as_tenant(job: IncomingJob, call_next: Next) -> Any:
    with acting_for(job.headers.get("tenant", "nobody")):
        return await call_next(job)


class WrongKey(Exception):
    """These bytes were not encrypted with this key, or somebody has changed them."""


@dataclass(frozen=True)
class Cipher:
    """Counter mode over HMAC-SHA256 with a random nonce and a tag: what AES-GCM does, of the standard library alone."""

    key: bytes

    def encrypt(self, text: bytes) -> bytes:
        nonce = secrets.token_bytes(16)
        body = self._mixed(nonce, text)
        return nonce + self._tag(nonce + body) + body

    def decrypt(self, sealed: bytes) -> bytes:
        nonce, tag, body = sealed[:16], sealed[16:48], sealed[48:]
        if not hmac.compare_digest(tag, self._tag(nonce + body)):
            raise WrongKey
        return self._mixed(nonce, body)

    async def sealing(self, job: OutgoingJob, call_next: Next) -> Any:
        job.payload = self.encrypt(job.payload)
        return await call_next(job)

    async def opening(self, job: IncomingJob, call_next: Next) -> Any:
        job.payload = self.decrypt(job.payload)
        return await call_next(job)

    def _mixed(self, nonce: bytes, text: bytes) -> bytes:
        blocks = range(-(-len(text) // 32))
        stream = b"".join(hmac.digest(self.key, nonce + at.to_bytes(4, "big"), hashlib.sha256) for at in blocks)
        return bytes(one ^ other for one, other in zip(text, stream, strict=False))

    def _tag(self, sealed: bytes) -> bytes:
        return hmac.digest(self.key, b"tag" + sealed, hashlib.sha256)


@dataclass
class Switch:
    """A feature flag: what is off is neither enqueued nor run, but later."""

    off: set[str] = field(default_factory=set)

    async def refusing(self, job: OutgoingJob, call_next: Next) -> Any:
        if job.task in self.off:
            raise PermissionError(f"{job.task} is switched off")
        return await call_next(job)

    async def snoozing(self, job: IncomingJob, call_next: Next) -> Any:
        if job.task in self.off:
            raise Snooze(delay=3600)
        return await call_next(job)


@dataclass
class Noting:
    """Writes down what comes by, in and out, and with what."""

    notes: list[str]
    name: str

    async def __call__(self, job: Any, call_next: Next) -> Any:
        self.notes.append(f"{self.name} in")
        try:
            answer = await call_next(job)
        except BaseException as error:
            self.notes.append(f"{self.name} {type(error).__name__}")
            raise
        self.notes.append(f"{self.name} out")
        return answer
