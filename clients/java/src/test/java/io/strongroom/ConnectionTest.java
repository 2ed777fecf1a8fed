package io.strongroom;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.ManagedChannel;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.Base64;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What becomes of a connection whose files are replaced. */
class ConnectionTest {
    @TempDir
    private Path folder;

    private Connection connection;
    private long nanos;

    /** A certificate and its key, as PEM. */
    private record Pair(String certificate, String key) {}

    @AfterEach
    void close() {
        connection.close();
    }

    @Test
    void aReplacementThatIsHalfDoneStopsNoCallAndAWholeOneIsUsed() throws Exception {
        Pair first = pair("first");
        Pair second = pair("second");
        Path certificate = replaced("certificate.pem", first.certificate);
        Path key = replaced("key.pem", first.key);
        Path trust = replaced("trust.pem", first.certificate);
        connection = new Connection("127.0.0.1:1", new Connection.Pem(trust, certificate, key), () -> nanos);
        ManagedChannel before = connection.current();

        replaced("certificate.pem", second.certificate);
        assertSame(before, later());
        replaced("key.pem", second.key.substring(0, 100));
        assertSame(before, later());
        Files.delete(key);
        assertSame(before, later());
        replaced("trust.pem", "not a certificate");
        replaced("key.pem", second.key);
        assertSame(before, later());
        replaced("trust.pem", second.certificate);
        assertNotSame(before, later());
    }

    @Test
    void whatIsNoCertificateIsRefusedWithAReason() throws IOException {
        Path trust = replaced("trust.pem", "not a certificate");
        connection = new Connection("127.0.0.1:1", new Connection.Pem(trust, null, null), () -> nanos);
        assertEquals(
                "CREDENTIALS_UNREADABLE",
                assertThrows(StrongroomException.class, connection::current).reason());
    }

    private ManagedChannel later() {
        nanos += 5_000_000_000L;
        return connection.current();
    }

    private Path replaced(String name, String text) throws IOException {
        Path beside = Files.writeString(folder.resolve(name + ".new"), text);
        return Files.move(beside, folder.resolve(name), StandardCopyOption.REPLACE_EXISTING);
    }

    /** Made by the JDK's own tool: its library makes no certificates. */
    private Pair pair(String name) throws IOException, InterruptedException, GeneralSecurityException {
        Path store = folder.resolve(name + ".p12");
        Path keytool = Path.of(System.getProperty("java.home"), "bin", "keytool");
        Process made = new ProcessBuilder(
                        keytool.toString(), "-genkeypair", "-alias", name, "-keyalg", "EC", "-dname", "CN=" + name,
                        "-storetype", "PKCS12", "-storepass", "password", "-keystore", store.toString())
                .inheritIO()
                .start();
        assertEquals(0, made.waitFor());
        KeyStore opened = KeyStore.getInstance("PKCS12");
        try (InputStream input = Files.newInputStream(store)) {
            opened.load(input, "password".toCharArray());
        }
        byte[] key = opened.getKey(name, "password".toCharArray()).getEncoded();
        return new Pair(pem("CERTIFICATE", opened.getCertificate(name).getEncoded()), pem("PRIVATE KEY", key));
    }

    private static String pem(String kind, byte[] encoded) {
        String text = Base64.getMimeEncoder(64, "\n".getBytes()).encodeToString(encoded);
        return "-----BEGIN " + kind + "-----\n" + text + "\n-----END " + kind + "-----\n";
    }
}
