"""Trace context on every call (W3C Trace Context), and spans for development in JSON lines.

A call belongs, in this order, to the trace that `Client.trace` began, to the application's current
OpenTelemetry span, or to a trace of its own.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from strongroom.errors import StrongroomError

TRACEPARENT = "traceparent"


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace: the trace's id (32 hex digits), the span in it (16), and whether it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The header that hands this place on (W3C Trace Context §3.2)."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> Trace:
        """A new span below this one."""
        return Trace(self.trace_id, _new_span_id(), self.sampled)


_active: ContextVar[Trace | None] = ContextVar("strongroom_client_trace", default=None)


class SpanFile:
    """Appends finished spans to a file in `directory`, in the form of OpenTelemetry's `ReadableSpan.to_json`.

    What cannot be written is dropped: tracing never makes a call fail.
    """

    def __init__(self, directory: Path, service_name: str) -> None:
        self._path = directory / f"{service_name}.jsonl"
        self._service_name = service_name

    def write(
        self,
        name: str,
        context: Trace,
        parent: Trace | None,
        started_ns: int,
        outcome: str,
        attributes: Mapping[str, str | int],
    ) -> None:
        """Writes one span that ends now; `outcome` is "OK" or the reason of an error."""
        status = {"status_code": "UNSET"} if outcome == "OK" else {"status_code": "ERROR", "description": outcome}
        span: dict[str, object] = {
            "name": name,
            "context": {
                "trace_id": f"0x{context.trace_id}",
                "span_id": f"0x{context.span_id}",
                "trace_state": "[]",
            },
            "kind": "SpanKind.CLIENT",
            "parent_id": f"0x{parent.span_id}" if parent else None,
            "start_time": _time_text(started_ns),
            "end_time": _time_text(time.time_ns()),
            "status": status,
            "attributes": dict(attributes),
            "events": [],
            "links": [],
            "resource": {
                "attributes": {"service.name": self._service_name, "process.pid": os.getpid()},
                "schema_url": "",
            },
        }
        with suppress(OSError):
            descriptor = _appending(self._path)
            try:
                # One write a line, so that lines of several processes do not mix.
                os.write(descriptor, json.dumps(span).encode() + b"\n")
            finally:
                os.close(descriptor)


def _appending(path: Path) -> int:
    """A file to append to, which is made where there is none; never where a link leads that leads nowhere. Raises
    OSError."""
    flags = os.O_WRONLY | os.O_APPEND
    for _ in range(2):
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        with suppress(FileExistsError):
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        # Another process has made it meanwhile, or it is such a link.
    raise FileNotFoundError(path)


class Tracing:
    """Gives each call its place in a trace. `sample_ratio` (0 to 1) is for traces that begin here."""

    def __init__(self, sample_ratio: float = 0.0, spans: SpanFile | None = None) -> None:
        self._sample_ratio = sample_ratio
        self._spans = spans
        self._last = threading.local()

    @property
    def last_trace_id(self) -> str:
        """The trace of this thread's last call; empty before the first."""
        return getattr(self._last, "trace_id", "")

    @contextmanager
    def span(
        self,
        name: str,
        *,
        sampled: bool | None = None,
        trace_id: str = "",
        attributes: Mapping[str, str | int],
    ) -> Iterator[Trace]:
        """One span around the block. Spans and calls inside it are its children.

        `trace_id` (32 hex digits, not all 0) and `sampled` are for a trace that begins here. Raises
        FIELD_INVALID.
        """
        parent = _active.get() or _of_application()
        context = parent.child() if parent and not trace_id else self._begin(trace_id, sampled)
        parent = None if trace_id else parent
        self._last.trace_id = context.trace_id
        started_ns = time.time_ns()
        token = _active.set(context)
        outcome = "OK"
        try:
            yield context
        except BaseException as error:
            outcome = error.reason if isinstance(error, StrongroomError) else type(error).__name__
            raise
        finally:
            _active.reset(token)
            if self._spans is not None and context.sampled:
                self._spans.write(name, context, parent, started_ns, outcome, attributes)

    def _begin(self, trace_id: str, sampled: bool | None) -> Trace:
        if trace_id and not _is_trace_id(trace_id):
            raise StrongroomError("FIELD_INVALID", "trace_id is not 32 lower-case hex digits", field="trace_id")
        chosen = random.random() < self._sample_ratio if sampled is None else sampled  # noqa: S311
        return Trace(trace_id or os.urandom(16).hex(), _new_span_id(), chosen)


def _of_application() -> Trace | None:
    """The application's own current span, if it uses OpenTelemetry: it has imported it then."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return None
    context = opentelemetry.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)


def _is_trace_id(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef") and text != "0" * 32


def _new_span_id() -> str:
    return os.urandom(8).hex()


def _time_text(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
