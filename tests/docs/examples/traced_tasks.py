"""How-to: traces, what is the same in both frameworks."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from arq_web import task
from arq_web.tracing import Tracing

# --8<-- [start:task]
tracer = trace.get_tracer("shop")


@task
async def resize(width: int) -> int:
    with tracer.start_as_current_span("read the picture"):  # a child of the attempt's span
        ...
    return width


# --8<-- [end:task]


# --8<-- [start:provider]
def set_up_traces(exporter: SpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


# --8<-- [end:provider]


# --8<-- [start:options]
in_one_trace = Tracing(link="child")
one_in_a_hundred = Tracing(sample=0.01)
# --8<-- [end:options]
