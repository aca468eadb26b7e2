"""The outbox's table, for the user's own metadata, and the clock of the database that it is in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from arq_web.errors import InvalidConfig

TABLE_NAME = "arq_web_outbox"
_MARK = "arq_web_outbox"
_CLOCKS = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    # Not now(): that is when the transaction began.
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
    # Not UNIX_TIMESTAMP(NOW()): an hour each autumn is there twice in most zones.
    "mysql": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000",
}
_CLOCKS["mariadb"] = _CLOCKS["mysql"]


class now_ms(FunctionElement[int]):  # noqa: N801 - reads as a function, as those of SQLAlchemy do
    """The time by the database's own clock, ms since the epoch. Web and worker hosts may disagree; it is one."""

    type = BigInteger()
    inherit_cache = True
    name = "arq_web_now_ms"


@compiles(now_ms)
def _compile_now_ms(_element: object, compiler: Any, **_options: object) -> str:
    dialect = compiler.dialect.name
    if dialect not in _CLOCKS:
        raise CompileError(f"arq_web.outbox knows SQLite, PostgreSQL, MySQL and MariaDB, not {dialect}.")
    return _CLOCKS[dialect]


def outbox_table(metadata: MetaData, name: str = TABLE_NAME, *, schema: str | None = None) -> Table:
    """Add the outbox's table to ``metadata``: ``create_all`` and Alembic then see it as one of yours.

    Args:
        metadata: that of your models, so that both are in one database: ``Base.metadata``.
        name: of the table.
        schema: of the table; default that of the metadata.
    """
    # Neither a default of the database nor a time type: each database has other ones, and none of them is needed.
    return Table(
        name,
        metadata,
        # In the order in which they were written: so they are relayed.
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("queue", String(128), nullable=False),
        Column("task", String(200), nullable=False),
        Column("job_id", String(128), nullable=False),
        # The arguments, as the task's codec encoded them: bytes, whatever the database makes of text.
        Column("payload", LargeBinary().with_variant(LONGBLOB, "mysql", "mariadb"), nullable=False),
        Column("options", Text, nullable=False),
        Column("receipt", String(32), nullable=False),
        Column("created_ms", BigInteger, nullable=False, default=now_ms()),
        # The relay's own: which of them has the row, and until when nobody else is to take it.
        Column("claim", String(32)),
        Column("claimed_until_ms", BigInteger, nullable=False, default=0),
        Column("tried_ms", BigInteger),
        Column("refusals", Integer, nullable=False, default=0),
        Column("error", Text),
        schema=schema,
        info={_MARK: True},
    )


def check_table(table: Table) -> Table:
    """That table, if it is one of ours.

    Raises:
        InvalidConfig: it is not.
    """
    if not isinstance(table, Table) or not table.info.get(_MARK):
        raise InvalidConfig("table", table, "what outbox_table(metadata) returned")
    return table
