import io.strongroom.KeyCalls;
import io.strongroom.encryption.DataKeyCache;
import io.strongroom.encryption.EncryptingOutputStream;
import io.strongroom.encryption.EncryptionClient;
import java.io.IOException;
import java.io.OutputStream;
import java.security.GeneralSecurityException;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * What messages and streams cost beside bare AES-256-GCM, for {@code python -m bench sdk}: {@code Bench ROUNDS}. What is
 * compared takes turns; the figures are the medians of how many times as fast the SDK is as the bare cipher.
 */
public class Bench {
    private static final int KIB = 1024;
    private static final int MESSAGES = 2000;
    private static final int CHUNK = 1 << 16;
    private static final int STREAMED = 32 << 20;

    private static final SecureRandom RANDOM = new SecureRandom();
    private static final SecretKeySpec KEY = new SecretKeySpec(random(32), "AES");
    private static final EncryptionClient ENCRYPTION =
            EncryptionClient.builder(new AtHand()).key("bench").cache(new DataKeyCache()).build();

    /** What is measured. */
    private interface Work {
        void run() throws GeneralSecurityException, IOException;
    }

    public static void main(String[] given) throws GeneralSecurityException, IOException {
        int rounds = Integer.parseInt(given[0]);
        List<Double> kibs = new ArrayList<>();
        List<Double> streams = new ArrayList<>();
        for (int round = 0; round <= rounds; round++) {
            kibs.add(seconds(Bench::bareMessages) / seconds(Bench::ownMessages));
            streams.add(seconds(Bench::bareStream) / seconds(Bench::ownStream));
        }
        System.out.printf(
                Locale.ROOT, "{\"kib_vs_bare\": %f, \"stream_vs_bare\": %f}%n", median(kibs), median(streams));
    }

    /** Messages as short as can be: a random nonce and the ciphertext. */
    private static void bareMessages() throws GeneralSecurityException {
        byte[] content = new byte[KIB];
        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        for (int count = 0; count < MESSAGES; count++) {
            byte[] nonce = random(12);
            byte[] message = new byte[12 + KIB + 16];
            System.arraycopy(nonce, 0, message, 0, 12);
            cipher.init(Cipher.ENCRYPT_MODE, KEY, new GCMParameterSpec(128, nonce));
            cipher.doFinal(content, 0, KIB, message, 12);
        }
    }

    private static void ownMessages() {
        byte[] content = new byte[KIB];
        for (int count = 0; count < MESSAGES; count++) {
            ENCRYPTION.encrypt(content, Map.of());
        }
    }

    private static void bareStream() throws GeneralSecurityException {
        byte[] content = new byte[CHUNK];
        byte[] sealed = new byte[CHUNK + 16];
        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        for (int number = 0; number < STREAMED / CHUNK; number++) {
            byte[] nonce = new byte[12];
            nonce[0] = (byte) number;
            nonce[1] = (byte) (number >> 8);
            cipher.init(Cipher.ENCRYPT_MODE, KEY, new GCMParameterSpec(128, nonce));
            cipher.doFinal(content, 0, CHUNK, sealed, 0);
        }
    }

    private static void ownStream() throws IOException {
        byte[] piece = new byte[1 << 18];
        try (EncryptingOutputStream output =
                ENCRYPTION.encryptingStream(OutputStream.nullOutputStream(), Map.of())) {
            for (int count = 0; count < STREAMED / piece.length; count++) {
                output.write(piece);
            }
            output.finish();
        }
    }

    private static double seconds(Work work) throws GeneralSecurityException, IOException {
        long began = System.nanoTime();
        work.run();
        return (System.nanoTime() - began) / 1e9;
    }

    /** Without the first rounds, in which little is compiled yet. */
    private static double median(List<Double> quotients) {
        List<Double> rest = quotients.subList(quotients.size() / 4 + 1, quotients.size()).stream().sorted().toList();
        return rest.get(rest.size() / 2);
    }

    private static byte[] random(int size) {
        byte[] bytes = new byte[size];
        RANDOM.nextBytes(bytes);
        return bytes;
    }

    /** A mesh that costs nothing, since the data key is at hand. */
    private static final class AtHand implements KeyCalls {
        @Override
        public DataKey generateDataKey(String key, int bytes, Map<String, String> context) {
            return new DataKey(random(bytes), random(94), key);
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
