"""How-to: middleware, Litestar."""

# --8<-- [start:imports]
from litestar import Litestar

from arq_web.litestar import ArqWeb

# --8<-- [end:imports]
from tests.docs.examples.middleware import as_tenant, build_report, with_tenant

# --8<-- [start:app]
app = Litestar(plugins=[ArqWeb(tasks=[build_report], enqueue_middleware=[with_tenant], middleware=[as_tenant])])
# --8<-- [end:app]
