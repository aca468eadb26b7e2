"""Docs snippets: one id from a request into its jobs."""

# --8<-- [start:ids]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb
from arq_web.logs import LogContext, RequestIds

app = FastAPI()
context = LogContext()
ArqWeb(app, tasks=["tests.docs.examples.logging_job"], enqueue_middleware=[context.carry])
app.add_middleware(RequestIds)
# --8<-- [end:ids]
