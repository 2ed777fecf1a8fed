package io.strongroom.encryption;

import io.strongroom.KeyCalls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.nio.channels.SeekableByteChannel;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;

/**
 * Encrypts messages of any size here, under data keys that the mesh wraps.
 *
 * <pre>{@code
 * EncryptionClient encryption = EncryptionClient.builder(client).key("payments").build();
 * byte[] message = encryption.encrypt(content, Map.of("tenant", "a"));
 * byte[] again = encryption.decrypt(message, Map.of("tenant", "a"));
 * }</pre>
 *
 * <p>It may be shared between threads. Every message is bound to its encryption context, and opens under any one of the
 * keys that it was written for. Only messages under the keys of this client are decrypted, unless it is told others.
 *
 * <p>Refusals are {@link io.strongroom.StrongroomException}s: MESSAGE_NOT_RECOGNIZED, MESSAGE_VERSION_UNKNOWN,
 * MESSAGE_CHUNK_SIZE_INVALID, MESSAGE_ALTERED, MESSAGE_TOO_LARGE, CONTEXT_MISMATCH, KEY_NOT_ACCEPTED, KEY_MISMATCH, and
 * what the mesh answers.
 */
public final class EncryptionClient {
    private static final int DEFAULT_CHUNK_SIZE_LOG2 = 16;
    private static final SecureRandom RANDOM = new SecureRandom();

    private final List<MeshKey> keys;
    private final boolean storeContext;
    private final boolean nameKeys;
    private final int chunkSizeLog2;
    private final DataKeyCache cache;

    /** What messages of one data key begin with: header and tag, and the keys of their bodies. */
    private record Beginning(byte[] head, MessageKeys keys) {}

    /** What opens the chunks of a message, and their size. */
    private record Reading(ChunkCipher cipher, int chunkSize) {}

    /** What a data key is kept for, when it is to write with. */
    private record Writing(EncryptionClient client, Map<String, String> context) {}

    private EncryptionClient(Builder builder) {
        keys = List.copyOf(builder.keys);
        storeContext = builder.storeContext;
        nameKeys = builder.nameKeys;
        chunkSizeLog2 = builder.chunkSizeLog2;
        cache = builder.cache;
    }

    /** Begins a client for keys of the mesh that {@code calls}, a {@link io.strongroom.Client}, reaches. */
    public static Builder builder(KeyCalls calls) {
        return new Builder(calls);
    }

    /**
     * The message that holds {@code content}, some 240 bytes longer with one key.
     *
     * @param context the encryption context: pairs that the message is bound to, not secret, up to 8,192 bytes in all
     */
    public byte[] encrypt(byte[] content, Map<String, String> context) {
        Beginning beginning = begin(context, content.length);
        int chunkSize = 1 << chunkSizeLog2;
        long size = beginning.head.length + MessageKeys.NONCE_PREFIX_BYTES + Layout.bodyBytes(content.length, chunkSize);
        if (size > Integer.MAX_VALUE - 8) {
            throw Refusals.fieldTooLarge("such a message has no room in an array: use encryptingStream", "content");
        }
        byte[] message = Arrays.copyOf(beginning.head, (int) size);
        byte[] prefix = noncePrefix();
        System.arraycopy(prefix, 0, message, beginning.head.length, prefix.length);
        ChunkCipher cipher = beginning.keys.cipher(prefix);
        int into = beginning.head.length + prefix.length;
        long number = 0;
        int at = 0;
        do {
            int length = Math.min(chunkSize, content.length - at);
            cipher.seal(number++, at + length == content.length, content, at, length, message, into);
            at += length;
            into += length + ChunkCipher.TAG_BYTES;
        } while (at < content.length);
        return message;
    }

    /**
     * The content of a message, all of it verified.
     *
     * @param context what it was encrypted with; null where the message holds it itself, or it is empty
     */
    public byte[] decrypt(byte[] message, Map<String, String> context) {
        return decrypt(message, context, keys);
    }

    /** The content of a message that is under one of {@code accepted}. */
    public byte[] decrypt(byte[] message, Map<String, String> context, List<MeshKey> accepted) {
        ByteArrayInputStream input = new ByteArrayInputStream(message);
        Opening.Opened opened = open(input, context, accepted, message.length);
        int prefixAt = message.length - input.available();
        int at = prefixAt + MessageKeys.NONCE_PREFIX_BYTES;
        int chunkSize = opened.header().chunkSize();
        Layout layout = Layout.of((long) message.length - at, chunkSize);
        ChunkCipher cipher = opened.keys().cipher(Arrays.copyOfRange(message, prefixAt, at));
        byte[] content = new byte[(int) layout.contentBytes()];
        for (long number = 0; number < layout.chunks(); number++) {
            boolean last = number == layout.chunks() - 1;
            int length = last ? message.length - at : chunkSize + ChunkCipher.TAG_BYTES;
            cipher.open(number, last, message, at, length, content, (int) (number * chunkSize));
            at += length;
        }
        return content;
    }

    /**
     * A stream to write content to, whose message goes into {@code output}, in constant memory. {@link
     * EncryptingOutputStream#finish()} writes the end; closing it closes {@code output}, and without the end no reader
     * takes the message for whole.
     */
    public EncryptingOutputStream encryptingStream(OutputStream output, Map<String, String> context) {
        Map<String, String> kept = copied(context);
        Beginning beginning = begin(kept, 0);
        byte[] prefix = noncePrefix();
        Writing lookup = new Writing(this, kept);
        EncryptingOutputStream.Spent spent = cache == null ? bytes -> {} : bytes -> cache.spend(lookup, bytes);
        byte[] head = Arrays.copyOf(beginning.head, beginning.head.length + prefix.length);
        System.arraycopy(prefix, 0, head, beginning.head.length, prefix.length);
        return new EncryptingOutputStream(output, head, beginning.keys.cipher(prefix), 1 << chunkSizeLog2, spent);
    }

    /**
     * A stream to read the content of the message in {@code input} from, in constant memory.
     *
     * <p>Each chunk is verified before it is handed out, and that none is missing when the end is reached: keep what you
     * read aside until then. Reading throws {@link io.strongroom.StrongroomException}.
     */
    public InputStream decryptingStream(InputStream input, Map<String, String> context) throws IOException {
        return decryptingStream(input, context, keys);
    }

    /** A stream to read the content of a message that is under one of {@code accepted} from. */
    public InputStream decryptingStream(InputStream input, Map<String, String> context, List<MeshKey> accepted)
            throws IOException {
        Reading reading = reading(input, context, accepted);
        return new DecryptingInputStream(input, reading.cipher, reading.chunkSize);
    }

    /**
     * The content of the message in {@code input}, from where it stands to its end, to be read anywhere, in constant
     * memory. That it is whole is verified here, by its last chunk, and each chunk when it is read.
     */
    public SeekableByteChannel decryptingChannel(SeekableByteChannel input, Map<String, String> context)
            throws IOException {
        return decryptingChannel(input, context, keys);
    }

    /** The content of a message that is under one of {@code accepted}, to be read anywhere. */
    public SeekableByteChannel decryptingChannel(
            SeekableByteChannel input, Map<String, String> context, List<MeshKey> accepted) throws IOException {
        // It reads what it is asked for, and no further.
        Reading reading = reading(Channels.newInputStream(input), context, accepted);
        return new DecryptingChannel(input, reading.cipher, reading.chunkSize);
    }

    /**
     * A message under {@code others}, with the same body. Whoever could open it before may have kept its data key: to
     * shut them out of a content, encrypt it anew.
     */
    public byte[] rewrap(byte[] message, List<MeshKey> others, Map<String, String> context) {
        ByteArrayInputStream input = new ByteArrayInputStream(message);
        Opening.Opened opened = open(input, context, keys, 0);
        List<WrappedKey> wrapped = others.stream()
                .map(key -> key.wrap(opened.dataKey(), opened.context(), nameKeys))
                .toList();
        byte[] head = head(opened.header().under(wrapped), opened.keys());
        byte[] body = input.readAllBytes();
        byte[] rewrapped = Arrays.copyOf(head, head.length + body.length);
        System.arraycopy(body, 0, rewrapped, head.length, body.length);
        return rewrapped;
    }

    private Beginning begin(Map<String, String> context, long bytes) {
        Map<String, String> kept = copied(context);
        if (cache == null) {
            return begun(kept);
        }
        return cache.get(new Writing(this, kept), bytes, () -> begun(kept));
    }

    private Beginning begun(Map<String, String> context) {
        // What has no canonical form is refused before a data key is made.
        Contexts.canonical(context);
        MeshKey first = keys.get(0);
        KeyCalls.DataKey made = first.generate(context);
        List<WrappedKey> wrapped = new ArrayList<>();
        wrapped.add(new WrappedKey(made.ciphertext(), nameKeys ? made.key() : "", first.mesh()));
        for (MeshKey other : keys.subList(1, keys.size())) {
            wrapped.add(other.wrap(made.plaintext(), context, nameKeys));
        }
        Header header = Header.of(chunkSizeLog2, context, storeContext, wrapped);
        MessageKeys derived = new MessageKeys(made.plaintext(), chunkSizeLog2, header.contextDigest());
        return new Beginning(head(header, derived), derived);
    }

    private static byte[] head(Header header, MessageKeys keys) {
        byte[] data = header.toBytes();
        byte[] head = Arrays.copyOf(data, data.length + Header.TAG_BYTES);
        System.arraycopy(keys.headerTag(data), 0, head, data.length, Header.TAG_BYTES);
        return head;
    }

    private Opening.Opened open(InputStream input, Map<String, String> context, List<MeshKey> accepted, long bytes) {
        Header.Found found;
        try {
            found = Header.read(input);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        if (cache == null) {
            return Opening.open(found, context, accepted);
        }
        Map<String, String> kept = context == null ? null : copied(context);
        // By header, tag and all: what was verified once is verified for the same bytes alone.
        List<Object> lookup = new ArrayList<>(List.of(accepted, new Bytes(found.data()), new Bytes(found.tag())));
        lookup.add(kept);
        return cache.get(lookup, bytes, () -> Opening.open(found, kept, accepted));
    }

    /** Takes header and nonce prefix. */
    private Reading reading(InputStream input, Map<String, String> context, List<MeshKey> accepted) throws IOException {
        try {
            Opening.Opened opened = open(input, context, accepted, 0);
            byte[] prefix = input.readNBytes(MessageKeys.NONCE_PREFIX_BYTES);
            if (prefix.length != MessageKeys.NONCE_PREFIX_BYTES) {
                throw Refusals.altered();
            }
            return new Reading(opened.keys().cipher(prefix), opened.header().chunkSize());
        } catch (UncheckedIOException error) {
            throw error.getCause();
        }
    }

    private static Map<String, String> copied(Map<String, String> context) {
        // Not Map.copyOf: null in it is refused with a reason.
        return context == null ? Map.of() : Collections.unmodifiableMap(new HashMap<>(context));
    }

    private static byte[] noncePrefix() {
        byte[] prefix = new byte[MessageKeys.NONCE_PREFIX_BYTES];
        RANDOM.nextBytes(prefix);
        return prefix;
    }

    /** Bytes that are compared by what they are. */
    private record Bytes(byte[] bytes) {
        @Override
        public boolean equals(Object other) {
            return other instanceof Bytes that && Arrays.equals(bytes, that.bytes);
        }

        @Override
        public int hashCode() {
            return Arrays.hashCode(bytes);
        }
    }

    /** What a client is made of. */
    public static final class Builder {
        private final KeyCalls calls;
        private final LinkedHashSet<MeshKey> keys = new LinkedHashSet<>();
        private boolean storeContext;
        private boolean nameKeys = true;
        private int chunkSizeLog2 = DEFAULT_CHUNK_SIZE_LOG2;
        private DataKeyCache cache;

        private Builder(KeyCalls calls) {
            this.calls = calls;
        }

        /** One more key that messages are under, and that is accepted: its id, {@code alias/…}, or full name. */
        public Builder key(String name) {
            return key(MeshKey.of(calls, name));
        }

        /** One more key, which may be of another mesh. */
        public Builder key(MeshKey key) {
            keys.add(key);
            return this;
        }

        /** Keeps data keys for messages to come; without, each message asks the mesh. */
        public Builder cache(DataKeyCache kept) {
            cache = kept;
            return this;
        }

        /** Writes the encryption context itself into messages, so that readers need not know it; else its digest. */
        public Builder storeContext(boolean store) {
            storeContext = store;
            return this;
        }

        /** Whether messages name their keys, so that a reader of several asks for the right one; they do by default. */
        public Builder nameKeys(boolean name) {
            nameKeys = name;
            return this;
        }

        /** The size of chunks as a power of two, 6 to 20; by default 16, which is 64 KiB. */
        public Builder chunkSizeLog2(int log2) {
            if (log2 < Header.SMALLEST_LOG2 || log2 > Header.LARGEST_LOG2) {
                throw Refusals.fieldInvalid("chunks have 2^6 to 2^20 bytes", "chunkSizeLog2");
            }
            chunkSizeLog2 = log2;
            return this;
        }

        /** The client. Throws FIELD_REQUIRED without a key, FIELD_INVALID with more than 16. */
        public EncryptionClient build() {
            if (keys.isEmpty()) {
                throw Refusals.fieldRequired("name at least one key", "keys");
            }
            if (keys.size() > Header.MAX_WRAPPED_KEYS) {
                throw Refusals.fieldInvalid("a message is under at most 16 keys", "keys");
            }
            return new EncryptionClient(this);
        }
    }
}
