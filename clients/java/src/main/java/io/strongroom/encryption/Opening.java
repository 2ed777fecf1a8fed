package io.strongroom.encryption;

import io.strongroom.KeyCalls;
import io.strongroom.StrongroomException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Which calls may open a message's data key, in which order, and what comes of them. */
final class Opening {
    private static final int MAX_ATTEMPTS = 16;

    private Opening() {}

    /**
     * A header that was verified.
     *
     * @param header what it says
     * @param keys the keys of its body
     * @param context the message's encryption context
     * @param dataKey the data key
     * @param key full name of the key that opened it
     */
    record Opened(Header header, MessageKeys keys, Map<String, String> context, byte[] dataKey, String key) {}

    private record Attempt(WrappedKey wrapped, MeshKey accepted) {}

    /**
     * Opens the data key under the first accepted key that answers, and verifies the header with it. Throws
     * CONTEXT_MISMATCH, KEY_NOT_ACCEPTED, what the mesh answers where no key opens it, and MESSAGE_ALTERED.
     */
    static Opened open(Header.Found found, Map<String, String> context, List<MeshKey> accepted) {
        Header header = found.header();
        Map<String, String> pairs = header.contextFor(context);
        KeyCalls.Decrypted answer = firstAnswer(fitting(header.wrappedKeys(), accepted), pairs);
        MessageKeys keys = new MessageKeys(answer.plaintext(), header.chunkSizeLog2(), header.contextDigest());
        keys.verify(found.data(), found.tag());
        return new Opened(header, keys, pairs, answer.plaintext(), answer.key());
    }

    private static List<Attempt> fitting(List<WrappedKey> wrappedKeys, List<MeshKey> accepted) {
        List<Attempt> attempts = new ArrayList<>();
        for (WrappedKey wrapped : wrappedKeys) {
            for (MeshKey key : accepted) {
                if (fits(wrapped, key)) {
                    attempts.add(new Attempt(wrapped, key));
                }
            }
        }
        if (attempts.isEmpty()) {
            throw Refusals.keyNotAccepted(wrappedKeys.stream()
                    .map(WrappedKey::key)
                    .filter(key -> !key.isEmpty())
                    .collect(Collectors.joining(", ")));
        }
        return attempts.subList(0, Math.min(MAX_ATTEMPTS, attempts.size()));
    }

    private static boolean fits(WrappedKey wrapped, MeshKey key) {
        if (!wrapped.mesh().isEmpty() && !key.mesh().isEmpty() && !wrapped.mesh().equals(key.mesh())) {
            return false;
        }
        // What an alias stands for, its mesh knows.
        return wrapped.key().isEmpty()
                || key.name().isEmpty()
                || wrapped.key().equals(key.name())
                || key.name().contains("/aliases/");
    }

    private static KeyCalls.Decrypted firstAnswer(List<Attempt> attempts, Map<String, String> context) {
        StrongroomException first = null;
        StrongroomException away = null;
        for (Attempt attempt : attempts) {
            try {
                byte[] encrypted = attempt.wrapped().encryptedDataKey();
                return checked(attempt.accepted().unwrap(encrypted, context), attempt.wrapped());
            } catch (StrongroomException refusal) {
                first = first == null ? refusal : first;
                away = away == null && refusal.isAway() ? refusal : away;
            }
        }
        throw away == null ? first : away;
    }

    private static KeyCalls.Decrypted checked(KeyCalls.Decrypted answer, WrappedKey wrapped) {
        if (!wrapped.key().isEmpty() && !answer.key().isEmpty() && !wrapped.key().equals(answer.key())) {
            throw Refusals.keyMismatch();
        }
        if (answer.plaintext().length != MessageKeys.DATA_KEY_BYTES) {
            throw Refusals.altered();
        }
        return answer;
    }
}
