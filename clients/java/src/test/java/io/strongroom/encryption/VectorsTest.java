package io.strongroom.encryption;

import static io.strongroom.encryption.Vectors.bytes;
import static io.strongroom.encryption.Vectors.context;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.databind.JsonNode;
import io.strongroom.KeyCalls;
import io.strongroom.StrongroomException;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.SeekableByteChannel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Every way to read a message gives the outcome of the vectors that all languages share. */
class VectorsTest {
    private static final String KEY = "accounts/main/keys/payments";

    enum Reader {
        AT_ONCE {
            @Override
            byte[] read(EncryptionClient client, byte[] message, JsonNode vector) {
                return client.decrypt(message, context(vector.get("context")), Vectors.accepted(vector));
            }
        },
        TWICE_WITH_A_CACHE {
            @Override
            byte[] read(EncryptionClient client, byte[] message, JsonNode vector) {
                EncryptionClient caching = EncryptionClient.builder(new NoMesh()).key(KEY).cache(new DataKeyCache()).build();
                List<MeshKey> accepted = Vectors.accepted(vector);
                caching.decrypt(message, context(vector.get("context")), accepted);
                return caching.decrypt(message, context(vector.get("context")), accepted);
            }
        },
        FROM_A_STREAM {
            @Override
            byte[] read(EncryptionClient client, byte[] message, JsonNode vector) throws IOException {
                InputStream input = new ByteByByte(message);
                return client.decryptingStream(input, context(vector.get("context")), Vectors.accepted(vector))
                        .readAllBytes();
            }
        },
        FROM_A_FILE {
            @Override
            byte[] read(EncryptionClient client, byte[] message, JsonNode vector) throws IOException {
                try (SeekableByteChannel input = new BytesChannel(message);
                        SeekableByteChannel opened = client.decryptingChannel(
                                input, context(vector.get("context")), Vectors.accepted(vector))) {
                    byte[] content = new byte[(int) opened.size()];
                    int middle = content.length / 2;
                    fill(opened.position(middle), ByteBuffer.wrap(content, middle, content.length - middle));
                    fill(opened.position(0), ByteBuffer.wrap(content, 0, middle));
                    return content;
                }
            }
        };

        private static void fill(SeekableByteChannel from, ByteBuffer into) throws IOException {
            while (into.hasRemaining()) {
                from.read(into);
            }
        }

        abstract byte[] read(EncryptionClient client, byte[] message, JsonNode vector) throws IOException;
    }

    @ParameterizedTest
    @EnumSource
    void readsWhatIsValid(Reader reader) throws IOException {
        for (JsonNode vector : Vectors.of("valid").toList()) {
            byte[] content = reader.read(client(), bytes(vector, "message"), vector);
            assertArrayEquals(bytes(vector, "content"), content, vector.get("name").asText());
        }
    }

    @ParameterizedTest
    @EnumSource
    void refusesWithTheVectorsReason(Reader reader) {
        for (JsonNode vector : Vectors.of("refused").toList()) {
            String reason = refusal(reader, bytes(vector, "message"), vector);
            assertEquals(vector.get("refused_with").asText(), reason, vector.get("name").asText());
        }
    }

    @ParameterizedTest
    @EnumSource
    void refusesEveryFlippedBit(Reader reader) {
        for (JsonNode vector : Vectors.of("flipped").toList()) {
            byte[] message = bytes(vector, "message");
            for (JsonNode run : vector.get("reasons")) {
                for (int bit = run.get(0).asInt(); bit <= run.get(1).asInt(); bit++) {
                    message[bit / 8] ^= (byte) (1 << bit % 8);
                    assertEquals(run.get(2).asText(), refusal(reader, message, vector), "bit " + bit);
                    message[bit / 8] ^= (byte) (1 << bit % 8);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void refusesEveryTruncation(Reader reader) {
        for (JsonNode vector : Vectors.of("truncated").toList()) {
            byte[] message = bytes(vector, "message");
            for (JsonNode run : vector.get("reasons")) {
                for (int length = run.get(0).asInt(); length <= run.get(1).asInt(); length++) {
                    String reason = refusal(reader, Arrays.copyOf(message, length), vector);
                    assertEquals(run.get(2).asText(), reason, length + " bytes");
                }
            }
        }
    }

    @ParameterizedTest
    @MethodSource
    void derivesTheVectorsBytes(JsonNode vector) throws IOException {
        List<WrappedKey> wrapped = new ArrayList<>();
        for (JsonNode one : vector.get("wrapped_keys")) {
            wrapped.add(new WrappedKey(
                    bytes(one, "encrypted_data_key"), one.get("key").asText(), one.get("mesh").asText()));
        }
        Header header = Header.of(
                vector.get("chunk_size_log2").asInt(),
                context(vector.get("written_context")),
                vector.get("context_form").asText().equals("whole"),
                wrapped);
        byte[] data = header.toBytes();
        assertArrayEquals(bytes(vector, "header"), data);
        MessageKeys keys = new MessageKeys(bytes(vector, "data_key"), header.chunkSizeLog2(), header.contextDigest());
        byte[] prefix = bytes(vector, "nonce_prefix");
        assertArrayEquals(bytes(vector, "header_tag"), keys.headerTag(data));
        assertArrayEquals(bytes(vector, "message_key"), keys.messageKey(prefix));

        ByteArrayOutputStream written = new ByteArrayOutputStream();
        written.write(data);
        written.write(keys.headerTag(data));
        written.write(prefix);
        byte[] head = written.toByteArray();
        written.reset();
        try (EncryptingOutputStream output =
                new EncryptingOutputStream(written, head, keys.cipher(prefix), header.chunkSize(), bytes -> {})) {
            output.write(bytes(vector, "content"));
            output.finish();
        }
        assertArrayEquals(bytes(vector, "message"), written.toByteArray());
    }

    static Stream<JsonNode> derivesTheVectorsBytes() {
        return Vectors.of("valid");
    }

    @Test
    void aChunkBeyondTheLastNumberIsNeitherWrittenNorRead() {
        ChunkCipher cipher = new MessageKeys(new byte[32], 6, new byte[32]).cipher(new byte[19]);
        long last = (1L << 32) - 2;
        byte[] sealed = new byte[17];
        byte[] content = {0};
        cipher.seal(last, true, new byte[] {'a'}, 0, 1, sealed, 0);
        cipher.open(last, true, sealed, 0, 17, content, 0);
        assertEquals('a', content[0]);
        for (Runnable use : List.<Runnable>of(
                () -> cipher.seal(last + 1, true, content, 0, 1, new byte[17], 0),
                () -> cipher.open(last + 1, true, sealed, 0, 17, new byte[1], 0))) {
            assertEquals("MESSAGE_TOO_LARGE", assertThrows(StrongroomException.class, use::run).reason());
        }
    }

    @Test
    void knowsWhereChunksAre() {
        for (JsonNode vector : Vectors.of("layouts").toList()) {
            int chunkSize = 1 << vector.get("chunk_size_log2").asInt();
            long bodyBytes = vector.get("body_bytes").asLong();
            String outcome;
            try {
                Layout layout = Layout.of(bodyBytes, chunkSize);
                outcome = layout.chunks() + " chunks, " + layout.contentBytes();
            } catch (StrongroomException error) {
                outcome = error.reason();
            }
            String expected = vector.has("refused_with")
                    ? vector.get("refused_with").asText()
                    : vector.get("chunks").asText() + " chunks, " + vector.get("content_bytes").asText();
            assertEquals(expected, outcome, vector.toString());
        }
    }

    private static String refusal(Reader reader, byte[] message, JsonNode vector) {
        try {
            reader.read(client(), message, vector);
            return "";
        } catch (StrongroomException error) {
            return error.reason();
        } catch (IOException error) {
            throw new AssertionError(error);
        }
    }

    private static EncryptionClient client() {
        return EncryptionClient.builder(new NoMesh()).key(KEY).build();
    }

    /** A stream that gives fewer bytes than it is asked for. */
    private static final class ByteByByte extends FilterInputStream {
        ByteByByte(byte[] bytes) {
            super(new ByteArrayInputStream(bytes));
        }

        @Override
        public int read(byte[] into, int from, int length) throws IOException {
            return super.read(into, from, Math.min(length, 7));
        }
    }

    /** Of a client whose own keys are not asked. */
    private static final class NoMesh implements KeyCalls {
        @Override
        public DataKey generateDataKey(String key, int bytes, Map<String, String> context) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Encrypted encrypt(String key, byte[] plaintext, Map<String, String> context) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Decrypted decrypt(byte[] ciphertext, Map<String, String> context, String key) {
            throw new UnsupportedOperationException();
        }
    }
}
