"""Filled in: a stand-in for asyncpg, a pool that writes each statement into a file of the test."""

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

LOG = Path(os.environ["TEST_FOLDER"]) / "sql"


def note(*what):
    with LOG.open("a") as log:
        log.write(json.dumps(what) + "\n")


class Connection:
    async def execute(self, sql, *args):
        note(sql, *args)

    async def executemany(self, sql, rows):
        note(sql, rows)

    async def fetch(self, sql, *args):
        note(sql, *args)
        return [{"id": 1, "email": "a@example.com"}, {"id": 2, "email": "b@example.com"}]

    async def fetchval(self, sql, *args):
        note(sql, *args)
        return 7


class Pool:
    @asynccontextmanager
    async def acquire(self):
        yield Connection()

    async def close(self):
        note("closed")


async def create_pool(**options):
    note("opened", options)
    return Pool()
