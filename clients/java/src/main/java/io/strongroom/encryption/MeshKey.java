package io.strongroom.encryption;

import io.strongroom.KeyCalls;
import io.strongroom.StrongroomException;
import java.util.Map;
import java.util.function.Supplier;

/**
 * A key of a mesh: its full name or alias, and the client that reaches the mesh.
 *
 * @param name the key's full name or alias; empty for every key that the client may use, see {@link #any}
 * @param calls reaches the key's mesh
 * @param mesh tells keys of different meshes apart where messages are under several: a word that writers and readers
 *     agree on; empty where there is one mesh
 */
public record MeshKey(String name, KeyCalls calls, String mesh) {
    /** A key of the mesh that {@code calls} reaches: an id such as {@code payments}, {@code alias/…}, or a full name. */
    public static MeshKey of(KeyCalls calls, String name) {
        return of(calls, name, "");
    }

    /** A key of one of several meshes. */
    public static MeshKey of(KeyCalls calls, String name, String mesh) {
        if (name == null || name.isEmpty()) {
            // A name that was not configured must not come to mean every key.
            throw Refusals.fieldRequired("a key has no name; for every key say MeshKey.any", "keys");
        }
        return new MeshKey(calls.keyName(name), calls, mesh);
    }

    /**
     * Every key that the client may use: for decryption alone, in tools that people use. Whoever can write messages
     * chooses the key then.
     */
    public static MeshKey any(KeyCalls calls) {
        return new MeshKey("", calls, "");
    }

    KeyCalls.DataKey generate(Map<String, String> context) {
        return asked(() -> calls.generateDataKey(name, MessageKeys.DATA_KEY_BYTES, context));
    }

    WrappedKey wrap(byte[] dataKey, Map<String, String> context, boolean nameKeys) {
        KeyCalls.Encrypted answer = asked(() -> calls.encrypt(name, dataKey, context));
        return new WrappedKey(answer.ciphertext(), nameKeys ? answer.key() : "", mesh);
    }

    KeyCalls.Decrypted unwrap(byte[] encryptedDataKey, Map<String, String> context) {
        return asked(() -> calls.decrypt(encryptedDataKey, context, name));
    }

    private <T> T asked(Supplier<T> call) {
        try {
            return call.get();
        } catch (StrongroomException error) {
            if (!error.isAway()) {
                throw error;
            }
            throw error.withAdvice("so there is no data key of " + (name.isEmpty() ? "its key" : name)
                    + ": look at `strongroom status` and at the addresses that the client was given;"
                    + " messages whose data keys a DataKeyCache holds go on meanwhile");
        }
    }
}
