import io.strongroom.Client;
import io.strongroom.StrongroomException;
import io.strongroom.encryption.EncryptingOutputStream;
import io.strongroom.encryption.EncryptionClient;
import java.io.IOException;
import java.io.InputStream;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;

/**
 * Encrypts standard input to standard output, or decrypts it, as the current profile's caller. A refusal is exit status
 * 1, and its stable reason the first word on standard error.
 */
public class Crypt {
    /** Longer than usual: of a program that has only begun, the first call loads most of its classes. */
    private static final Duration TIMEOUT = Duration.ofSeconds(50);

    private static final String USAGE =
            "USAGE: crypt encrypt|decrypt --key KEY… [--context NAME=VALUE…] [--store-context]";

    public static void main(String[] given) throws IOException {
        Deque<String> arguments = new ArrayDeque<>(Arrays.asList(given));
        String verb = arguments.isEmpty() ? "" : arguments.pop();
        try (Client client = Client.builder().profile("").timeout(TIMEOUT).build()) {
            EncryptionClient.Builder builder = EncryptionClient.builder(client);
            Map<String, String> context = null;
            while (!arguments.isEmpty()) {
                switch (arguments.pop()) {
                    case "--key" -> builder.key(arguments.pop());
                    case "--store-context" -> builder.storeContext(true);
                    case "--context" -> {
                        String[] pair = arguments.pop().split("=", 2);
                        context = context == null ? new HashMap<>() : context;
                        context.put(pair[0], pair[1]);
                    }
                    default -> throw new IllegalArgumentException(USAGE);
                }
            }
            crypt(builder.build(), verb, context);
        } catch (StrongroomException error) {
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }

    private static void crypt(EncryptionClient encryption, String verb, Map<String, String> context) throws IOException {
        switch (verb) {
            case "encrypt" -> {
                try (EncryptingOutputStream output = encryption.encryptingStream(System.out, context)) {
                    System.in.transferTo(output);
                    output.finish();
                }
            }
            case "decrypt" -> {
                try (InputStream input = encryption.decryptingStream(System.in, context)) {
                    input.transferTo(System.out);
                    System.out.flush();
                }
            }
            default -> throw new IllegalArgumentException(USAGE);
        }
    }
}
