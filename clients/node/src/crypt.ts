#!/usr/bin/env -S node --no-deprecation
/**
 * Encrypts standard input to standard output, or decrypts it, as the current profile's caller:
 *
 *     strongroom-crypt encrypt --key payments --context tenant=a <content >message
 *
 * A refusal is exit status 1, and its stable reason the first word on standard error.
 */

import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";

import { Client } from "./client.js";
import { EncryptionClient } from "./encryption/index.js";
import { StrongroomError } from "./errors.js";

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      key: { type: "string", multiple: true, default: [] },
      context: { type: "string", multiple: true },
      "store-context": { type: "boolean", default: false },
    },
  });
  const [verb] = positionals;
  if (verb !== "encrypt" && verb !== "decrypt") throw new StrongroomError("USAGE", "say encrypt or decrypt, and --key");
  const context = values.context && Object.fromEntries(values.context.map(pair));
  const client = Client.fromProfile();
  try {
    const encryption = new EncryptionClient(client, values.key, { storeContext: values["store-context"] });
    const through =
      verb === "encrypt"
        ? (source: AsyncIterable<Uint8Array>) => encryption.encryptStream(source, context)
        : (source: AsyncIterable<Uint8Array>) => encryption.decryptStream(source, context);
    await pipeline(process.stdin, through, process.stdout);
  } finally {
    client.close();
  }
}

function pair(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 0) throw new StrongroomError("USAGE", `${text} is not of the form NAME=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
