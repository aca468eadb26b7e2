"""Docs snippets: log lines within a job."""

# --8<-- [start:job]
import logging

from arq_web import task
from arq_web.logs import job_fields

log = logging.getLogger(__name__)


@task(log_args=["order_id"])
async def charge(order_id: int, card_number: str) -> None:
    log.info("asking the bank")
    with job_fields(bank="first"):
        log.info("the bank says yes", extra={"amount": 12})
        # --8<-- [end:job]
