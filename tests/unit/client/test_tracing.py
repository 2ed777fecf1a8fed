"""Which trace a call belongs to, and the spans that are written."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as opentelemetry
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from strongroom.errors import StrongroomError
from strongroom.tracing import SpanFile, Tracing


def test_each_call_is_a_trace_of_its_own_unless_one_was_begun() -> None:
    tracing = Tracing()
    ids = set()
    for _ in range(2):
        with tracing.span("call", attributes={}) as call:
            ids.add(call.trace_id)
        assert tracing.last_trace_id == call.trace_id
    assert len(ids) == 2
    with tracing.span("outer", attributes={}) as outer, tracing.span("call", attributes={}) as call:
        assert call.trace_id == outer.trace_id
        assert call.span_id != outer.span_id


def test_the_header_has_the_form_of_the_specification() -> None:
    with Tracing(sample_ratio=1).span("call", attributes={}) as call:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", call.traceparent)
    with Tracing(sample_ratio=0).span("call", attributes={}) as call:
        assert call.traceparent.endswith("-00")


def test_sampling_can_be_chosen_for_one_trace() -> None:
    with Tracing(sample_ratio=0).span("outer", sampled=True, attributes={}) as outer:
        assert outer.sampled
        with Tracing(sample_ratio=0).span("call", attributes={}) as call:
            assert call.sampled


def test_the_trace_id_can_be_chosen() -> None:
    with Tracing().span("outer", trace_id="ab" * 16, attributes={}) as outer:
        assert outer.trace_id == "ab" * 16
    for wrong in ("ab", "AB" * 16, "0" * 32, "xy" * 16):
        with pytest.raises(StrongroomError), Tracing().span("outer", trace_id=wrong, attributes={}):
            pass


def test_the_current_span_of_the_application_is_continued() -> None:
    context = SpanContext(int("cd" * 16, 16), int("ef" * 8, 16), is_remote=False, trace_flags=TraceFlags(1))
    with opentelemetry.use_span(NonRecordingSpan(context)), Tracing().span("call", attributes={}) as call:
        assert (call.trace_id, call.sampled) == ("cd" * 16, True)
        assert call.span_id != "ef" * 8


def test_each_thread_sees_its_own_last_trace() -> None:
    tracing = Tracing()
    with tracing.span("here", attributes={}) as here:
        pass
    seen = []
    thread = threading.Thread(target=lambda: seen.append(tracing.last_trace_id))
    thread.start()
    thread.join()
    assert (seen, tracing.last_trace_id) == ([""], here.trace_id)


def test_spans_are_written_as_opentelemetry_writes_them(tmp_path: Path) -> None:
    tracing = Tracing(sample_ratio=1, spans=SpanFile(tmp_path, "shop"))
    with tracing.span("order", attributes={}) as order, tracing.span("call", attributes={"rpc.system": "grpc"}):
        pass
    call, outer = _lines(tmp_path)
    assert (call["name"], outer["name"]) == ("call", "order")
    assert call["context"]["trace_id"] == outer["context"]["trace_id"] == f"0x{order.trace_id}"
    assert (call["parent_id"], outer["parent_id"]) == (outer["context"]["span_id"], None)
    assert call["resource"]["attributes"]["service.name"] == "shop"
    assert call["attributes"] == {"rpc.system": "grpc"}
    assert outer["start_time"] <= call["start_time"] <= call["end_time"] <= outer["end_time"]
    assert outer["end_time"].endswith("Z")


def test_a_failed_span_says_why(tmp_path: Path) -> None:
    tracing = Tracing(sample_ratio=1, spans=SpanFile(tmp_path, "shop"))
    with pytest.raises(StrongroomError), tracing.span("call", attributes={}):
        raise StrongroomError("KEY_DISABLED", "the key is disabled")
    assert _lines(tmp_path)[0]["status"] == {"status_code": "ERROR", "description": "KEY_DISABLED"}


def test_what_is_not_sampled_is_not_written(tmp_path: Path) -> None:
    with Tracing(spans=SpanFile(tmp_path, "shop")).span("call", attributes={}):
        pass
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_not_there_does_no_harm(tmp_path: Path) -> None:
    with Tracing(1, SpanFile(tmp_path / "none", "shop")).span("call", attributes={}):
        pass


def _lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "shop.jsonl").read_text().splitlines()]
