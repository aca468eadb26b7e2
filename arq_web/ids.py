"""Ids of jobs whose enqueue names none."""

from __future__ import annotations

import os

_BYTES = 16
_VARIANT = "89ab"


def new_ids(count: int) -> list[str]:
    """As ``uuid.uuid4().hex`` makes them (RFC 9562: 122 random bits): 32 hexadecimal digits each.

    All are of one read of the system's randomness, which takes longer than all the rest of an enqueue. None is kept for
    later: a process that is forked, or a machine that is cloned, must not give the same ids as the other one.
    """
    digits = os.urandom(_BYTES * count).hex()
    return [_id(digits[first : first + 2 * _BYTES]) for first in range(0, len(digits), 2 * _BYTES)]


def _id(digits: str) -> str:
    return f"{digits[:12]}4{digits[13:16]}{_VARIANT[int(digits[16], 16) & 3]}{digits[17:]}"
