package io.strongroom;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ClientStreamTracer;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** One service at its addresses, and the one path that every call takes: trace, token, deadline, retries, errors. */
final class Endpoint implements AutoCloseable {
    private static final Metadata.Key<String> TRACEPARENT = key("traceparent");
    private static final Metadata.Key<String> AUTHORIZATION = key("authorization");
    private static final Set<String> TOKEN_REFUSALS = Set.of("TOKEN_EXPIRED", "TOKEN_INVALID");

    /** What was asked was done, or may have been: the same request with the same id answers what it made. */
    private static final Set<String> PENDING = Set.of("AUDIT_PENDING", "CHANGE_UNDECIDED");
    private static final long PENDING_WAIT_NANOS = TimeUnit.MILLISECONDS.toNanos(250);

    /** How often all addresses are tried, and how long is waited between at most: a random part of it is. */
    private static final int ROUNDS = 4;
    private static final long FIRST_WAIT_NANOS = TimeUnit.MILLISECONDS.toNanos(100);
    private static final long LONGEST_WAIT_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final Service service;
    private final List<Connection> connections;
    private volatile int preferred;

    Endpoint(Service service, List<Connection> connections) {
        this.service = service;
        this.connections = connections;
    }

    @Override
    public void close() {
        connections.forEach(Connection::close);
    }

    /** What {@code method} answers within {@code timeout}, retries included; {@code tokens} is null without any. */
    <Q extends Message, A> A call(MethodDescriptor<Q, A> method, Q request, Duration timeout, Tokens tokens) {
        long deadline = System.nanoTime() + timeout.toNanos();
        Q named = withRequestId(request);
        try {
            return authorized(method, named, deadline, tokens);
        } catch (StrongroomException error) {
            if (!PENDING.contains(error.reason()) || !hasRequestId(named)) {
                throw error;
            }
            return untilKnown(method, named, deadline, tokens, error);
        }
    }

    /** Asks for a change again, by its request id, until it is known what stands or the time is over. */
    private <Q extends Message, A> A untilKnown(
            MethodDescriptor<Q, A> method, Q request, long deadline, Tokens tokens, StrongroomException pending) {
        while (waited(PENDING_WAIT_NANOS, deadline)) {
            try {
                return authorized(method, request, deadline, tokens);
            } catch (StrongroomException error) {
                if (!error.isAway()) {
                    throw error;
                }
            }
        }
        throw pending;
    }

    /** Calls with a token, and once again with another where the service did not accept that. */
    private <Q extends Message, A> A authorized(MethodDescriptor<Q, A> method, Q request, long deadline, Tokens tokens) {
        if (tokens == null) {
            return retried(method, request, deadline, null);
        }
        String token = tokens.current(deadline);
        try {
            return retried(method, request, deadline, token);
        } catch (StrongroomException error) {
            if (!TOKEN_REFUSALS.contains(error.reason()) || !tokens.renew(token)) {
                throw error;
            }
        }
        return retried(method, request, deadline, tokens.current(deadline));
    }

    private <Q extends Message, A> A retried(MethodDescriptor<Q, A> method, Q request, long deadline, String token) {
        boolean repeatable = isRepeatable(method, request);
        int attempts = ROUNDS * connections.size();
        for (int attempt = 1; ; attempt++) {
            int index = preferred;
            Sending sending = new Sending();
            try {
                return once(connections.get(index), method, request, deadline, token, sending);
            } catch (StrongroomException error) {
                if (error.isAway()) {
                    preferred = (index + 1) % connections.size();
                }
                boolean decided = !error.code().equals("UNAVAILABLE") || PENDING.contains(error.reason());
                if (attempt >= attempts || decided || !(repeatable || sending.isUndone(error))) {
                    throw error;
                }
                // At once at another address; at all of them again only after a while.
                int round = attempt / connections.size();
                if (attempt % connections.size() == 0 && !waited(wait(round, error), deadline)) {
                    throw error;
                }
            }
        }
    }

    private <Q, A> A once(
            Connection connection,
            MethodDescriptor<Q, A> method,
            Q request,
            long deadline,
            String token,
            Sending sending) {
        String traceparent = Traces.traceparent();
        Metadata metadata = new Metadata();
        metadata.put(TRACEPARENT, traceparent);
        if (token != null) {
            metadata.put(AUTHORIZATION, "Bearer " + token);
        }
        Channel channel = ClientInterceptors.intercept(
                connection.current(), MetadataUtils.newAttachHeadersInterceptor(metadata));
        CallOptions options = CallOptions.DEFAULT
                .withDeadlineAfter(deadline - System.nanoTime(), TimeUnit.NANOSECONDS)
                .withStreamTracerFactory(sending);
        try {
            return ClientCalls.blockingUnaryCall(channel, method, options, request);
        } catch (StatusRuntimeException error) {
            sending.mayHaveBegun = Failures.mayHaveBegun(error);
            String peer = service.id() + " at " + connection.address();
            throw Failures.of(error, peer, Traces.traceId(traceparent));
        }
    }

    /**
     * Whether a call may be made again when nobody answered: it changes nothing, or the service knows it again by its
     * request id.
     */
    static boolean isRepeatable(MethodDescriptor<?, ?> method, Message request) {
        if (request.getDescriptorForType().findFieldByName("request_id") != null) {
            return hasRequestId(request);
        }
        String name = method.getBareMethodName();
        return method.getServiceName().equals("strongroom.crypto.v1.CryptoService")
                || name.equals("CreateSession")
                || name.equals("AssumeRole")
                || name.startsWith("Get")
                || name.startsWith("List");
    }

    /** How far a call that was refused or failed may have come. */
    private static final class Sending extends ClientStreamTracer.Factory {
        private volatile boolean sent;
        private boolean mayHaveBegun;

        /** A service that says UNAVAILABLE with a reason of its own has done nothing, of what it had not begun. */
        boolean isUndone(StrongroomException error) {
            return !sent || !(mayHaveBegun || error.reason().equals("UNREACHABLE"));
        }

        @Override
        public ClientStreamTracer newClientStreamTracer(ClientStreamTracer.StreamInfo info, Metadata headers) {
            return new ClientStreamTracer() {
                @Override
                public void outboundHeaders() {
                    sent = true;
                }
            };
        }
    }

    private static boolean hasRequestId(Message request) {
        FieldDescriptor requestId = request.getDescriptorForType().findFieldByName("request_id");
        return requestId != null && !((String) request.getField(requestId)).isEmpty();
    }

    @SuppressWarnings("unchecked") // a message's builder builds such a message
    private static <Q extends Message> Q withRequestId(Q request) {
        FieldDescriptor requestId = request.getDescriptorForType().findFieldByName("request_id");
        if (requestId == null || hasRequestId(request)) {
            return request;
        }
        return (Q) request.toBuilder().setField(requestId, UUID.randomUUID().toString()).build();
    }

    private static long wait(int round, StrongroomException error) {
        long longest = Math.min(LONGEST_WAIT_NANOS, FIRST_WAIT_NANOS << (round - 1));
        return error.retryAfter().toNanos() + ThreadLocalRandom.current().nextLong(longest);
    }

    private static boolean waited(long nanos, long deadline) {
        if (System.nanoTime() + nanos >= deadline) {
            return false;
        }
        try {
            TimeUnit.NANOSECONDS.sleep(nanos);
            return true;
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    private static Metadata.Key<String> key(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }
}
