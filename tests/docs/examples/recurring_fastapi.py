"""How-to: schedules, FastAPI."""

from tests.docs.examples.recurring import SCHEDULES

# --8<-- [start:app]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb

app = FastAPI()
ArqWeb(app, schedules=SCHEDULES)
# --8<-- [end:app]
