package io.strongroom.encryption;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.strongroom.KeyCalls;
import io.strongroom.StrongroomException;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.SequenceInputStream;
import java.nio.ByteBuffer;
import java.nio.channels.NonWritableChannelException;
import java.nio.channels.SeekableByteChannel;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class EncryptionClientTest {
    private static final Map<String, String> CONTEXT = Map.of("tenant", "a");

    private static final Duration AGE = Duration.ofMinutes(5);
    private static final Duration AHEAD = Duration.ofSeconds(30);
    private static final Duration STALE = Duration.ofMinutes(2);

    private final Mesh mesh = new Mesh();
    private final AtomicLong nanos = new AtomicLong();

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 63, 64, 65, 128, 1000})
    void aMessageOfAnySizeComesBack(int size) throws IOException {
        EncryptionClient client = builder("payments").chunkSizeLog2(6).build();
        byte[] content = new byte[size];
        byte[] message = client.encrypt(content, CONTEXT);
        assertArrayEquals(content, client.decrypt(message, CONTEXT));

        ByteArrayOutputStream written = new ByteArrayOutputStream();
        try (EncryptingOutputStream output = client.encryptingStream(written, CONTEXT)) {
            for (byte one : content) {
                output.write(one);
            }
            output.finish();
        }
        assertEquals(message.length, written.size());
        assertArrayEquals(content, client.decrypt(written.toByteArray(), CONTEXT));
        ByteArrayInputStream input = new ByteArrayInputStream(message);
        assertArrayEquals(content, client.decryptingStream(input, CONTEXT).readAllBytes());
    }

    @Test
    void aMessageIsReadAnywhere() throws IOException {
        EncryptionClient client = builder("payments").chunkSizeLog2(6).build();
        byte[] content = new byte[1000];
        for (int at = 0; at < content.length; at++) {
            content[at] = (byte) at;
        }
        byte[] message = client.encrypt(content, CONTEXT);
        byte[] behind = new byte[6 + message.length];
        System.arraycopy(message, 0, behind, 6, message.length);
        SeekableByteChannel input = new BytesChannel(behind).position(6);
        try (SeekableByteChannel opened = client.decryptingChannel(input, CONTEXT)) {
            assertEquals(1000, opened.size());
            for (int place : new int[] {999, 0, 63, 500}) {
                ByteBuffer one = ByteBuffer.allocate(1);
                assertEquals(1, opened.position(place).read(one));
                assertEquals(content[place], one.get(0));
                assertEquals(place + 1, opened.position());
            }
            assertEquals(-1, opened.position(1000).read(ByteBuffer.allocate(1)));
            assertThrows(IllegalArgumentException.class, () -> opened.position(-1));
            assertThrows(NonWritableChannelException.class, () -> opened.write(ByteBuffer.allocate(1)));
        }
        assertTrue(!input.isOpen());
    }

    @Test
    void anyOfSeveralKeysOpensAMessage() {
        byte[] message = builder("payments").key("vault").build().encrypt(new byte[3], CONTEXT);
        assertArrayEquals(new byte[3], builder("vault").build().decrypt(message, CONTEXT));
        mesh.disabled = "payments";
        assertArrayEquals(new byte[3], builder("payments").key("vault").build().decrypt(message, CONTEXT));
        assertEquals("KEY_DISABLED", reason(() -> builder("payments").build().decrypt(message, CONTEXT)));
    }

    @Test
    void onlyAcceptedKeysAreAskedFor() {
        byte[] message = builder("payments").build().encrypt(new byte[3], CONTEXT);
        long calls = mesh.calls.get();
        EncryptionClient other = builder("vault").build();
        assertEquals("KEY_NOT_ACCEPTED", reason(() -> other.decrypt(message, CONTEXT)));
        assertEquals(calls, mesh.calls.get());
        assertArrayEquals(new byte[3], other.decrypt(message, CONTEXT, List.of(MeshKey.any(mesh))));
    }

    @Test
    void aRewrappedMessageIsUnderTheOtherKeysAlone() {
        EncryptionClient client = builder("payments").storeContext(true).build();
        byte[] message = client.rewrap(client.encrypt(new byte[3], CONTEXT), List.of(MeshKey.of(mesh, "vault")), CONTEXT);
        assertArrayEquals(new byte[3], builder("vault").build().decrypt(message, null));
        assertEquals("KEY_NOT_ACCEPTED", reason(() -> client.decrypt(message, CONTEXT)));
    }

    @Test
    void anAbortedMessageIsRefused() throws IOException {
        EncryptionClient client = builder("payments").chunkSizeLog2(6).build();
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        try (EncryptingOutputStream output = client.encryptingStream(written, CONTEXT)) {
            output.write(new byte[200]);
            output.abort();
        }
        assertEquals("MESSAGE_ALTERED", reason(() -> client.decrypt(written.toByteArray(), CONTEXT)));
    }

    @Test
    void aSourceThatFailsLeavesNoMessageThatIsTakenForWhole() {
        EncryptionClient client = builder("payments").build();
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        InputStream source = new SequenceInputStream(
                new ByteArrayInputStream(new byte[100_000]), new InputStream() {
                    @Override
                    public int read() throws IOException {
                        throw new IOException("the disk is gone");
                    }
                });
        IOException error = assertThrows(IOException.class, () -> {
            try (EncryptingOutputStream output = client.encryptingStream(written, CONTEXT)) {
                source.transferTo(output);
                output.finish();
            }
        });
        assertEquals("the disk is gone", error.getMessage());
        assertEquals("MESSAGE_ALTERED", reason(() -> client.decrypt(written.toByteArray(), CONTEXT)));
    }

    @Test
    void whoForgetsTheEndIsTold() throws IOException {
        EncryptionClient client = builder("payments").build();
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        EncryptingOutputStream output = client.encryptingStream(written, CONTEXT);
        output.write(new byte[100_000]);
        assertTrue(assertThrows(IOException.class, output::close).getMessage().contains("finish()"));
        output.close();
        assertThrows(IOException.class, output::finish);
        assertEquals("MESSAGE_ALTERED", reason(() -> client.decrypt(written.toByteArray(), CONTEXT)));
    }

    @Test
    void aDataKeyAtHandServesUntilALimit() {
        AtomicLong now = new AtomicLong();
        DataKeyCache cache = new DataKeyCache(Duration.ofSeconds(5), 3, 1000, STALE, now::get);
        EncryptionClient client = builder("payments").cache(cache).build();
        for (int count = 0; count < 3; count++) {
            assertArrayEquals(new byte[3], client.decrypt(client.encrypt(new byte[3], CONTEXT), CONTEXT));
        }
        assertEquals(2, mesh.calls.get());
        client.encrypt(new byte[3], CONTEXT);
        assertEquals(3, mesh.calls.get());
        now.addAndGet(Duration.ofSeconds(5).toNanos());
        client.encrypt(new byte[3], CONTEXT);
        client.encrypt(new byte[998], CONTEXT);
        assertEquals(5, mesh.calls.get());
        client.encrypt(new byte[3], Map.of("tenant", "b"));
        cache.clear();
        client.encrypt(new byte[3], Map.of("tenant", "b"));
        assertEquals(7, mesh.calls.get());
    }

    @Test
    void concurrentMessagesWithoutADataKeyMakeOneCall() throws Exception {
        EncryptionClient client = builder("payments").cache(new DataKeyCache()).build();
        mesh.gate = new CountDownLatch(1);
        ExecutorService pool = Executors.newFixedThreadPool(8);
        try {
            List<Future<byte[]>> messages = new ArrayList<>();
            for (int count = 0; count < 8; count++) {
                messages.add(pool.submit(() -> client.encrypt(new byte[3], CONTEXT)));
            }
            awaitCalls(1);
            Thread.sleep(100);
            mesh.gate.countDown();
            for (Future<byte[]> message : messages) {
                assertArrayEquals(new byte[3], builder("payments").build().decrypt(message.get(), CONTEXT));
            }
        } finally {
            pool.shutdownNow();
        }
        assertEquals(1 + 8, mesh.calls.get());
    }

    @Test
    void aDataKeyInUseIsReplacedAheadOfItsEnd() throws InterruptedException {
        EncryptionClient client = dueForRefresh();
        client.encrypt(new byte[1], CONTEXT);
        awaitCalls(2);
        awaitQuiet();
        nanos.addAndGet(AHEAD.plusSeconds(1).toNanos());
        client.encrypt(new byte[1], CONTEXT);
        assertEquals(2, mesh.calls.get());
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void whileTheMeshIsAwayADataKeyIsUsedUpToItsLastLimit(boolean ahead) throws InterruptedException {
        EncryptionClient client = dueForRefresh();
        mesh.away = true;
        if (ahead) {
            client.encrypt(new byte[1], CONTEXT);
            awaitCalls(2);
            awaitQuiet();
        }
        nanos.addAndGet(AHEAD.plus(STALE).minusNanos(1).toNanos());
        client.encrypt(new byte[1], CONTEXT);
        awaitQuiet();
        nanos.incrementAndGet();
        assertEquals("UNREACHABLE", reason(() -> client.encrypt(new byte[1], CONTEXT)));
        mesh.away = false;
        client.encrypt(new byte[1], CONTEXT);
    }

    @Test
    void whatTheMeshRefusesIsNeverBridged() {
        EncryptionClient client = dueForRefresh();
        mesh.disabled = "payments";
        nanos.addAndGet(AHEAD.toNanos());
        assertEquals("KEY_DISABLED", reason(() -> client.encrypt(new byte[1], CONTEXT)));
    }

    /** A client that has asked the mesh once, and whose data key comes to its end soon. */
    private EncryptionClient dueForRefresh() {
        DataKeyCache cache = new DataKeyCache(AGE, 1000, 1000, STALE, nanos::get);
        EncryptionClient client = builder("payments").cache(cache).build();
        client.encrypt(new byte[1], CONTEXT);
        nanos.addAndGet(AGE.minus(AHEAD).toNanos());
        return client;
    }

    private void awaitCalls(long calls) throws InterruptedException {
        while (mesh.calls.get() < calls) {
            Thread.sleep(1);
        }
    }

    /** Until no data key is fetched beside. */
    private static void awaitQuiet() throws InterruptedException {
        for (Thread thread : Thread.getAllStackTraces().keySet()) {
            if (thread.getName().equals("strongroom-data-key-refresh")) {
                thread.join();
            }
        }
    }

    @Test
    void whatHasNoCanonicalFormIsRefusedBeforeAnyCall() {
        EncryptionClient client = builder("payments").build();
        Map<String, String> nothing = new HashMap<>();
        nothing.put("tenant", null);
        assertEquals("FIELD_INVALID", reason(() -> client.encrypt(new byte[1], Map.of("", "a"))));
        assertEquals("FIELD_INVALID", reason(() -> client.encrypt(new byte[1], Map.of("a", "\ud800"))));
        assertEquals("FIELD_INVALID", reason(() -> client.encrypt(new byte[1], nothing)));
        assertEquals("FIELD_TOO_LARGE", reason(() -> client.encrypt(new byte[1], Map.of("a", "a".repeat(8192)))));
        for (String other : List.of("a", "b", "zz")) {
            Map<String, String> both = Map.of(other, "a".repeat(8192), "", "a");
            assertEquals("FIELD_INVALID", reason(() -> client.encrypt(new byte[1], both)));
        }
        Map<String, String> many = new HashMap<>(Map.of("", "a"));
        for (int count = 0; count < 2048; count++) {
            many.put("key-" + count, "");
        }
        assertEquals("FIELD_TOO_LARGE", reason(() -> client.encrypt(new byte[1], many)));
        assertEquals(0, mesh.calls.get());
    }

    @Test
    void aKeyWithoutNameIsNotEveryKey() {
        assertEquals("FIELD_REQUIRED", reason(() -> builder("")));
        assertEquals("FIELD_REQUIRED", reason(() -> EncryptionClient.builder(mesh).build()));
    }

    @Test
    void whenTheMeshIsAwayTheErrorSaysWhatToDo() {
        mesh.away = true;
        StrongroomException error = assertThrows(
                StrongroomException.class, () -> builder("payments").build().encrypt(new byte[1], CONTEXT));
        assertEquals("UNREACHABLE", error.reason());
        assertTrue(error.getMessage().contains("accounts/main/keys/payments"));
    }

    private EncryptionClient.Builder builder(String key) {
        return EncryptionClient.builder(mesh).key(key);
    }

    private static String reason(Runnable call) {
        return assertThrows(StrongroomException.class, call::run).reason();
    }

    /** A mesh that wraps by writing key and data key down. */
    private static final class Mesh implements KeyCalls {
        private final AtomicLong calls = new AtomicLong();
        private volatile String disabled = "";
        private volatile boolean away;
        private volatile CountDownLatch gate = new CountDownLatch(0);

        @Override
        public DataKey generateDataKey(String key, int bytes, Map<String, String> context) {
            byte[] dataKey = new byte[bytes];
            dataKey[0] = (byte) calls.get();
            return new DataKey(dataKey, encrypt(key, dataKey, context).ciphertext(), key);
        }

        @Override
        public Encrypted encrypt(String key, byte[] plaintext, Map<String, String> context) {
            answer(key);
            byte[] wrapped = (key + " ".repeat(64)).substring(0, 64).getBytes();
            byte[] ciphertext = java.util.Arrays.copyOf(wrapped, 64 + plaintext.length);
            System.arraycopy(plaintext, 0, ciphertext, 64, plaintext.length);
            return new Encrypted(ciphertext, key);
        }

        @Override
        public Decrypted decrypt(byte[] ciphertext, Map<String, String> context, String key) {
            String under = new String(ciphertext, 0, 64).strip();
            answer(under);
            return new Decrypted(java.util.Arrays.copyOfRange(ciphertext, 64, ciphertext.length), under);
        }

        @Override
        public String keyName(String name) {
            return "accounts/main/keys/" + name;
        }

        private void answer(String key) {
            calls.incrementAndGet();
            try {
                assertTrue(gate.await(20, TimeUnit.SECONDS));
            } catch (InterruptedException interrupted) {
                throw new IllegalStateException(interrupted);
            }
            if (away) {
                throw new StrongroomException("UNREACHABLE", "nobody answers", "UNAVAILABLE", "");
            }
            if (key.equals("accounts/main/keys/" + disabled)) {
                throw new StrongroomException("KEY_DISABLED", "the key is disabled", "FAILED_PRECONDITION", "");
            }
        }
    }
}
