package io.strongroom;

import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import java.util.concurrent.ThreadLocalRandom;

/** A call's place in a trace (W3C Trace Context). */
final class Traces {
    private static final boolean HAS_OPENTELEMETRY = hasOpenTelemetry();

    private Traces() {}

    /** The {@code traceparent} of a call: within the application's current span, if it uses OpenTelemetry. */
    static String traceparent() {
        String current = HAS_OPENTELEMETRY ? OfApplication.current() : null;
        if (current != null) {
            return current;
        }
        ThreadLocalRandom random = ThreadLocalRandom.current();
        // Not sampled, and never all zeros.
        return String.format(
                "00-%016x%016x-%016x-00", random.nextLong(), random.nextLong() | 1, random.nextLong() | 1);
    }

    /** The trace id of a {@code traceparent}. */
    static String traceId(String traceparent) {
        return traceparent.substring(3, 35);
    }

    private static boolean hasOpenTelemetry() {
        try {
            Class.forName("io.opentelemetry.api.trace.Span", false, Traces.class.getClassLoader());
            return true;
        } catch (ClassNotFoundException absent) {
            return false;
        }
    }

    /** Loaded only where OpenTelemetry is there. */
    private static final class OfApplication {
        static String current() {
            SpanContext span = Span.current().getSpanContext();
            return span.isValid()
                    ? "00-" + span.getTraceId() + "-" + span.getSpanId() + "-" + span.getTraceFlags().asHex()
                    : null;
        }
    }
}
