"""``Idempotency-Key``: what makes two requests the same, as two hashes that are kept with the job.

The **key** is known by who asks, for what (method and route), and the word that the client chose: two users, or two
routes, may choose the same. The **fingerprint** tells what is asked for: the validated values of path, query and body.
Headers and cookies may differ: a token is renewed, and a trace goes on.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from arq_web.codec import canonical
from arq_web.config import Config
from arq_web.http.asked import Asked
from arq_web.options import TaskPolicy
from arq_web.store.messages import Idempotency

HASH_BYTES = 16
"""Of the SHA-256: nobody finds another request to the same 128 bits, and a key is kept for a day."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What tells a request of a route that comes again from another one."""

    names: frozenset[str] = frozenset()
    """The arguments that path, query and body give, also by a dependency that reads the body."""
    query: bool = False
    """The query counts as it is written, too: dependencies read the request, and nobody sees what of it."""


def idempotency(
    asked: Asked,
    key: str,
    principal: str | None,
    arguments: Mapping[str, object],
    compared: Compared,
    keep_ms: int,
) -> Idempotency:
    """What is kept of a request that may come again.

    Args:
        asked: the request.
        key: its ``Idempotency-Key``.
        principal: who asks, if that is known.
        arguments: the job's, validated.
        compared: what of it counts; what the path says always does.
        keep_ms: for how long the key is known.
    """
    given = {name: value for name, value in arguments.items() if name in compared.names}
    beside = {name: text for name, text in asked.path_params.items() if name not in given}
    query = sorted((name, text) for name, text in asked.query_pairs if compared.query and name not in given)
    return Idempotency(
        key=_hash((principal, asked.method, asked.route, key)),
        fingerprint=_hash((asked.method, asked.route, given, beside, query)),
        keep_ms=keep_ms,
    )


def kept_ms(config: Config, policy: TaskPolicy) -> int:
    """How long a key of a task's route is known: at least as long as the job's result."""
    keep_result_s = config.keep_result_s if policy.keep_result_ms is None else policy.keep_result_ms / 1000
    return int(max(config.keep_idempotency_s, keep_result_s) * 1000)


def _hash(value: object) -> str:
    return urlsafe_b64encode(hashlib.sha256(canonical(value)).digest()[:HASH_BYTES]).rstrip(b"=").decode()
