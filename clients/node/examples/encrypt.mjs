// Example: a message under a key of the mesh that `make run` starts.
import { Client } from "@strongroom/client";
import { EncryptionClient } from "@strongroom/client/encryption";

const client = Client.fromProfile();
try {
  const encryption = new EncryptionClient(client, "my-key", { cacheMs: 300_000 });
  const message = await encryption.encrypt(Buffer.from("4111 1111 1111 1111"), { tenant: "a" });
  const content = await encryption.decrypt(message, { tenant: "a" });
  console.log(`${message.length} bytes of message hold: ${content}`);
} finally {
  client.close();
}
