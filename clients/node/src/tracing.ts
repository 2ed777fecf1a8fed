/** Trace context on every call (W3C Trace Context). */

import { randomBytes } from "node:crypto";

import type { Metadata } from "@grpc/grpc-js";
import { context, isSpanContextValid, trace } from "@opentelemetry/api";

/** Puts a call into the application's current OpenTelemetry span, or into a trace of its own; answers the trace. */
export function addTrace(metadata: Metadata): string {
  const span = trace.getSpanContext(context.active());
  if (span !== undefined && isSpanContextValid(span)) {
    const flags = span.traceFlags.toString(16).padStart(2, "0");
    metadata.set("traceparent", `00-${span.traceId}-${span.spanId}-${flags}`);
    const state = span.traceState?.serialize();
    if (state) metadata.set("tracestate", state);
    return span.traceId;
  }
  const traceId = randomBytes(16).toString("hex");
  metadata.set("traceparent", `00-${traceId}-${randomBytes(8).toString("hex")}-00`);
  return traceId;
}
