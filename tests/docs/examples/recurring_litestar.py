"""How-to: schedules, Litestar."""

from tests.docs.examples.recurring import SCHEDULES

# --8<-- [start:app]
from litestar import Litestar

from arq_web.litestar import ArqWeb

app = Litestar(plugins=[ArqWeb(schedules=SCHEDULES)])
# --8<-- [end:app]
