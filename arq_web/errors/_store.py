"""What Redis said, or did not."""

from __future__ import annotations

from arq_web.errors._base import ArqWebError


class StoreError(ArqWebError):
    """Redis said no, or nothing. ``address`` never contains credentials."""

    def __init__(self, address: str, why: str) -> None:
        self.address, self.why = address, why
        super().__init__(address, why)


class StoreUnavailable(StoreError):
    """Redis did not answer in time. Sending the same thing again is safe."""

    def __str__(self) -> str:
        return (
            f"Redis at {self.address} did not answer: {self.why}. It may or may not have received the command; "
            "sending it again is safe. Check that it runs and that this host can reach it."
        )


class StoreRefused(StoreError):
    """Redis refused the connection's credentials or rights."""

    def __str__(self) -> str:
        return (
            f"Redis at {self.address} refused us: {self.why}. Check user name and password in the URL "
            "(percent-encode special characters) and the ACL of that user."
        )


class StoreFull(StoreError):
    """Redis has no memory left (``maxmemory`` with ``noeviction``)."""

    def __str__(self) -> str:
        return (
            f"Redis at {self.address} is full: {self.why}. Nothing was enqueued. Raise maxmemory, or let the "
            "workers drain the queue first."
        )


class StoreCorrupt(StoreError):
    """A key of ours holds something that is not ours, or a script failed on it."""

    def __str__(self) -> str:
        return (
            f"A key of arq_web in Redis at {self.address} is not what it should be: {self.why}. "
            "Another program may write into this namespace; give each app its own (namespace=, ARQ_WEB_NAMESPACE)."
        )
