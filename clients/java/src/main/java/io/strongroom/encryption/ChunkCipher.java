package io.strongroom.encryption;

import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import javax.crypto.AEADBadTagException;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Seals and opens the chunks of one message. The nonce of a chunk says to which message it belongs, where in it, and
 * whether it is the last (STREAM; Hoang, Reyhanitabar, Rogaway, Vizár, CRYPTO 2015).
 */
final class ChunkCipher {
    static final int TAG_BYTES = 16;
    static final long MAX_CHUNKS = (1L << 32) - 1;

    private static final ThreadLocal<Cipher> CIPHERS = ThreadLocal.withInitial(ChunkCipher::cipher);

    private final SecretKeySpec key;
    private final byte[] nonceStart;

    ChunkCipher(byte[] messageKey, byte[] noncePrefix) {
        key = new SecretKeySpec(messageKey, "AES");
        nonceStart = Arrays.copyOfRange(noncePrefix, MessageKeys.DERIVED_BYTES, MessageKeys.NONCE_PREFIX_BYTES);
    }

    /**
     * Encrypts the chunk {@code number}, counted from 0, of {@code length} bytes at {@code from}, into {@code sealed},
     * which takes 16 bytes more. Throws MESSAGE_TOO_LARGE.
     */
    void seal(long number, boolean last, byte[] content, int from, int length, byte[] sealed, int into) {
        try {
            ready(Cipher.ENCRYPT_MODE, number, last).doFinal(content, from, length, sealed, into);
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // the key and the room are right
        }
    }

    /**
     * Verifies and decrypts a chunk of {@code length} bytes, tag included. Throws MESSAGE_ALTERED or MESSAGE_TOO_LARGE.
     */
    void open(long number, boolean last, byte[] sealed, int from, int length, byte[] content, int into) {
        if (length < TAG_BYTES) {
            throw Refusals.altered();
        }
        try {
            ready(Cipher.DECRYPT_MODE, number, last).doFinal(sealed, from, length, content, into);
        } catch (AEADBadTagException error) {
            throw Refusals.altered();
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // the key and the room are right
        }
    }

    private Cipher ready(int mode, long number, boolean last) throws GeneralSecurityException {
        if (number >= MAX_CHUNKS) {
            throw Refusals.tooLarge();
        }
        ByteBuffer nonce = ByteBuffer.allocate(12).put(nonceStart).putInt((int) number).put((byte) (last ? 1 : 0));
        Cipher cipher = CIPHERS.get();
        cipher.init(mode, key, new GCMParameterSpec(8 * TAG_BYTES, nonce.array()));
        return cipher;
    }

    private static Cipher cipher() {
        try {
            return Cipher.getInstance("AES/GCM/NoPadding");
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // every Java platform has it
        }
    }
}
