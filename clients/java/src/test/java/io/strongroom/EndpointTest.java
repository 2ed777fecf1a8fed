package io.strongroom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Any;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import io.strongroom.crypto.v1.CryptoServiceGrpc;
import io.strongroom.crypto.v1.EncryptRequest;
import io.strongroom.crypto.v1.EncryptResponse;
import io.strongroom.keystore.v1.CreateKeyRequest;
import io.strongroom.keystore.v1.DisableKeyRequest;
import io.strongroom.keystore.v1.Key;
import io.strongroom.keystore.v1.KeyServiceGrpc;
import java.io.IOException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What a call does about a service that refuses, is away, or asks for another token. */
class EndpointTest {
    private static final Metadata.Key<String> PUSHBACK =
            Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

    private static final Duration SECOND = Duration.ofSeconds(1);

    private final Deque<Status> refusals = new ArrayDeque<>();
    private final List<Metadata> headers = new ArrayList<>();
    private final List<String> requestIds = new ArrayList<>();
    private final Metadata trailers = new Metadata();
    private Server server;
    private ManagedChannel channel;
    private Endpoint endpoint;

    @BeforeEach
    void start() throws IOException {
        String name = UUID.randomUUID().toString();
        server = InProcessServerBuilder.forName(name)
                .directExecutor()
                .addService(new Crypto())
                .addService(new Keys())
                .intercept(new Headers())
                .build()
                .start();
        channel = InProcessChannelBuilder.forName(name).directExecutor().build();
        ManagedChannel nobody = InProcessChannelBuilder.forName(name + "-nobody").directExecutor().build();
        endpoint = new Endpoint(Service.CRYPTO, List.of(new At("nobody", nobody), new At("here", channel)));
    }

    @AfterEach
    void stop() {
        endpoint.close();
        channel.shutdownNow();
        server.shutdownNow();
    }

    @Test
    void theNextAddressIsTriedAndKept() {
        assertEquals("payments", encrypt(null).getKey());
        assertEquals("payments", encrypt(null).getKey());
        assertEquals(2, headers.size());
    }

    @Test
    void aRefusalSaysWhatTheServiceSaid() {
        refusals.add(status(Code.FAILED_PRECONDITION, "KEY_DISABLED"));
        StrongroomException error = assertThrows(StrongroomException.class, () -> encrypt(null));
        assertEquals("KEY_DISABLED", error.reason());
        assertEquals("FAILED_PRECONDITION", error.code());
        assertEquals("key", error.field());
        assertTrue(header(0, "traceparent").contains(error.traceId()));
        assertEquals(1, headers.size());
    }

    @Test
    void whatIsSafeIsTriedAgainWhileTheServiceIsAway() {
        refusals.add(status(Code.UNAVAILABLE, "AUDIT_UNREACHABLE"));
        refusals.add(status(Code.UNAVAILABLE, "AUDIT_UNREACHABLE"));
        assertEquals("payments", encrypt(null).getKey());
        assertEquals(3, headers.size());
    }

    @Test
    void aChangeThatMayStandIsAskedForUnderOneRequestIdUntilThatIsKnown() {
        for (String reason : List.of("AUDIT_PENDING", "CHANGE_UNDECIDED")) {
            requestIds.clear();
            refusals.add(status(Code.UNAVAILABLE, reason));
            for (int count = 0; count < 10; count++) {
                refusals.add(status(Code.UNAVAILABLE, "AUDIT_UNREACHABLE"));
            }
            createKey(Duration.ofSeconds(20));
            assertEquals(12, requestIds.size());
            assertEquals(1, requestIds.stream().distinct().count());
            assertEquals(requestIds.get(0), UUID.fromString(requestIds.get(0)).toString());
        }
    }

    @Test
    void aChangeThatStaysUndecidedEndsSoAndNotWithWhatCameLast() {
        refusals.add(status(Code.UNAVAILABLE, "AUDIT_PENDING"));
        for (int count = 0; count < 50; count++) {
            refusals.add(status(Code.UNAVAILABLE, "AUDIT_UNREACHABLE"));
        }
        StrongroomException error =
                assertThrows(StrongroomException.class, () -> createKey(Duration.ofMillis(800)));
        assertEquals("AUDIT_PENDING", error.reason());
    }

    @Test
    void aServiceThatStaysAwayEndsWithItsReasonInTime() {
        for (int count = 0; count < 50; count++) {
            refusals.add(status(Code.UNAVAILABLE, "AUDIT_UNREACHABLE"));
        }
        StrongroomException error = assertThrows(StrongroomException.class, () -> encrypt(null));
        assertTrue(error.isAway());
    }

    @Test
    void aTokenThatIsRefusedIsExchangedAnewOnce() {
        Deque<String> texts = new ArrayDeque<>(List.of("first", "second"));
        Tokens tokens = new Tokens.Exchanged(
                time -> new Tokens.Token(texts.pop(), Instant.now().plusSeconds(3600)), Instant::now);
        refusals.add(status(Code.UNAUTHENTICATED, "TOKEN_EXPIRED"));
        assertEquals("payments", encrypt(tokens).getKey());
        assertEquals("Bearer first", header(0, "authorization"));
        assertEquals("Bearer second", header(1, "authorization"));
    }

    @Test
    void aTokenIsExchangedAgainWhenAFifthOfItsTimeIsLeft() {
        Instant begun = Instant.parse("2026-01-01T00:00:00Z");
        Instant[] now = {begun};
        int[] count = {0};
        Tokens tokens = new Tokens.Exchanged(
                time -> new Tokens.Token("token-" + count[0]++, now[0].plusSeconds(100)), () -> now[0]);
        assertEquals("token-0", tokens.current(in(SECOND)));
        now[0] = begun.plusSeconds(79);
        assertEquals("token-0", tokens.current(in(SECOND)));
        now[0] = begun.plusSeconds(80);
        assertEquals("token-1", tokens.current(in(SECOND)));
    }

    @Test
    void anExchangeHasTheTimeOfTheCallThatNeedsIt() {
        List<Duration> times = new ArrayList<>();
        Tokens tokens = new Tokens.Exchanged(
                time -> {
                    times.add(time);
                    return new Tokens.Token("token", Instant.now().plusSeconds(3600));
                },
                Instant::now);
        tokens.current(in(SECOND));
        assertTrue(times.get(0).compareTo(SECOND) <= 0);
    }

    @Test
    void callsThatWaitForAnExchangeShareItsFailureAndKeepTheirDeadlines() throws Exception {
        CountDownLatch begun = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        AtomicInteger exchanges = new AtomicInteger();
        Tokens tokens = new Tokens.Exchanged(
                time -> {
                    exchanges.incrementAndGet();
                    begun.countDown();
                    await(goOn);
                    throw new StrongroomException("UNREACHABLE", "nobody answers", "UNAVAILABLE", "");
                },
                Instant::now);
        ExecutorService pool = Executors.newFixedThreadPool(5);
        try {
            List<Future<String>> waiting = new ArrayList<>();
            waiting.add(pool.submit(() -> tokens.current(in(Duration.ofSeconds(20)))));
            await(begun);
            for (int count = 0; count < 4; count++) {
                waiting.add(pool.submit(() -> tokens.current(in(Duration.ofSeconds(20)))));
            }
            StrongroomException late = assertThrows(
                    StrongroomException.class, () -> tokens.current(in(Duration.ofMillis(200))));
            assertEquals("DEADLINE_EXCEEDED", late.reason());
            goOn.countDown();
            for (Future<String> one : waiting) {
                Throwable told = assertThrows(ExecutionException.class, one::get).getCause();
                assertEquals("UNREACHABLE", ((StrongroomException) told).reason());
            }
            assertEquals(1, exchanges.get());
        } finally {
            pool.shutdownNow();
        }
        assertThrows(StrongroomException.class, () -> tokens.current(in(SECOND)));
        assertEquals(2, exchanges.get());
    }

    private static void await(CountDownLatch latch) {
        try {
            assertTrue(latch.await(20, TimeUnit.SECONDS));
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }

    private static long in(Duration time) {
        return System.nanoTime() + time.toNanos();
    }

    @Test
    void whatMayHaveHappenedIsNotRepeated() {
        assertEquals(false, Endpoint.isRepeatable(KeyServiceGrpc.getCreateKeyMethod(), CreateKeyRequest.getDefaultInstance()));
        assertEquals(false, Endpoint.isRepeatable(KeyServiceGrpc.getDisableKeyMethod(), DisableKeyRequest.getDefaultInstance()));
        assertEquals(true, Endpoint.isRepeatable(CryptoServiceGrpc.getEncryptMethod(), EncryptRequest.getDefaultInstance()));
    }

    @Test
    void aChangeWithoutRequestIdIsTriedAgainWhereNothingWasDone() {
        // At the first address is nobody; the service at the second says that it did nothing.
        refusals.add(status(Code.UNAVAILABLE, "AUDIT_UNREACHABLE"));
        disableKey();
        assertEquals(2, headers.size());
    }

    @Test
    void aChangeWithoutRequestIdThatMayHaveHappenedIsMadeOnce() {
        refusals.add(Status.newBuilder().setCode(Code.UNAVAILABLE.getNumber()).build());
        StrongroomException error = assertThrows(StrongroomException.class, this::disableKey);
        assertEquals("UNREACHABLE", error.reason());
        assertEquals(1, headers.size());
    }

    @Test
    void aChangeWithoutRequestIdThatAServiceHasBegunIsMadeOnce() {
        for (String pushback : List.of("-1", "never")) {
            endsWith(pushback);
            StrongroomException error = assertThrows(StrongroomException.class, this::disableKey);
            assertEquals("SHUTTING_DOWN", error.reason());
            assertEquals(1, headers.size(), pushback);
        }
        endsWith("-1");
        createKey(Duration.ofSeconds(5));
        assertEquals(2, requestIds.size());
        assertEquals(requestIds.get(0), requestIds.get(1));
    }

    @Test
    void aChangeWithoutRequestIdThatAServiceHasNotBegunIsTriedAgain() {
        for (String pushback : List.of("0", "250")) {
            endsWith(pushback);
            disableKey();
            assertEquals(2, headers.size(), pushback);
        }
    }

    /** The service refuses one call as a process that ends does; with a negative pushback, one that it has begun. */
    private void endsWith(String pushback) {
        headers.clear();
        trailers.discardAll(PUSHBACK);
        trailers.put(PUSHBACK, pushback);
        refusals.add(status(Code.UNAVAILABLE, "SHUTTING_DOWN"));
    }

    private void disableKey() {
        endpoint.call(
                KeyServiceGrpc.getDisableKeyMethod(),
                DisableKeyRequest.getDefaultInstance(),
                Duration.ofSeconds(5),
                null);
    }

    private Key createKey(Duration timeout) {
        return endpoint.call(
                KeyServiceGrpc.getCreateKeyMethod(), CreateKeyRequest.getDefaultInstance(), timeout, null);
    }

    private EncryptResponse encrypt(Tokens tokens) {
        EncryptRequest request = EncryptRequest.newBuilder().setKey("payments").build();
        return endpoint.call(CryptoServiceGrpc.getEncryptMethod(), request, Duration.ofSeconds(20), tokens);
    }

    private String header(int call, String name) {
        return headers.get(call).get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
    }

    private static Status status(Code code, String reason) {
        ErrorInfo info = ErrorInfo.newBuilder()
                .setDomain("strongroom")
                .setReason(reason)
                .putMetadata("field", "key")
                .build();
        return Status.newBuilder()
                .setCode(code.getNumber())
                .setMessage("refused")
                .addDetails(Any.pack(info))
                .addDetails(Any.pack(RetryInfo.getDefaultInstance()))
                .build();
    }

    private <T> void answer(StreamObserver<T> observer, T answer) {
        if (refusals.isEmpty()) {
            observer.onNext(answer);
            observer.onCompleted();
        } else {
            observer.onError(StatusProto.toStatusRuntimeException(refusals.pop(), trailers));
        }
    }

    private final class Crypto extends CryptoServiceGrpc.CryptoServiceImplBase {
        @Override
        public void encrypt(EncryptRequest request, StreamObserver<EncryptResponse> observer) {
            answer(observer, EncryptResponse.newBuilder().setKey(request.getKey()).build());
        }
    }

    private final class Keys extends KeyServiceGrpc.KeyServiceImplBase {
        @Override
        public void createKey(CreateKeyRequest request, StreamObserver<Key> observer) {
            requestIds.add(request.getRequestId());
            answer(observer, Key.getDefaultInstance());
        }

        @Override
        public void disableKey(DisableKeyRequest request, StreamObserver<Key> observer) {
            answer(observer, Key.getDefaultInstance());
        }
    }

    private final class Headers implements ServerInterceptor {
        @Override
        public <Q, A> ServerCall.Listener<Q> interceptCall(
                ServerCall<Q, A> call, Metadata given, ServerCallHandler<Q, A> next) {
            headers.add(given);
            return next.startCall(call, given);
        }
    }

    private static final class At extends Connection {
        private final ManagedChannel channel;

        At(String address, ManagedChannel channel) {
            super(address, new Pem(null, null, null));
            this.channel = channel;
        }

        @Override
        ManagedChannel current() {
            return channel;
        }
    }
}
