package io.strongroom;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** A connection to one address, which is made anew, for new calls, when its PEM files were replaced. */
class Connection implements AutoCloseable {
    private static final long CHECK_EVERY_NANOS = TimeUnit.SECONDS.toNanos(5);
    private static final int MAX_ANSWER_BYTES = 8 << 20;

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
    private ManagedChannel channel;
    private List<Object> stamps = List.of();
    private long checkedAt;
    private boolean closed;

    Connection(String address, Pem pem) {
        this.address = address;
        this.pem = pem;
    }

    String address() {
        return address;
    }

    /** The channel for a call that begins now. Throws CREDENTIALS_UNREADABLE. */
    synchronized ManagedChannel current() {
        if (closed) {
            throw new StrongroomException("CLIENT_CLOSED", "the client was closed", "FAILED_PRECONDITION", "");
        }
        long now = System.nanoTime();
        if (channel == null || now - checkedAt >= CHECK_EVERY_NANOS) {
            checkedAt = now;
            renew();
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
        channel = Grpc.newChannelBuilder(address, credentials())
                .maxInboundMessageSize(MAX_ANSWER_BYTES)
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(5, TimeUnit.SECONDS)
                .keepAliveWithoutCalls(true)
                // Retries are the client's own, over all addresses.
                .disableRetry()
                .build();
        stamps = found;
        if (before != null) {
            before.shutdown(); // ends with its last call
        }
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
