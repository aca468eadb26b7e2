"""Jobs as a real arq has serialised them: read, and written again for our worker. They are pickles, mostly."""

from __future__ import annotations

import io
import pickle
from typing import Any, cast

from arq_web.arq._envelope import Deserializer, Serializer


class Unreadable(Exception):
    """This job cannot be moved; says why."""


class Envelopes:
    """Reads and writes them with the functions of the worker settings; without, they are pickles."""

    def __init__(self, deserializer: Deserializer | None, serializer: Serializer | None) -> None:
        self._deserializer, self._serializer = deserializer, serializer

    def read(self, raw: bytes) -> tuple[dict[str, Any], bytes]:
        """The job, and the bytes with which our worker will read the same.

        Raises:
            Unreadable: it is none, or not to be read with these functions.
        """
        try:
            if self._deserializer is not None:
                return _checked(self._deserializer(raw)), raw
            unpickler = _Unpickler(io.BytesIO(raw))
            envelope = _checked(unpickler.load())
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(f"it cannot be deserialised: {type(error).__name__}: {error}") from error
        return envelope, self.write(envelope) if unpickler.is_translated else raw

    def write(self, envelope: dict[str, Any]) -> bytes:
        """Serialise, and see that the worker can read it: settings may have one half of a serializer only.

        Raises:
            Unreadable: it cannot.
        """
        try:
            written = (self._serializer or pickle.dumps)(envelope)
            _checked((self._deserializer or pickle.loads)(written))
        except Exception as error:
            why = f"{type(error).__name__}: {error} (do the settings have both job_serializer and job_deserializer?)"
            raise Unreadable(f"it cannot be written again, with its number of tries: {why}") from error
        return written


def _checked(found: object) -> dict[str, Any]:
    envelope = cast("dict[str, Any]", found)
    is_job = isinstance(found, dict) and {"f", "a", "k", "t", "et"} <= set(envelope)
    if not is_job or not isinstance(envelope["et"], int) or not isinstance(envelope["f"], str):
        raise Unreadable("it is not one of arq's jobs")
    return envelope


class _Unpickler(pickle.Unpickler):
    """Reads what arq's users pickled; a class of arq's own is ours here."""

    is_translated = False

    def find_class(self, module: str, name: str) -> Any:
        if module == "arq" or module.startswith("arq."):
            self.is_translated = True
            module = "arq_web." + module
        return super().find_class(module, name)
