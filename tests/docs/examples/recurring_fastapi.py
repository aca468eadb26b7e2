"""How-to: schedules, FastAPI."""

# --8<-- [start:imports]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb

# --8<-- [end:imports]
from tests.docs.examples.recurring import SCHEDULES

# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, schedules=SCHEDULES)
# --8<-- [end:app]
