package io.strongroom;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Pattern;

/** What a failed call means. */
final class Failures {
    private static final String DOMAIN = "strongroom";
    // Ten thousand years, the most that a Duration of the contracts may be.
    private static final long LONGEST_SECONDS = 315_576_000_000L;
    private static final Metadata.Key<String> EVENT_ID =
            Metadata.Key.of("strongroom-event-id", Metadata.ASCII_STRING_MARSHALLER);

    /** How long a service asks to wait before a call is made again; negative of one that it may have begun. */
    private static final Metadata.Key<String> PUSHBACK =
            Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
    private static final Pattern DIGITS = Pattern.compile("[0-9]+");

    private Failures() {}

    /** Whether a service that refuses a call may have begun it. */
    static boolean mayHaveBegun(StatusRuntimeException error) {
        String pushback = error.getTrailers() == null ? null : error.getTrailers().get(PUSHBACK);
        // gRPC takes for "never again" also what it cannot read.
        return pushback != null && !DIGITS.matcher(pushback).matches();
    }

    /** The exception for a call; {@code peer} says which service, at which address, where it gave no reason. */
    static StrongroomException of(StatusRuntimeException error, String peer, String traceId) {
        String code = error.getStatus().getCode().name();
        Metadata trailers = error.getTrailers();
        String eventId = trailers == null ? null : trailers.get(EVENT_ID);
        eventId = eventId == null ? "" : eventId;
        try {
            Status status = trailers == null ? null : StatusProto.fromStatusAndTrailers(error.getStatus(), trailers);
            StrongroomException informed = status == null ? null : informed(status, code, eventId, traceId);
            if (informed != null) {
                return informed;
            }
        } catch (IllegalArgumentException | InvalidProtocolBufferException malformed) {
            // Details that contradict the call's own status are no details.
        }
        return withoutReason(error.getStatus(), peer, eventId, traceId);
    }

    private static StrongroomException informed(Status status, String code, String eventId, String traceId)
            throws InvalidProtocolBufferException {
        ErrorInfo info = null;
        Duration retryAfter = Duration.ZERO;
        for (Any detail : status.getDetailsList()) {
            if (detail.is(ErrorInfo.class) && detail.unpack(ErrorInfo.class).getDomain().equals(DOMAIN)) {
                info = detail.unpack(ErrorInfo.class);
            } else if (detail.is(RetryInfo.class)) {
                com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
                retryAfter = Duration.ofSeconds(Math.min(Math.max(delay.getSeconds(), 0), LONGEST_SECONDS));
                retryAfter = retryAfter.plusNanos(Math.max(delay.getNanos(), 0));
            }
        }
        if (info == null) {
            return null;
        }
        Map<String, String> metadata = new HashMap<>(info.getMetadataMap());
        String field = metadata.getOrDefault("field", "");
        metadata.remove("field");
        return new StrongroomException(
                info.getReason(),
                status.getMessage(),
                new StrongroomException.Origin(code, field, Map.copyOf(metadata), eventId, traceId, retryAfter));
    }

    private static StrongroomException withoutReason(
            io.grpc.Status status, String peer, String eventId, String traceId) {
        String code = status.getCode().name();
        String reason = code;
        String explanation = peer + ": " + status.getDescription();
        switch (status.getCode()) {
            // No service says CANCELLED: gRPC does, of a call that it had not handed over when the server stopped.
            case UNAVAILABLE, CANCELLED -> {
                code = "UNAVAILABLE";
                reason = "UNREACHABLE";
                explanation = peer + " cannot be reached: " + cause(status);
            }
            case DEADLINE_EXCEEDED -> explanation = peer + " did not answer in time";
            default -> {}
        }
        return new StrongroomException(
                reason,
                explanation,
                new StrongroomException.Origin(code, "", Map.of(), eventId, traceId, Duration.ZERO));
    }

    private static String cause(io.grpc.Status status) {
        Throwable cause = status.getCause();
        String description = String.valueOf(status.getDescription());
        return cause == null ? description : description + " (" + cause.getMessage() + ")";
    }
}
