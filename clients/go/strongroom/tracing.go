package strongroom

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// traced puts a W3C trace context on a call: a child of the application's current OpenTelemetry span, or a trace of its
// own, which is not sampled.
func traced(ctx context.Context) (context.Context, string) {
	traceID, spanID, flags := randomHex(16), randomHex(8), "00"
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		traceID, spanID, flags = span.TraceID().String(), span.SpanID().String(), span.TraceFlags().String()
		if state := span.TraceState().String(); state != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "tracestate", state)
		}
	}
	return metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+traceID+"-"+spanID+"-"+flags), traceID
}

func randomHex(size int) string {
	bytes := make([]byte, size)
	rand.Read(bytes)
	return hex.EncodeToString(bytes)
}
