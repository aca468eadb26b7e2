"""How-to: metrics, FastAPI."""

# --8<-- [start:imports]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb

# --8<-- [end:imports]
from tests.docs.examples.watched_tasks import resize

# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, tasks=[resize], metrics=True, health_path="/-/jobs")
# --8<-- [end:app]
