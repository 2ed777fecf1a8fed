package io.strongroom;

import com.google.protobuf.ByteString;
import com.google.protobuf.Message;
import io.grpc.MethodDescriptor;
import io.strongroom.access.v1.AssumeRoleRequest;
import io.strongroom.access.v1.CreateSessionRequest;
import io.strongroom.access.v1.Session;
import io.strongroom.access.v1.SessionServiceGrpc;
import io.strongroom.crypto.v1.CryptoServiceGrpc;
import io.strongroom.crypto.v1.DecryptRequest;
import io.strongroom.crypto.v1.DecryptResponse;
import io.strongroom.crypto.v1.EncryptRequest;
import io.strongroom.crypto.v1.EncryptResponse;
import io.strongroom.crypto.v1.GenerateDataKeyRequest;
import io.strongroom.crypto.v1.GenerateDataKeyResponse;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.InstantSource;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.Map;
import java.util.zip.CRC32C;

/**
 * Calls the services of a mesh.
 *
 * <pre>{@code
 * try (Client client = Client.fromProfile()) {
 *     byte[] ciphertext = client.encrypt("payments", plaintext, Map.of("tenant", "a")).ciphertext();
 * }
 * }</pre>
 *
 * <p>It may be shared between threads. Every method of every service is called by {@link #call}, with the generated
 * messages of its contract. Failures are {@link StrongroomException}s.
 */
public final class Client implements KeyCalls, AutoCloseable {
    private final String account;
    private final Duration timeout;
    private final String sessionName;
    private final Map<Service, Endpoint> endpoints = new EnumMap<>(Service.class);
    private final Tokens tokens;

    private Client(Builder builder) {
        account = builder.account;
        timeout = builder.timeout;
        sessionName = builder.sessionName;
        Connection.Pem pem = pem(builder.trust, builder.credentials);
        builder.endpoints.forEach((service, addresses) -> endpoints.put(
                service,
                new Endpoint(
                        service,
                        Arrays.stream(addresses.split(","))
                                .map(address -> new Connection(address.strip(), pem))
                                .toList())));
        tokens = tokens(builder.credentials);
    }

    /** A client for the profile {@code $STRONGROOM_PROFILE}, or the current one. */
    public static Client fromProfile() {
        return fromProfile("");
    }

    /** A client for a profile of the profile file. */
    public static Client fromProfile(String name) {
        return builder().profile(name).build();
    }

    /** Begins a client. */
    public static Builder builder() {
        return new Builder();
    }

    /**
     * Calls a method, such as {@code KeyServiceGrpc.getCreateKeyMethod()}, of a service.
     *
     * <p>What nobody answered is tried again, at the next address at once and at all of them after a random while, where
     * that is safe: nothing was sent, the method changes nothing, or its request has a request id, which is filled in. A
     * session token that is refused is exchanged anew.
     */
    public <Q extends Message, A> A call(Service service, MethodDescriptor<Q, A> method, Q request) {
        return endpoint(service).call(method, request, timeout, tokens);
    }

    @Override
    public DataKey generateDataKey(String key, int bytes, Map<String, String> context) {
        GenerateDataKeyRequest request = GenerateDataKeyRequest.newBuilder()
                .setKey(keyName(key))
                .setNumberOfBytes(bytes)
                .putAllEncryptionContext(context)
                .build();
        GenerateDataKeyResponse answer = call(Service.CRYPTO, CryptoServiceGrpc.getGenerateDataKeyMethod(), request);
        verify(answer.getPlaintext(), answer.getPlaintextCrc32C(), answer.hasPlaintextCrc32C(), "plaintext");
        verify(answer.getCiphertext(), answer.getCiphertextCrc32C(), answer.hasCiphertextCrc32C(), "ciphertext");
        return new DataKey(answer.getPlaintext().toByteArray(), answer.getCiphertext().toByteArray(), answer.getKey());
    }

    @Override
    public Encrypted encrypt(String key, byte[] plaintext, Map<String, String> context) {
        EncryptRequest request = EncryptRequest.newBuilder()
                .setKey(keyName(key))
                .setPlaintext(ByteString.copyFrom(plaintext))
                .setPlaintextCrc32C(checksum(ByteString.copyFrom(plaintext)))
                .putAllEncryptionContext(context)
                .build();
        EncryptResponse answer = call(Service.CRYPTO, CryptoServiceGrpc.getEncryptMethod(), request);
        verify(answer.getCiphertext(), answer.getCiphertextCrc32C(), answer.hasCiphertextCrc32C(), "ciphertext");
        return new Encrypted(answer.getCiphertext().toByteArray(), answer.getKey());
    }

    @Override
    public Decrypted decrypt(byte[] ciphertext, Map<String, String> context, String key) {
        DecryptRequest request = DecryptRequest.newBuilder()
                .setCiphertext(ByteString.copyFrom(ciphertext))
                .setCiphertextCrc32C(checksum(ByteString.copyFrom(ciphertext)))
                .putAllEncryptionContext(context)
                .setKey(key.isEmpty() ? "" : keyName(key))
                .build();
        DecryptResponse answer = call(Service.CRYPTO, CryptoServiceGrpc.getDecryptMethod(), request);
        verify(answer.getPlaintext(), answer.getPlaintextCrc32C(), answer.hasPlaintextCrc32C(), "plaintext");
        return new Decrypted(answer.getPlaintext().toByteArray(), answer.getKey());
    }

    /** The account's own name, {@code accounts/…}, that lists and new resources are in. */
    public String accountName() {
        if (account.isEmpty()) {
            throw invalid("FIELD_REQUIRED", "no account is set: give the name in full", "account");
        }
        return "accounts/" + account;
    }

    /** The full name of a key: from an id ({@code payments}), {@code alias/…}, or a full name. */
    @Override
    public String keyName(String name) {
        if (name.startsWith("accounts/")) {
            return name;
        }
        boolean alias = name.startsWith("alias/");
        String id = alias ? name.substring("alias/".length()) : name;
        if (id.isEmpty() || id.contains("/")) {
            throw invalid("NAME_MALFORMED", "key is not an id, alias/{alias}, or accounts/…: " + name, "key");
        }
        return accountName() + (alias ? "/aliases/" : "/keys/") + id;
    }

    /** Ends every connection; calls in flight are cancelled. */
    @Override
    public void close() {
        endpoints.values().forEach(Endpoint::close);
    }

    private Endpoint endpoint(Service service) {
        Endpoint endpoint = endpoints.get(service);
        if (endpoint == null) {
            throw invalid("ENDPOINT_UNKNOWN", "the address of " + service.id() + " is not known", service.id());
        }
        return endpoint;
    }

    private Tokens tokens(Credentials credentials) {
        if (credentials instanceof Credentials.SessionToken given) {
            return Tokens.fixed(given.token());
        }
        if (credentials instanceof Credentials.Exchangeable exchangeable) {
            return new Tokens.Exchanged(time -> exchanged(exchangeable, time), InstantSource.system());
        }
        if (credentials instanceof Credentials.AssumedRole role) {
            Tokens before = tokens(role.source());
            return new Tokens.Exchanged(time -> assumed(role, before, time), InstantSource.system());
        }
        return null;
    }

    private Tokens.Token assumed(Credentials.AssumedRole role, Tokens before, Duration time) {
        AssumeRoleRequest request = AssumeRoleRequest.newBuilder()
                .setRole(role.role())
                .setSessionName(sessionName.isEmpty() ? "strongroom" : sessionName)
                .setExternalId(role.externalId())
                .build();
        return token(endpoint(Service.KEYSTORE)
                .call(SessionServiceGrpc.getAssumeRoleMethod(), request, time, before));
    }

    private Tokens.Token exchanged(Credentials.Exchangeable credentials, Duration time) {
        CreateSessionRequest request = credentials
                .request()
                .setSessionName(sessionName)
                .setDuration(com.google.protobuf.Duration.newBuilder()
                        .setSeconds(Credentials.SESSION_DURATION.toSeconds()))
                .build();
        return token(endpoint(Service.KEYSTORE)
                .call(SessionServiceGrpc.getCreateSessionMethod(), request, time, null));
    }

    private static Tokens.Token token(Session session) {
        // Whatever a server says, an Instant can hold it.
        long ends = Math.min(Math.max(session.getExpireTime().getSeconds(), 0), Instant.MAX.getEpochSecond());
        return new Tokens.Token(session.getToken(), Instant.ofEpochSecond(ends));
    }

    private static Connection.Pem pem(Path trust, Credentials credentials) {
        if (credentials instanceof Credentials.ClientCertificate own) {
            return new Connection.Pem(trust, own.certificate(), own.key());
        }
        if (credentials instanceof Credentials.CertificateSession own) {
            return new Connection.Pem(trust, own.certificate(), own.key());
        }
        if (credentials instanceof Credentials.AssumedRole role) {
            return pem(trust, role.source());
        }
        return new Connection.Pem(trust, null, null);
    }

    private static int checksum(ByteString data) {
        CRC32C checksum = new CRC32C();
        data.asReadOnlyByteBufferList().forEach(checksum::update);
        return (int) checksum.getValue();
    }

    private static void verify(ByteString data, int expected, boolean given, String field) {
        if (given && checksum(data) != expected) {
            throw new StrongroomException(
                    "ANSWER_CORRUPTED", field + " was altered on the way, by its checksum", "DATA_LOSS", field);
        }
    }

    private static StrongroomException invalid(String reason, String explanation, String field) {
        return new StrongroomException(reason, explanation, "INVALID_ARGUMENT", field);
    }

    /** What a client is made of. */
    public static final class Builder {
        private final Map<Service, String> endpoints = new EnumMap<>(Service.class);
        private String account = "";
        private Path trust;
        private Credentials credentials;
        private String sessionName = "";
        private Duration timeout = Duration.ofSeconds(10);

        private Builder() {}

        /**
         * What a profile of the profile file says; the empty name is {@code $STRONGROOM_PROFILE}, or the current one.
         * {@code $STRONGROOM_TOKEN} is a session token that is used in place of the profile's credentials.
         */
        public Builder profile(String name) {
            Profile profile = Profile.find(name);
            profile.endpoints().forEach(this::endpoint);
            return account(profile.account())
                    .trust(profile.trust())
                    .credentials(profile.credentials())
                    .sessionName(profile.sessionName());
        }

        /** Where a service is: {@code host:port}, several joined by commas. */
        public Builder endpoint(Service service, String addresses) {
            endpoints.put(service, addresses);
            return this;
        }

        /** The account whose keys are named by their ids alone. */
        public Builder account(String id) {
            account = id;
            return this;
        }

        /** PEM: the certificate authorities of the mesh, read again when the file is replaced; else the system's. */
        public Builder trust(Path file) {
            trust = file;
            return this;
        }

        /** Who calls. */
        public Builder credentials(Credentials who) {
            credentials = who;
            return this;
        }

        /** What events call the sessions that credentials are exchanged for. */
        public Builder sessionName(String name) {
            sessionName = name;
            return this;
        }

        /** How long a call takes at most, retries included; 10 seconds unless said. */
        public Builder timeout(Duration longest) {
            timeout = longest;
            return this;
        }

        /** The client; connections are made with the first call. */
        public Client build() {
            return new Client(this);
        }
    }
}
