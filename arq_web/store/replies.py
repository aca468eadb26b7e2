"""What Redis answers, and what an error reply means to us."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, TypeAlias

from arq_web.errors import StoreCorrupt, StoreError, StoreFull, StoreRefused, StoreUnavailable

Reply: TypeAlias = "bytes | int | list[Reply] | None"


class ErrorReply(Exception):
    """An error reply, as Redis worded it. Never leaves the store: ``store_error`` translates it."""

    @property
    def text(self) -> str:
        """The words, without the echo of arguments that some of them carry."""
        # "ERR unknown command 'X', with args beginning with: ..." would put a payload, or a password, into a log.
        return str(self).partition(", with args beginning with")[0]


class NoScript(StoreError):
    """Redis does not have the script of this digest (any more). Handled by ``Connection.run_script``."""

    def __str__(self) -> str:
        return f"Redis at {self.address} does not know the script: {self.why}."


class Fault(Enum):
    """What to do about an error reply."""

    REFUSED = auto()  # tell the user: credentials or rights
    FULL = auto()  # tell the user: memory
    LOST = auto()  # this server cannot serve us now: connect again, send once more
    MOVED = auto()  # another node of the cluster serves this key: connect there, send once more
    NO_SCRIPT = auto()  # send the script's text
    CORRUPT = auto()  # tell the user: our data, or our script, is not what it should be


def fault_of(text: str) -> Fault:
    """Classify an error reply, also one that a script passes on.

    Redis 7 keeps the code word first; 6.2 wraps it: ``ERR Error running script (call to f_<sha>):
    @user_script:1: @user_script: 1: -OOM command not allowed ...``.
    """
    found = _CODE.match(text)
    fault = _FAULTS.get(found[1]) if found else None
    if fault:
        return fault
    for words, meaning in _PHRASES:
        if words in text:
            return meaning
    return Fault.CORRUPT


def store_error(address: str, fault: Fault, why: str) -> StoreError:
    """Make the exception that a caller sees."""
    return _ERRORS[fault](address, why)


_CODE: Final = re.compile(
    r"(?:ERR Error running script \(call to f_[0-9a-f]{40}\): )?(?:@user_script: ?\d+: )*-?([A-Z]+)(?: |$)"
)

_FAULTS: Final = {
    "NOAUTH": Fault.REFUSED,
    "WRONGPASS": Fault.REFUSED,
    "NOPERM": Fault.REFUSED,
    "OOM": Fault.FULL,
    "READONLY": Fault.LOST,
    "LOADING": Fault.LOST,
    "BUSY": Fault.LOST,
    "MASTERDOWN": Fault.LOST,
    "NOREPLICAS": Fault.LOST,
    "MISCONF": Fault.LOST,
    "UNBLOCKED": Fault.LOST,
    "CLUSTERDOWN": Fault.LOST,
    "TRYAGAIN": Fault.LOST,
    "ASK": Fault.LOST,
    "MOVED": Fault.MOVED,
    "NOSCRIPT": Fault.NO_SCRIPT,
    "WRONGTYPE": Fault.CORRUPT,
}

# Replies whose code word is only ERR.
_PHRASES: Final = (
    ("The user executing the script can't", Fault.REFUSED),  # NOPERM within a script, 6.2 and 7.0
    ("ACL failure in script", Fault.REFUSED),  # the same, since 7.2
    ("unknown command", Fault.REFUSED),  # renamed away by the operator
    ("max number of clients", Fault.LOST),
    ("Script killed by user", Fault.LOST),
)

_ERRORS: Final[dict[Fault, type[StoreError]]] = {
    Fault.REFUSED: StoreRefused,
    Fault.FULL: StoreFull,
    Fault.LOST: StoreUnavailable,
    Fault.MOVED: StoreUnavailable,
    Fault.NO_SCRIPT: NoScript,
    Fault.CORRUPT: StoreCorrupt,
}
