"""The names of our keys. Every key of a queue shares the ``{queue}`` hash tag, so that Cluster keeps them together."""

from __future__ import annotations

import re

FORMAT_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9._:@-]{1,128}")


def base_key(namespace: str, queue: str) -> bytes:
    """What every key of ``queue`` begins with: ``aw:1:{default}:``."""
    return f"{namespace}:{FORMAT_VERSION}:{{{queue}}}:".encode()


def is_name(value: object) -> bool:
    """True for what may be a job id, a unique key or a queue's name: part of a URL and of a Redis key."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
