"""Databases for tests: a new one each time, on every server that there is here."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.support.postgres import NoPostgres, PostgresServer, running_postgres

MYSQL_ENV = "ARQ_WEB_TEST_MYSQL"
"""A running MySQL or MariaDB, whose user may create databases: mysql+aiomysql://user:password@127.0.0.1:3306/mysql."""
DATABASES = ("sqlite", "postgresql", *(("mysql",) if MYSQL_ENV in os.environ else ()))
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
    server = os.environ[MYSQL_ENV] if kind == "mysql" else request.getfixturevalue("postgres_server").url()
    name = f"test{os.getpid()}_{next(_numbers)}"
    drop = f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else "")
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        async with engine.connect() as connection:
            await connection.execute(text(drop))
        await engine.dispose()
