package io.strongroom.encryption;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** What is derived from one data key, for one encryption context and size of chunks; used for many messages. */
final class MessageKeys {
    static final int DATA_KEY_BYTES = 32;
    static final int NONCE_PREFIX_BYTES = 19;

    private static final byte[] LABEL = "strongroom message v2".getBytes(StandardCharsets.US_ASCII);
    private static final int BLOCK = 16;
    /** Of the nonce prefix, which the key of a message is derived from. */
    static final int DERIVED_BYTES = 12;

    private final SecretKeySpec bodyKey;
    private final SecretKeySpec headerKey;
    private final byte[] counters;
    private final ThreadLocal<Cipher> blocks;

    /** Throws MESSAGE_ALTERED for a data key that has not 32 bytes: another ciphertext was put in its place. */
    MessageKeys(byte[] dataKey, int chunkSizeLog2, byte[] contextDigest) {
        if (dataKey.length != DATA_KEY_BYTES) {
            throw Refusals.altered();
        }
        // HKDF-SHA256 (RFC 5869) without salt, for 64 bytes: extract, then two blocks of expand.
        byte[] info = Arrays.copyOf(LABEL, LABEL.length + 1 + contextDigest.length + 1);
        info[LABEL.length] = (byte) chunkSizeLog2;
        System.arraycopy(contextDigest, 0, info, LABEL.length + 1, contextDigest.length);
        Mac expand = mac(new SecretKeySpec(mac(new SecretKeySpec(new byte[32], "HmacSHA256")).doFinal(dataKey), "HmacSHA256"));
        info[info.length - 1] = 1;
        byte[] first = expand.doFinal(info);
        info[info.length - 1] = 2;
        expand.update(first);
        byte[] second = expand.doFinal(info);
        bodyKey = new SecretKeySpec(first, "AES");
        headerKey = new SecretKeySpec(second, "HmacSHA256");
        blocks = ThreadLocal.withInitial(this::blockCipher);
        counters = counters();
    }

    /** What authenticates a header, and commits to the data key. */
    byte[] headerTag(byte[] header) {
        return mac(headerKey).doFinal(header);
    }

    /** Throws MESSAGE_ALTERED unless {@code tag} is the header's. */
    void verify(byte[] header, byte[] tag) {
        if (!MessageDigest.isEqual(headerTag(header), tag)) {
            throw Refusals.altered();
        }
    }

    /** What seals and opens the chunks of the message with this nonce prefix. */
    ChunkCipher cipher(byte[] noncePrefix) {
        return new ChunkCipher(messageKey(noncePrefix), noncePrefix);
    }

    /** The AES key that XAES-256-GCM (https://c2sp.org/XAES-256-GCM) derives for all chunks of a message. */
    byte[] messageKey(byte[] noncePrefix) {
        byte[] both = counters.clone();
        for (int at = 0; at < DERIVED_BYTES; at++) {
            both[4 + at] ^= noncePrefix[at];
            both[BLOCK + 4 + at] ^= noncePrefix[at];
        }
        try {
            return blocks.get().doFinal(both);
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // two whole blocks, and nothing to verify
        }
    }

    /** The two blocks of the derivation, with zeros in the place of the nonce. */
    private byte[] counters() {
        byte[] zero;
        try {
            zero = blocks.get().doFinal(new byte[BLOCK]);
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
        byte[] subkey = new byte[BLOCK];
        for (int at = 0; at < BLOCK; at++) {
            int next = at + 1 < BLOCK ? (zero[at + 1] & 0x80) >>> 7 : 0;
            subkey[at] = (byte) (zero[at] << 1 | next);
        }
        if (zero[0] < 0) {
            subkey[BLOCK - 1] ^= (byte) 0x87;
        }
        byte[] both = new byte[2 * BLOCK];
        System.arraycopy(subkey, 0, both, 0, BLOCK);
        System.arraycopy(subkey, 0, both, BLOCK, BLOCK);
        both[1] ^= 1;
        both[BLOCK + 1] ^= 2;
        both[2] ^= 'X';
        both[BLOCK + 2] ^= 'X';
        return both;
    }

    private Cipher blockCipher() {
        try {
            // Single blocks of a key derivation, not a way to encrypt content.
            Cipher cipher = Cipher.getInstance("AES/ECB/NoPadding");
            cipher.init(Cipher.ENCRYPT_MODE, bodyKey);
            return cipher;
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // every Java platform has it
        }
    }

    private static Mac mac(SecretKeySpec key) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(key);
            return mac;
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error); // every Java platform has it
        }
    }
}
