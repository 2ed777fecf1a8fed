import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.rpc.Status;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Makes calls with grpc-java. The package says what it reads and writes. */
public class Calls {
    private static final int LONGEST = 64 << 20;
    private static final ObjectMapper JSON = new ObjectMapper();

    private static final MethodDescriptor.Marshaller<byte[]> RAW = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream message) {
            try {
                return message.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    };

    /** Makes them. */
    public static void main(String[] arguments) throws Exception {
        JsonNode asked = JSON.readTree(System.in);
        var credentials = TlsChannelCredentials.newBuilder()
                .trustManager(new File(asked.get("trust").asText()))
                .build();
        ManagedChannel channel = Grpc.newChannelBuilder(asked.get("address").asText(), credentials)
                .maxInboundMessageSize(LONGEST)
                .build();
        ArrayNode outcomes = JSON.createArrayNode();
        for (JsonNode wanted : asked.get("calls")) {
            outcomes.add(make(channel, wanted));
        }
        channel.shutdownNow();
        System.out.print(JSON.writeValueAsString(outcomes));
    }

    private static ObjectNode make(Channel channel, JsonNode wanted) throws Exception {
        long ends = System.nanoTime() + TimeUnit.SECONDS.toNanos(wanted.get("seconds").asLong());
        while (true) {
            List<CompletableFuture<ObjectNode>> begun = new ArrayList<>();
            for (int number = 0; number < wanted.get("times").asInt(); number++) {
                begun.add(new Begun(channel, wanted).outcome);
            }
            ObjectNode outcome = null;
            for (CompletableFuture<ObjectNode> one : begun) {
                if (outcome == null || outcome.get("code").asInt() == 0) {
                    outcome = one.get();
                }
            }
            if (outcome.get("code").asInt() != 0 || System.nanoTime() >= ends) {
                return outcome;
            }
        }
    }

    private static final class Begun extends ClientCall.Listener<byte[]> {
        final CompletableFuture<ObjectNode> outcome = new CompletableFuture<>();
        private final ClientCall<byte[], byte[]> call;
        private final ArrayNode answers = JSON.createArrayNode();
        private final int take;
        private final long began = System.nanoTime();

        Begun(Channel channel, JsonNode wanted) throws IOException {
            boolean streams = wanted.get("stream").asBoolean();
            take = streams ? wanted.get("take").asInt() : 0;
            var method = MethodDescriptor.newBuilder(RAW, RAW)
                    .setFullMethodName(wanted.get("path").asText().substring(1))
                    .setType(streams ? MethodDescriptor.MethodType.SERVER_STREAMING : MethodDescriptor.MethodType.UNARY)
                    .build();
            CallOptions options = CallOptions.DEFAULT;
            if (wanted.get("timeout").asLong() > 0) {
                options = options.withDeadlineAfter(wanted.get("timeout").asLong(), TimeUnit.MILLISECONDS);
            }
            if (wanted.get("compress").asBoolean()) {
                options = options.withCompression("gzip");
            }
            call = channel.newCall(method, options);
            call.start(this, metadata(wanted.get("metadata")));
            call.request(streams ? 1 : 2);
            call.sendMessage(wanted.get("message").binaryValue());
            call.halfClose();
            if (wanted.get("cancel").asLong() > 0) {
                CompletableFuture.delayedExecutor(wanted.get("cancel").asLong(), TimeUnit.MILLISECONDS)
                        .execute(() -> call.cancel("its caller goes", null));
            }
        }

        @Override
        public void onMessage(byte[] message) {
            answers.add(message);
            if (answers.size() == take) {
                call.cancel("enough", null);
            } else {
                call.request(1);
            }
        }

        @Override
        public void onClose(io.grpc.Status status, Metadata trailers) {
            ObjectNode said = JSON.createObjectNode();
            said.put("code", status.getCode().value());
            said.put("message", status.getDescription());
            said.set("answers", answers);
            said.set("trailing", said(trailers));
            Status details = StatusProto.fromStatusAndTrailers(status, trailers);
            said.put("details", details.getDetailsCount() == 0 ? new byte[0] : details.toByteArray());
            said.put("milliseconds", (System.nanoTime() - began) / 1e6);
            outcome.complete(said);
        }
    }

    private static Metadata metadata(JsonNode pairs) throws IOException {
        Metadata metadata = new Metadata();
        for (JsonNode pair : pairs) {
            String name = pair.get(0).asText();
            if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                metadata.put(binary(name), Base64.getDecoder().decode(pair.get(1).asText()));
            } else {
                metadata.put(ascii(name), pair.get(1).asText());
            }
        }
        return metadata;
    }

    private static ArrayNode said(Metadata metadata) {
        ArrayNode pairs = JSON.createArrayNode();
        for (String name : metadata.keys()) {
            if (!name.startsWith("x-")) {
                continue;
            }
            if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                for (byte[] value : metadata.getAll(binary(name))) {
                    pairs.add(JSON.createArrayNode().add(name).add(value));
                }
            } else {
                for (String value : metadata.getAll(ascii(name))) {
                    pairs.add(JSON.createArrayNode().add(name).add(value));
                }
            }
        }
        return pairs;
    }

    private static Metadata.Key<byte[]> binary(String name) {
        return Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER);
    }

    private static Metadata.Key<String> ascii(String name) {
        return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
    }
}
