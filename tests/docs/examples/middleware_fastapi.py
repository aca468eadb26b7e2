"""How-to: middleware, FastAPI."""

# --8<-- [start:imports]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb

# --8<-- [end:imports]
from tests.docs.examples.middleware import as_tenant, build_report, with_tenant

# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, tasks=[build_report], enqueue_middleware=[with_tenant], middleware=[as_tenant])
# --8<-- [end:app]
