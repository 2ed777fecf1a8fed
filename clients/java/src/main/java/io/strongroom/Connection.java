package io.strongroom;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelRegistry;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.function.LongSupplier;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** A connection to one address, which is made anew, for new calls, when its PEM files were replaced. */
class Connection implements AutoCloseable {
    private static final long CHECK_EVERY_NANOS = TimeUnit.SECONDS.toNanos(5);
    private static final int MAX_ANSWER_BYTES = 8 << 20;
    private static final Pattern PEM_MARKS = Pattern.compile("-----[^-]+-----");

    /**
     * PEM files to connect with; those that are null are left out.
     *
     * @param trust certificate authorities; without, the system's
     * @param certificate the caller's, with its chain
     * @param key its private key
     */
    record Pem(Path trust, Path certificate, Path key) {}

    private final String address;
    private final Pem pem;
    private final LongSupplier nanos;
    private ManagedChannel channel;
    private List<Object> stamps = List.of();
    private long checkedAt;
    private boolean closed;

    Connection(String address, Pem pem) {
        this(address, pem, System::nanoTime);
    }

    Connection(String address, Pem pem, LongSupplier nanos) {
        this.address = address;
        this.pem = pem;
        this.nanos = nanos;
    }

    String address() {
        return address;
    }

    /** The channel for a call that begins now. Throws CREDENTIALS_UNREADABLE. */
    synchronized ManagedChannel current() {
        if (closed) {
            throw new StrongroomException("CLIENT_CLOSED", "the client was closed", "FAILED_PRECONDITION", "");
        }
        long now = nanos.getAsLong();
        if (channel == null || now - checkedAt >= CHECK_EVERY_NANOS) {
            checkedAt = now;
            try {
                renew();
            } catch (StrongroomException error) {
                // A replacement may be half done, one file of it or a part of one: until it is whole, the connection that
                // stands is used, and each check tries again.
                if (channel == null) {
                    throw error;
                }
            }
        }
        return channel;
    }

    @Override
    public synchronized void close() {
        closed = true;
        if (channel != null) {
            channel.shutdownNow();
        }
    }

    private void renew() {
        List<Object> found;
        try {
            found = stampsNow();
        } catch (IOException error) {
            found = stamps; // a replacement that is half done; the next check sees it
        }
        if (channel != null && found.equals(stamps)) {
            return;
        }
        ManagedChannel before = channel;
        if (before != null) {
            requirePair();
        }
        channel = made();
        stamps = found;
        if (before != null) {
            before.shutdown(); // ends with its last call
        }
    }

    private ManagedChannel made() {
        ChannelCredentials credentials = credentials();
        try {
            return Grpc.newChannelBuilder(address, credentials)
                    .maxInboundMessageSize(MAX_ANSWER_BYTES)
                    .keepAliveTime(30, TimeUnit.SECONDS)
                    .keepAliveTimeout(5, TimeUnit.SECONDS)
                    .keepAliveWithoutCalls(true)
                    // Retries are the client's own, over all addresses.
                    .disableRetry()
                    .build();
        } catch (IllegalArgumentException | ManagedChannelRegistry.ProviderNotFoundException error) {
            throw unreadable(error);
        }
    }

    /** Refuses a certificate with a key that is not its own, which Netty finds out only when it connects. */
    private void requirePair() {
        if (pem.certificate() == null) {
            return;
        }
        try (InputStream certificate = Files.newInputStream(pem.certificate())) {
            PublicKey holder = CertificateFactory.getInstance("X.509").generateCertificate(certificate).getPublicKey();
            String key = PEM_MARKS.matcher(Files.readString(pem.key())).replaceAll("");
            PKCS8EncodedKeySpec encoded = new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(key));
            PrivateKey own = KeyFactory.getInstance(holder.getAlgorithm()).generatePrivate(encoded);
            String algorithm = holder.getAlgorithm().equals("RSA") ? "SHA256withRSA" : "SHA256withECDSA";
            Signature signature = Signature.getInstance(algorithm);
            signature.initSign(own);
            byte[] signed = signature.sign();
            signature.initVerify(holder);
            if (signature.verify(signed)) {
                return;
            }
        } catch (IOException | GeneralSecurityException | RuntimeException error) {
            throw unreadable(error);
        }
        throw unreadable(new GeneralSecurityException(pem.key() + " is not the certificate's key"));
    }

    private StrongroomException unreadable(Exception error) {
        String message = address + ": no connection can be made with these files or this address: " + error.getMessage();
        return new StrongroomException("CREDENTIALS_UNREADABLE", message, "FAILED_PRECONDITION", "");
    }

    private List<Object> stampsNow() throws IOException {
        List<Object> found = new ArrayList<>();
        for (Path file : files().toList()) {
            BasicFileAttributes attributes = Files.readAttributes(file, BasicFileAttributes.class);
            found.add(attributes.lastModifiedTime());
            found.add(String.valueOf(attributes.fileKey()));
        }
        return found;
    }

    private ChannelCredentials credentials() {
        try {
            TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
            if (pem.trust() != null) {
                tls.trustManager(pem.trust().toFile());
            }
            if (pem.certificate() != null) {
                tls.keyManager(pem.certificate().toFile(), pem.key().toFile());
            }
            return tls.build();
        } catch (IOException error) {
            throw Credentials.unreadable(files().filter(file -> !Files.isReadable(file)).findFirst()
                    .orElse(pem.trust()));
        }
    }

    private Stream<Path> files() {
        return Stream.of(pem.trust(), pem.certificate(), pem.key()).filter(Objects::nonNull);
    }
}
