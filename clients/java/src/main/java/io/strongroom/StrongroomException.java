package io.strongroom;

import java.time.Duration;
import java.util.Map;

/**
 * A call that was refused or failed, or something that the client itself refuses.
 *
 * <p>{@link #reason()} is what programs switch on ({@code KEY_DISABLED}, {@code MESSAGE_ALTERED}); it is stable, and the
 * same in every language. The message is for people and never holds a secret.
 */
public final class StrongroomException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String reason;
    private final String explanation;
    private final transient Origin origin;

    /**
     * What else is known of a failure.
     *
     * @param code the name of the gRPC status code; of what the client refuses, the one that a service would use
     * @param field the request's field that is at fault, or empty
     * @param metadata says more, as the reason defines
     * @param eventId the audit event of the call, or empty
     * @param traceId the trace of the call, 32 hex digits, or empty
     * @param retryAfter how long the service asks to wait; zero where it does not say
     */
    public record Origin(
            String code,
            String field,
            Map<String, String> metadata,
            String eventId,
            String traceId,
            Duration retryAfter) {
        /** Of what the client itself refuses. */
        static Origin here(String code, String field) {
            return new Origin(code, field, Map.of(), "", "", Duration.ZERO);
        }
    }

    /** What a service answered, or what came of a call that none did. */
    public StrongroomException(String reason, String explanation, Origin origin) {
        super(reason + ": " + explanation);
        this.reason = reason;
        this.explanation = explanation;
        this.origin = origin;
    }

    /** A refusal of the client's own: {@code code} is the name of a gRPC status code, {@code field} may be empty. */
    public StrongroomException(String reason, String explanation, String code, String field) {
        this(reason, explanation, Origin.here(code, field));
    }

    /** A copy whose message goes on with what to do. */
    public StrongroomException withAdvice(String advice) {
        return new StrongroomException(reason, explanation + "; " + advice, origin());
    }

    /** The stable reason. */
    public String reason() {
        return reason;
    }

    /** The name of the gRPC status code. */
    public String code() {
        return origin().code();
    }

    /** The request's field that is at fault; empty where none is. */
    public String field() {
        return origin().field();
    }

    /** What the reason defines besides. */
    public Map<String, String> metadata() {
        return origin().metadata();
    }

    /** The audit event of the call; empty where there is none. */
    public String eventId() {
        return origin().eventId();
    }

    /** The trace of the call; empty where there was no call. */
    public String traceId() {
        return origin().traceId();
    }

    /** How long the service asks to wait; zero where it does not say. */
    public Duration retryAfter() {
        return origin().retryAfter();
    }

    /** Whether another time may do better: nobody could serve now, which is no answer. */
    public boolean isAway() {
        return switch (code()) {
            case "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED" -> true;
            default -> false;
        };
    }

    private Origin origin() {
        // Absent only where the exception was deserialized.
        return origin == null ? Origin.here("UNKNOWN", "") : origin;
    }
}
