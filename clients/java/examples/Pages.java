import io.strongroom.Client;
import io.strongroom.Credentials;
import io.strongroom.Service;
import io.strongroom.StrongroomException;
import io.strongroom.encryption.DataKeyCache;
import io.strongroom.encryption.EncryptingOutputStream;
import io.strongroom.encryption.EncryptionClient;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Map;

/**
 * The programs of docs/languages/java.md and of the client's README. tests/unit/tools/test_language_pages.py holds those
 * to this file, which is compiled with the client.
 */
final class Pages {
    private Pages() {}

    static void encryptStream(InputStream source, Path path) throws IOException {
        try (Client client = Client.builder()
                .endpoint(Service.CRYPTO, "kms-1.example.com:7111,kms-2.example.com:7111")
                .endpoint(Service.KEYSTORE, "kms-1.example.com:7101,kms-2.example.com:7101")
                .trust(Path.of("/etc/strongroom/authority.pem"))
                .credentials(new Credentials.ClientKeySession("accounts/main/clientKeys/ck-3m5t7qz2k4r6xvbn", Path.of("/run/secrets/strongroom")))
                .account("main")
                .build()) {
            EncryptionClient encryption = EncryptionClient.builder(client).key("payments").cache(new DataKeyCache()).build();
            try (EncryptingOutputStream output = encryption.encryptingStream(Files.newOutputStream(path), Map.of("host", "db1"))) {
                source.transferTo(output);
                output.finish();
            }
        }
    }

    static void encryptInTheMesh() {
        try (Client client = Client.fromProfile()) {
            byte[] card = "4111 1111 1111 1111".getBytes(StandardCharsets.UTF_8);
            var sealed = client.encrypt("payments", card, Map.of("tenant", "a"));
            System.out.println(Base64.getEncoder().encodeToString(sealed.ciphertext()));
        } catch (StrongroomException failed) {
            if (failed.reason().equals("KEY_DISABLED")) System.err.println("somebody has to enable it");
            throw failed;
        }
    }
}
