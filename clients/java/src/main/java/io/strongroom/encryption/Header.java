package io.strongroom.encryption;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * What precedes the body of a message. Nothing in it is secret, and all of it is under the header tag.
 *
 * @param chunkSizeLog2 the size of chunks as a power of two
 * @param contextDigest SHA-256 of the canonical encryption context
 * @param context the encryption context where the writer wrote it down, else null
 * @param wrappedKeys the data key, under 1 to 16 keys
 */
record Header(int chunkSizeLog2, byte[] contextDigest, Map<String, String> context, List<WrappedKey> wrappedKeys) {
    static final int VERSION = 2;
    static final int TAG_BYTES = 32;
    static final int SMALLEST_LOG2 = 6;
    static final int LARGEST_LOG2 = 20;
    static final int MAX_WRAPPED_KEYS = 16;

    private static final byte[] MAGIC = {(byte) 0x89, 'S', 'R', 'F', 'I', 'L', 'E'};
    private static final int FIXED_BYTES = 13;
    private static final int MAX_HINT_BYTES = 255;
    private static final int MAX_ENCRYPTED_DATA_KEY_BYTES = 2048;
    private static final int DIGEST_FORM = 0;
    private static final int WHOLE_FORM = 1;

    /**
     * A header as it was found, and the tag behind it, which nobody has verified yet.
     *
     * @param header what it says
     * @param data its bytes
     * @param tag the tag
     */
    record Found(Header header, byte[] data, byte[] tag) {}

    /** The header of a new message. Throws FIELD_INVALID or FIELD_TOO_LARGE for the context. */
    static Header of(int chunkSizeLog2, Map<String, String> context, boolean storeContext, List<WrappedKey> wrapped) {
        byte[] digest = Contexts.digest(Contexts.canonical(context));
        return new Header(chunkSizeLog2, digest, storeContext ? Map.copyOf(context) : null, wrapped);
    }

    /** Reads header and tag, and takes no more than these, at most 65,580 bytes. */
    static Found read(InputStream input) throws IOException {
        byte[] fixed = input.readNBytes(FIXED_BYTES);
        if (fixed.length <= MAGIC.length || !Arrays.equals(fixed, 0, MAGIC.length, MAGIC, 0, MAGIC.length)) {
            throw Refusals.notRecognized();
        }
        if (fixed[7] != VERSION) {
            throw Refusals.versionUnknown(fixed[7] & 0xff);
        }
        if (fixed.length != FIXED_BYTES) {
            throw Refusals.altered();
        }
        int chunkSizeLog2 = fixed[8] & 0xff;
        int form = fixed[9] & 0xff;
        int count = fixed[10] & 0xff;
        int length = (fixed[11] & 0xff) << 8 | fixed[12] & 0xff;
        if (chunkSizeLog2 < SMALLEST_LOG2 || chunkSizeLog2 > LARGEST_LOG2) {
            throw Refusals.chunkSizeInvalid(chunkSizeLog2);
        }
        if (form > WHOLE_FORM || count < 1 || count > MAX_WRAPPED_KEYS) {
            throw Refusals.altered();
        }
        byte[] rest = input.readNBytes(length);
        byte[] tag = input.readNBytes(TAG_BYTES);
        if (rest.length != length || tag.length != TAG_BYTES) {
            throw Refusals.altered();
        }
        byte[] data = Arrays.copyOf(fixed, FIXED_BYTES + length);
        System.arraycopy(rest, 0, data, FIXED_BYTES, length);
        return new Found(parsed(chunkSizeLog2, form, count, new Fields(rest)), data, tag);
    }

    private static Header parsed(int chunkSizeLog2, int form, int count, Fields fields) {
        byte[] digest;
        Map<String, String> context = null;
        if (form == DIGEST_FORM) {
            digest = fields.take(Contexts.DIGEST_BYTES);
        } else {
            byte[] canonical = fields.take(fields.number(2));
            context = Contexts.pairs(canonical);
            digest = Contexts.digest(canonical);
        }
        List<WrappedKey> wrapped = new ArrayList<>(count);
        for (int left = count; left > 0; left--) {
            String key = hint(fields);
            String mesh = hint(fields);
            int length = fields.number(2);
            if (length < 1 || length > MAX_ENCRYPTED_DATA_KEY_BYTES) {
                throw Refusals.altered();
            }
            wrapped.add(new WrappedKey(fields.take(length), key, mesh));
        }
        fields.end();
        return new Header(chunkSizeLog2, digest, context, List.copyOf(wrapped));
    }

    int chunkSize() {
        return 1 << chunkSizeLog2;
    }

    /** This header with its data key under other keys. */
    Header under(List<WrappedKey> others) {
        return new Header(chunkSizeLog2, contextDigest, context, others);
    }

    /** The message's context, where {@code given} is that or null. Throws CONTEXT_MISMATCH. */
    Map<String, String> contextFor(Map<String, String> given) {
        if (given == null && context != null) {
            return context;
        }
        Map<String, String> pairs = given == null ? Map.of() : given;
        if (!MessageDigest.isEqual(Contexts.digest(Contexts.canonical(pairs)), contextDigest)) {
            throw Refusals.contextMismatch();
        }
        return pairs;
    }

    /** The header as it is in the message, without its tag. Throws FIELD_INVALID or FIELD_TOO_LARGE. */
    byte[] toBytes() {
        if (wrappedKeys.isEmpty() || wrappedKeys.size() > MAX_WRAPPED_KEYS) {
            throw Refusals.fieldInvalid("a message is under 1 to 16 keys", "keys");
        }
        ByteArrayOutputStream rest = new ByteArrayOutputStream();
        if (context == null) {
            rest.writeBytes(contextDigest);
        } else {
            byte[] canonical = Contexts.canonical(context);
            writeLength(rest, canonical.length);
            rest.writeBytes(canonical);
        }
        for (WrappedKey wrapped : wrappedKeys) {
            writeHint(rest, wrapped.key());
            writeHint(rest, wrapped.mesh());
            int length = wrapped.encryptedDataKey().length;
            if (length < 1 || length > MAX_ENCRYPTED_DATA_KEY_BYTES) {
                throw Refusals.fieldTooLarge("an encrypted data key has 1 to 2,048 bytes", "keys");
            }
            writeLength(rest, length);
            rest.writeBytes(wrapped.encryptedDataKey());
        }
        ByteBuffer header = ByteBuffer.allocate(FIXED_BYTES + rest.size()).put(MAGIC);
        header.put((byte) VERSION).put((byte) chunkSizeLog2).put((byte) (context == null ? DIGEST_FORM : WHOLE_FORM));
        header.put((byte) wrappedKeys.size()).putShort((short) rest.size()).put(rest.toByteArray());
        return header.array();
    }

    private static void writeLength(ByteArrayOutputStream into, int length) {
        into.write(length >>> 8);
        into.write(length);
    }

    private static void writeHint(ByteArrayOutputStream into, String hint) {
        byte[] encoded = hint.getBytes(StandardCharsets.UTF_8);
        if (encoded.length > MAX_HINT_BYTES || !isPrintable(encoded)) {
            throw Refusals.fieldInvalid("a hint has at most 255 printable ASCII characters and no space", "keys");
        }
        into.write(encoded.length);
        into.writeBytes(encoded);
    }

    private static String hint(Fields fields) {
        byte[] encoded = fields.take(fields.number(1));
        if (!isPrintable(encoded)) {
            throw Refusals.altered();
        }
        return new String(encoded, StandardCharsets.US_ASCII);
    }

    private static boolean isPrintable(byte[] text) {
        for (byte one : text) {
            if (one < 0x21 || one > 0x7e) {
                return false;
            }
        }
        return true;
    }
}
