//! A call's place in a trace (W3C Trace Context).

use ring::rand::{SecureRandom, SystemRandom};

/// The `traceparent` of a call: in the application's current span, if it uses OpenTelemetry.
pub(crate) fn traceparent() -> String {
    of_application().unwrap_or_else(|| {
        let mut ids = [0; 24];
        // Without random bytes nothing is encrypted either; a call without a trace is one all the same.
        let _ = SystemRandom::new().fill(&mut ids);
        ids[0] |= 1;
        ids[16] |= 1;
        let text: String = ids.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("00-{}-{}-00", &text[..32], &text[32..])
    })
}

/// The trace id of a `traceparent`.
pub(crate) fn trace_id(traceparent: &str) -> &str {
    traceparent.get(3..35).unwrap_or_default()
}

#[cfg(feature = "opentelemetry")]
fn of_application() -> Option<String> {
    use opentelemetry::trace::TraceContextExt;

    let context = opentelemetry::Context::current();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

#[cfg(not(feature = "opentelemetry"))]
fn of_application() -> Option<String> {
    None
}

#[cfg(all(test, feature = "opentelemetry"))]
mod tests {
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

    use super::{trace_id, traceparent};

    #[test]
    fn a_call_is_in_the_trace_of_the_application() {
        let (trace, span) = (TraceId::from_bytes([0xab; 16]), SpanId::from_bytes([0xcd; 8]));
        let remote = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
        let within = Context::new().with_remote_span_context(remote).attach();
        assert_eq!(traceparent(), format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8)));
        drop(within);
        assert_ne!(trace_id(&traceparent()), "ab".repeat(16));
    }
}
