"""How-to: schedules, Litestar."""

# --8<-- [start:imports]
from litestar import Litestar

from arq_web.litestar import ArqWeb

# --8<-- [end:imports]
from tests.docs.examples.recurring import SCHEDULES

# --8<-- [start:app]
app = Litestar(plugins=[ArqWeb(schedules=SCHEDULES)])
# --8<-- [end:app]
