import io.strongroom.Client;
import io.strongroom.Service;
import io.strongroom.StrongroomException;
import io.strongroom.encryption.DataKeyCache;
import io.strongroom.encryption.EncryptionClient;
import io.strongroom.keystore.v1.CreateKeyRequest;
import io.strongroom.keystore.v1.KeyServiceGrpc;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** Encrypts and decrypts a message under a key of the mesh that the current profile names. */
public class Example {
    public static void main(String[] arguments) {
        try (Client client = Client.fromProfile()) {
            createKey(client, "payments");
            EncryptionClient encryption =
                    EncryptionClient.builder(client).key("payments").cache(new DataKeyCache()).build();
            Map<String, String> context = Map.of("tenant", "a");
            byte[] message = encryption.encrypt("attack at dawn".getBytes(StandardCharsets.UTF_8), context);
            byte[] content = encryption.decrypt(message, context);
            System.out.println(message.length + " bytes hold: " + new String(content, StandardCharsets.UTF_8));
        }
    }

    private static void createKey(Client client, String id) {
        try {
            CreateKeyRequest request = CreateKeyRequest.newBuilder().setParent(client.accountName()).setKeyId(id).build();
            client.call(Service.KEYSTORE, KeyServiceGrpc.getCreateKeyMethod(), request);
        } catch (StrongroomException error) {
            if (!error.reason().equals("ALREADY_EXISTS")) throw error;
        }
    }
}
