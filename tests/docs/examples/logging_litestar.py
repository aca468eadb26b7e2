"""Docs snippets: one id from a request into its jobs."""

# --8<-- [start:ids]
from litestar import Litestar

from arq_web.litestar import ArqWeb
from arq_web.logs import LogContext, RequestIds

context = LogContext()
jobs = ArqWeb(tasks=["tests.docs.examples.logging_job"], enqueue_middleware=[context.carry])
app = Litestar(plugins=[jobs], middleware=[RequestIds])
# --8<-- [end:ids]
