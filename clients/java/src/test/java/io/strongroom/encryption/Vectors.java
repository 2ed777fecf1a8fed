package io.strongroom.encryption;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.strongroom.KeyCalls;
import io.strongroom.StrongroomException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** tests/vectors/encrypted_message.json, and what stands in the place of a mesh there. */
final class Vectors {
    private static final JsonNode ALL = read();

    private Vectors() {}

    static Stream<JsonNode> of(String kind) {
        return StreamSupport.stream(ALL.get(kind).spliterator(), false);
    }

    static byte[] bytes(JsonNode vector, String field) {
        return HexFormat.of().parseHex(vector.get(field).asText());
    }

    static Map<String, String> context(JsonNode pairs) {
        if (pairs.isNull()) {
            return null;
        }
        Map<String, String> context = new LinkedHashMap<>();
        pairs.properties().forEach(pair -> context.put(pair.getKey(), pair.getValue().asText()));
        return context;
    }

    static List<MeshKey> accepted(JsonNode vector) {
        List<MeshKey> keys = new ArrayList<>();
        for (JsonNode one : vector.get("accepted")) {
            String mesh = one.get("mesh").asText();
            keys.add(new MeshKey(one.get("key").asText(), new Answering(vector.get("answers"), mesh), mesh));
        }
        return keys;
    }

    /** What a mesh answers, by a vector. */
    private record Answering(JsonNode answers, String mesh) implements KeyCalls {
        @Override
        public DataKey generateDataKey(String key, int bytes, Map<String, String> context) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Encrypted encrypt(String key, byte[] plaintext, Map<String, String> context) {
            throw new UnsupportedOperationException();
        }

        @Override
        public Decrypted decrypt(byte[] ciphertext, Map<String, String> context, String key) {
            String asked = HexFormat.of().formatHex(ciphertext);
            for (JsonNode answer : answers) {
                if (!answer.get("mesh").asText().equals(mesh)
                        || !answer.get("encrypted_data_key").asText().equals(asked)) {
                    continue;
                }
                if (answer.has("refused_with")) {
                    throw refused(answer.get("refused_with").asText(), answer.path("code").asText("INVALID_ARGUMENT"));
                }
                String name = answer.get("key").asText();
                if (!key.isEmpty() && !key.equals(name) && !key.equals(answer.get("alias").asText())) {
                    throw refused("KEY_MISMATCH", "INVALID_ARGUMENT");
                }
                if (!context.equals(Vectors.context(answer.get("context")))) {
                    break;
                }
                return new Decrypted(bytes(answer, "data_key"), name);
            }
            throw refused("CIPHERTEXT_INVALID", "INVALID_ARGUMENT");
        }

        private static StrongroomException refused(String reason, String code) {
            return new StrongroomException(reason, "refused", code, "");
        }
    }

    private static JsonNode read() {
        try {
            return new JsonMapper().readTree(Path.of("../../tests/vectors/encrypted_message.json").toFile());
        } catch (IOException error) {
            throw new ExceptionInInitializerError(error);
        }
    }
}
