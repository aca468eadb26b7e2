"""The outbox: jobs are rows of your own database, in your own transaction, until a relay has enqueued them.

::

    outbox_rows = outbox_table(Base.metadata)                          # beside your models
    ArqWeb(app, tasks=[...], outbox=Outbox(engine, outbox_rows))

    queue.outbox(session).enqueue(send_receipt, order.id)              # with your rows, or not at all
"""

try:
    from arq_web.outbox.outbox import Outbox
    from arq_web.outbox.table import outbox_table
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("sqlalchemy"):
        raise
    from arq_web.errors import MissingExtra

    raise MissingExtra("SQLAlchemy (for arq_web.outbox)", "sqlalchemy") from error

__all__ = ["Outbox", "outbox_table"]
