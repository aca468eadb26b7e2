"""A shop of its own for every test: an empty data directory, a mail server that writes into a list of messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from email.message import Message
from pathlib import Path

import pytest
from aiosmtpd.handlers import Message as MessageHandler
from aiosmtpd.smtp import SMTP

from example_app.shop.settings import make_directories
from tests.support.redis_server import NoRedisServer, running_redis


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, as the shop does."""
    return "asyncio"


@pytest.fixture
def shop_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shop's data directory."""
    monkeypatch.setenv("SHOP_DATA", str(tmp_path))
    make_directories()
    return tmp_path


class Inbox(MessageHandler):
    """A mail server's handler: keeps what it gets, and says to the next recipient what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []
        self.answer = "250 OK"

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd looks for this name
        self, server: object, session: object, envelope: object, address: str, options: object
    ) -> str:
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)  # type: ignore[attr-defined]
        return self.answer


@pytest.fixture
async def inbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Inbox]:
    """A mail server that the shop's settings name."""
    inbox = Inbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(inbox), "127.0.0.1", 0)
    monkeypatch.setenv("SHOP_SMTP_PORT", str(server.sockets[0].getsockname()[1]))
    yield inbox
    server.close()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis of this session; skips the tests that ask for it where there is none."""
    try:
        with running_redis() as server:
            yield server.url
    except NoRedisServer as missing:
        pytest.skip(str(missing))


@pytest.fixture(params=["in memory", "redis"])
def jobs_redis_url(request: pytest.FixtureRequest) -> str | None:
    """Every test of jobs runs with and without a Redis: the kit's fixture `jobs` asks for this one."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None
