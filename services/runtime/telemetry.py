"""Traces, metrics and logs: W3C trace context through every hop at a price the request path can bear.

A call whose trace is not sampled carries its ids along and makes no span object at all: measured beforehand, spans
at 100 % cost a third of the throughput, and the SDK's bookkeeping for unsampled ones still a tenth.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from grpc import ssl_channel_credentials
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Meter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from services.runtime.config import Telemetry as TelemetrySettings

TRACEPARENT = "traceparent"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a call stands in its trace (W3C Trace Context §3.2): ids in lower-case hex."""

    trace_id: str
    span_id: str
    sampled: bool
    span: Span | None = None
    asked: bool = False
    """Whether the caller wants the trace recorded, which it is once it is known who asks."""

    @property
    def traceparent(self) -> str:
        """The header that hands this context on."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


_current: ContextVar[TraceContext | None] = ContextVar("strongroom_trace", default=None)


def current() -> TraceContext | None:
    """The trace context of the call in work, if there is one."""
    return _current.get()


class Telemetry:
    """A service's tracer and meter, set up once in its composition root."""

    def __init__(self, service: str, settings: TelemetrySettings) -> None:
        resource = Resource.create({"service.name": f"strongroom-{service}", "process.pid": os.getpid()})
        self._ratio = settings.sample_ratio
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._spans: TextIO | None = None
        if settings.span_directory:
            settings.span_directory.mkdir(parents=True, exist_ok=True)
            self._spans = (settings.span_directory / f"{service}-{os.getpid()}.jsonl").open("a")
            exporter = ConsoleSpanExporter(out=self._spans, formatter=_span_line)
            self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
        self._meters = self._export_to(settings, resource) if settings.otlp_endpoint else None
        self._tracer = self._provider.get_tracer("strongroom")
        self.meter: Meter = (self._meters or NoOpMeterProvider()).get_meter("strongroom")
        duration = self.meter.create_histogram("rpc.server.duration", unit="s", description="duration of calls")
        self._duration = duration if self._meters else None

    def start_call(self, service: str, method: str, traceparent: str, *, may_begin: bool = True) -> TraceContext:
        """Begins the server's side of a call and makes its context current.

        A call that belongs to no trace yet begins one, sampled by the configured ratio when it `may_begin` one at all:
        what the mesh does for itself, such as polling, is not worth a trace. What the caller says of sampling counts
        once `caller_known` says so.
        """
        context = _parsed(traceparent)
        if context is None:
            sampled = may_begin and random.random() < self._ratio  # noqa: S311  # a coin, not a secret
            # No secrets; zero, which is no id, comes once in 2^64. A system call for each lets go of Python's lock.
            context = TraceContext(f"{random.getrandbits(128):032x}", f"{random.getrandbits(64):016x}", sampled)
            if sampled:
                context = self._recording(service, method, None)
        elif context.sampled:
            context = TraceContext(context.trace_id, context.span_id, sampled=False, asked=True)
        _current.set(context)
        return context

    def caller_known(self, context: TraceContext, service: str, method: str) -> TraceContext:
        """Records from here on a call whose caller asked for that, and may: nobody else makes the mesh record."""
        if context.asked and context.span is None:
            parent = TraceContext(context.trace_id, context.span_id, sampled=True)
            context = self._recording(service, method, parent)
            _current.set(context)
        return context

    def end_call(self, context: TraceContext, service: str, method: str, outcome: str, started: float) -> None:
        """Ends what `start_call` began; `outcome` is "OK" or the reason of the error, `started` a monotonic time."""
        if context.span is not None:
            context.span.set_attribute("rpc.outcome", outcome)
            if outcome != "OK":
                context.span.set_status(Status(StatusCode.ERROR, outcome))
            context.span.end()
        if self._duration is not None:
            self._duration.record(
                time.perf_counter() - started,
                {"rpc.service": service, "rpc.method": method, "outcome": outcome},
            )

    def notes_end_of(self, context: TraceContext) -> bool:
        """Whether `end_call` does anything for such a call."""
        return context.span is not None or self._duration is not None

    @contextmanager
    def span(self, name: str, **attributes: str | int) -> Iterator[None]:
        """A child span for HSM, database or Redis work; costs nothing when the call is not sampled."""
        context = _current.get()
        if context is None or context.span is None:
            yield
            return
        parent = trace.set_span_in_context(context.span)
        with self._tracer.start_as_current_span(name, parent, kind=SpanKind.CLIENT, attributes=attributes):
            yield

    def record_remote(self, name: str, traceparents: Iterable[str], started_us: int, ended_us: int) -> None:
        """Adds one finished span to each of several traces, for work that one call did for many."""
        for traceparent in traceparents:
            parent = _parsed(traceparent)
            if parent is not None and parent.sampled:
                span = self._tracer.start_span(
                    name, _remote(parent), kind=SpanKind.SERVER, start_time=started_us * 1_000
                )
                span.end(ended_us * 1_000)

    def shutdown(self) -> None:
        """Flushes what is buffered, and closes what was opened."""
        self._provider.shutdown()
        if self._meters:
            self._meters.shutdown()
        if self._spans is not None:
            self._spans.close()

    def _recording(self, service: str, method: str, parent: TraceContext | None) -> TraceContext:
        span = self._tracer.start_span(
            f"{service}/{method}",
            _remote(parent) if parent else None,
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        ids = span.get_span_context()
        return TraceContext(f"{ids.trace_id:032x}", f"{ids.span_id:016x}", True, span)

    def _export_to(self, settings: TelemetrySettings, resource: Resource) -> MeterProvider:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        endpoint = settings.otlp_endpoint
        insecure = not endpoint.startswith("https://")
        trust = settings.otlp_trust.read_bytes() if settings.otlp_trust else None
        credentials = None if insecure else ssl_channel_credentials(trust)
        spans = OTLPSpanExporter(endpoint=endpoint, insecure=insecure, credentials=credentials)
        self._provider.add_span_processor(BatchSpanProcessor(spans))
        metrics = OTLPMetricExporter(endpoint=endpoint, insecure=insecure, credentials=credentials)
        return MeterProvider([PeriodicExportingMetricReader(metrics)], resource, shutdown_on_exit=False)


class JsonLines(logging.Formatter):
    """Log records as JSON lines, with the trace id of the call they belong to."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line: time, level, service, logger, message, trace id and whatever `extra={"fields": …}` adds."""
        context = _current.get()
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **({"trace_id": context.trace_id} if context else {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(service: str, level: str) -> None:
    """Sends all logging of the process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("alembic", "sqlalchemy"):
        logging.getLogger(chatty).setLevel("WARNING")


def _span_line(span: ReadableSpan) -> str:
    return json.dumps(json.loads(span.to_json())) + "\n"


def _remote(context: TraceContext) -> Context:
    ids = SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(NonRecordingSpan(ids))


def _parsed(traceparent: str) -> TraceContext | None:
    """Reads a `traceparent` header; anything malformed counts as absent (W3C Trace Context §3.3.1)."""
    if len(traceparent) != 55 or not traceparent.startswith("00-"):
        return None
    _, trace_id, span_id, flags = traceparent.split("-", 3)
    try:
        valid = len(trace_id) == 32 and len(span_id) == 16 and int(trace_id, 16) and int(span_id, 16)
        sampled = bool(int(flags, 16) & 1)
    except ValueError:
        return None
    return TraceContext(trace_id, span_id, sampled) if valid else None
