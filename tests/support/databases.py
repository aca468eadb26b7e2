"""Databases for tests: a new one each time, on every server that there is here."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.postgres import NoPostgres, PostgresServer, running_postgres

DATABASES = ("sqlite", "postgresql")
_numbers = itertools.count(1)


@contextmanager
def postgres_or_skip() -> Generator[PostgresServer]:
    """A server for this block; skips the test where there can be none."""
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("asyncpg is not installed")
    try:
        with running_postgres() as server:
            yield server
    except NoPostgres as missing:
        pytest.skip(str(missing))


@asynccontextmanager
async def new_database(kind: str, folder: Path, request: pytest.FixtureRequest) -> AsyncGenerator[str]:
    """The address of an empty database of that kind, for an async engine. It is dropped in the end."""
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / f'test{next(_numbers)}.sqlite'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"test{next(_numbers)}"
    engine = create_async_engine(server.url(), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.url(database=name)
    finally:
        async with engine.connect() as connection:
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        await engine.dispose()
