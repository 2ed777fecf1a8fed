// The programs of docs/languages/node.md and of the client's README. tests/unit/tools/test_language_pages.py holds those
// to this file, which is compiled with the client.
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { Client, StrongroomError } from "@strongroom/client";
import { EncryptionClient } from "@strongroom/client/encryption";

export async function encryptMessages(content: Buffer) {
  const client = Client.fromProfile(); // or new Client({ endpoints, account, trust, credentials })
  const encryption = new EncryptionClient(client, ["payments", "escrow"], { cacheMs: 300_000 });
  const message = await encryption.encrypt(content, { tenant: "a" });
  const opened = await encryption.decrypt(message, { tenant: "a" });

  await pipeline(createReadStream("backup"), (pieces) => encryption.encryptStream(pieces), createWriteStream("backup.sealed"));
  return opened;
}

export async function encryptInTheMesh() {
  const client = Client.fromProfile();
  try {
    const sealed = await client.encrypt("payments", Buffer.from("4111 1111 1111 1111"), { tenant: "a" });
    console.log(Buffer.from(sealed.ciphertext).toString("base64"));
  } catch (error) {
    if (error instanceof StrongroomError && error.reason === "KEY_DISABLED") console.error("somebody has to enable it");
    throw error;
  } finally {
    client.close();
  }
}

export function elsewhere() {
  const client = new Client({
    endpoints: {
      keystore: "kms-1.example.com:7101,kms-2.example.com:7101",
      crypto: "kms-1.example.com:7111,kms-2.example.com:7111",
    },
    account: "shop",
    trust: "/etc/strongroom/authority.pem",
    credentials: {
      kind: "clientKey",
      name: "accounts/shop/clientKeys/ck-3m5t7qz2k4r6xvbn",
      secretFile: "/run/secrets/strongroom",
    },
  });
  return client;
}
