package io.strongroom;

import java.util.Map;

/** What the encryption SDK asks of a mesh: {@link Client}, or what stands in its place. */
public interface KeyCalls {
    /**
     * A data key, in the clear and encrypted.
     *
     * @param plaintext the data key
     * @param ciphertext the data key, encrypted under {@code key}
     * @param key full name of the key, also where an alias was given
     */
    record DataKey(byte[] plaintext, byte[] ciphertext, String key) {
        @Override
        public String toString() {
            return "DataKey[key=" + key + "]";
        }
    }

    /**
     * A ciphertext.
     *
     * @param ciphertext names its key, version and algorithm
     * @param key full name of the key
     */
    record Encrypted(byte[] ciphertext, String key) {}

    /**
     * A plaintext.
     *
     * @param plaintext what was encrypted
     * @param key full name of the key that it was under
     */
    record Decrypted(byte[] plaintext, String key) {
        @Override
        public String toString() {
            return "Decrypted[key=" + key + "]";
        }
    }

    /** Makes a data key of {@code bytes} bytes, 16 to 1,024. */
    DataKey generateDataKey(String key, int bytes, Map<String, String> context);

    /** Encrypts up to 65,536 bytes under a key. */
    Encrypted encrypt(String key, byte[] plaintext, Map<String, String> context);

    /** Decrypts; where {@code key} is not empty, only what is under it (else KEY_MISMATCH). */
    Decrypted decrypt(byte[] ciphertext, Map<String, String> context, String key);

    /** The full name of a key that is given by its id, by {@code alias/…} or in full. */
    default String keyName(String name) {
        return name;
    }
}
