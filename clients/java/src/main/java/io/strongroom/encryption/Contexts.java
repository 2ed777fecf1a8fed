package io.strongroom.encryption;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** The canonical bytes of an encryption context (docs/formats.md, "Encryption context"), written and read. */
final class Contexts {
    static final int MAX_BYTES = 8192;
    static final int DIGEST_BYTES = 32;

    private Contexts() {}

    /** Equal contexts have equal bytes, different ones never. Throws FIELD_INVALID or FIELD_TOO_LARGE. */
    static byte[] canonical(Map<String, String> pairs) {
        if (pairs.size() > MAX_BYTES / 4) {
            throw tooLarge();
        }
        TreeMap<byte[], byte[]> encoded = new TreeMap<>(Arrays::compareUnsigned);
        long size = 2;
        for (Map.Entry<String, String> pair : pairs.entrySet()) {
            byte[] key = utf8(pair.getKey());
            byte[] value = utf8(pair.getValue());
            if (key.length == 0) {
                throw Refusals.fieldInvalid("the encryption context has an empty key", "context");
            }
            size += 4L + key.length + value.length;
            encoded.put(key, value);
        }
        // Only now: what is told must not depend on the order that a map gives its pairs in.
        if (size > MAX_BYTES) {
            throw tooLarge();
        }
        ByteBuffer canonical = ByteBuffer.allocate((int) size).putShort((short) encoded.size());
        encoded.forEach((key, value) -> {
            canonical.putShort((short) key.length).put(key);
            canonical.putShort((short) value.length).put(value);
        });
        return canonical.array();
    }

    /** What stands for a context where the context itself does not. */
    static byte[] digest(byte[] canonical) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(canonical);
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error); // every Java platform has it
        }
    }

    /** The pairs of canonical bytes. Throws MESSAGE_ALTERED for any other bytes. */
    static Map<String, String> pairs(byte[] canonical) {
        if (canonical.length < 2 || canonical.length > MAX_BYTES) {
            throw Refusals.altered();
        }
        Fields fields = new Fields(canonical);
        Map<String, String> pairs = new LinkedHashMap<>();
        byte[] before = new byte[0];
        for (int left = fields.number(2); left > 0; left--) {
            byte[] key = fields.take(fields.number(2));
            // The first key is more than nothing, each further one more than the one before.
            if (Arrays.compareUnsigned(key, before) <= 0) {
                throw Refusals.altered();
            }
            pairs.put(text(key), text(fields.take(fields.number(2))));
            before = key;
        }
        fields.end();
        return Collections.unmodifiableMap(pairs);
    }

    private static byte[] utf8(String text) {
        if (text == null) {
            throw Refusals.fieldInvalid("the encryption context holds null", "context");
        }
        try {
            // Not String.getBytes, which writes a question mark for half of a surrogate pair.
            ByteBuffer encoded = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            byte[] bytes = new byte[encoded.remaining()];
            encoded.get(bytes);
            return bytes;
        } catch (CharacterCodingException error) {
            throw Refusals.fieldInvalid("the encryption context holds something that is no text in UTF-8", "context");
        }
    }

    private static String text(byte[] bytes) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException error) {
            throw Refusals.altered();
        }
    }

    private static RuntimeException tooLarge() {
        return Refusals.fieldTooLarge("the encryption context has more than 8,192 bytes", "context");
    }
}
