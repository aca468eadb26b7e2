"""How-to: metrics, Litestar."""

# --8<-- [start:imports]
from litestar import Litestar

from arq_web.litestar import ArqWeb

# --8<-- [end:imports]
from tests.docs.examples.watched_tasks import resize

# --8<-- [start:app]
app = Litestar(plugins=[ArqWeb(tasks=[resize], metrics=True, health_path="/-/jobs")])
# --8<-- [end:app]
