package io.strongroom;

import io.strongroom.access.v1.CertificateCredential;
import io.strongroom.access.v1.ClientKeyCredential;
import io.strongroom.access.v1.CreateSessionRequest;
import io.strongroom.access.v1.OidcTokenCredential;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

/** How a caller proves who it is. */
public sealed interface Credentials {
    /**
     * mTLS on every connection.
     *
     * @param certificate PEM, with its chain; when it is replaced, new calls use the new one
     * @param key PEM, PKCS#8
     */
    record ClientCertificate(Path certificate, Path key) implements Credentials {}

    /** A session token that somebody else got: when it has expired, calls fail with TOKEN_EXPIRED. */
    record SessionToken(String token) implements Credentials {
        @Override
        public String toString() {
            return "SessionToken[]";
        }
    }

    /** What is exchanged for session tokens, and again before they expire. */
    sealed interface Exchangeable extends Credentials {
        /** The exchange, without name and duration of the session. */
        CreateSessionRequest.Builder request();
    }

    /**
     * A client certificate that is exchanged for session tokens. The endpoint of keystore must be its listener for
     * client certificates.
     */
    record CertificateSession(Path certificate, Path key) implements Exchangeable {
        @Override
        public CreateSessionRequest.Builder request() {
            return CreateSessionRequest.newBuilder().setCertificate(CertificateCredential.getDefaultInstance());
        }
    }

    /**
     * A client key that is exchanged for session tokens.
     *
     * @param name {@code accounts/{account}/clientKeys/{id}}
     * @param secretFile holds its secret, and is read again for each session
     */
    record ClientKeySession(String name, Path secretFile) implements Exchangeable {
        @Override
        public CreateSessionRequest.Builder request() {
            return CreateSessionRequest.newBuilder()
                    .setClientKey(ClientKeyCredential.newBuilder()
                            .setClientKey(name)
                            .setSecret(read(secretFile)));
        }
    }

    /**
     * An issuer's token, such as a Kubernetes service account's, that is exchanged for session tokens.
     *
     * @param account the id of the account that accepts the issuer
     * @param tokenFile holds the token, and is read again for each session
     */
    record OidcTokenSession(String account, Path tokenFile) implements Exchangeable {
        @Override
        public CreateSessionRequest.Builder request() {
            return CreateSessionRequest.newBuilder()
                    .setOidcToken(OidcTokenCredential.newBuilder()
                            .setAccount("accounts/" + account)
                            .setToken(read(tokenFile)));
        }
    }

    /**
     * Sessions as a role, begun by whom {@code source} proves, and again before they expire.
     *
     * @param role {@code accounts/{account}/roles/{id}}
     * @param externalId what the accounts of the role and of its caller agreed on; empty for nothing
     */
    record AssumedRole(Credentials source, String role, String externalId) implements Credentials {}

    /** How long sessions last that are exchanged for. */
    Duration SESSION_DURATION = Duration.ofHours(1);

    private static String read(Path file) {
        try {
            return Files.readString(file).strip();
        } catch (IOException error) {
            throw unreadable(file);
        }
    }

    /** A file of a credential that is not there, or is not what it should be. */
    static StrongroomException unreadable(Path file) {
        return new StrongroomException(
                "CREDENTIALS_UNREADABLE", file + " cannot be read, or is no PEM", "FAILED_PRECONDITION", "");
    }
}
