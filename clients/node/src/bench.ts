/**
 * What messages and streams cost beside bare AES-256-GCM, for `python -m bench sdk`:
 *
 *     node dist/bench.js ROUNDS
 *
 * What is compared takes turns; the figures are the medians of how many times as fast the SDK is as the bare cipher.
 */

import { createCipheriv, randomBytes } from "node:crypto";

import { EncryptionClient, type KeyCalls } from "./encryption/index.js";

const KIB = 1024;
const MESSAGES = 1000;
const CHUNK = 2 ** 16;
const STREAMED = 32 * 2 ** 20;

const key = randomBytes(32);
const content = randomBytes(KIB);

/** A mesh that costs nothing, since the data key is at hand. */
const atHand: KeyCalls = {
  keyName: (name) => `accounts/main/keys/${name}`,
  generateDataKey: async (name) => ({ plaintext: randomBytes(32), ciphertext: randomBytes(94), key: name }),
  encrypt: () => Promise.reject(new Error("nothing is encrypted here")),
  decrypt: () => Promise.reject(new Error("nothing is decrypted here")),
};

const client = new EncryptionClient(atHand, "bench", { cacheMs: 3_600_000 });

/** Messages as short as can be: a random nonce and the ciphertext. */
function bareMessages(): void {
  for (let count = 0; count < MESSAGES; count++) {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    Buffer.concat([nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()]);
  }
}

async function ownMessages(): Promise<void> {
  for (let count = 0; count < MESSAGES; count++) await client.encrypt(content);
}

function bareStream(): void {
  const chunk = Buffer.alloc(CHUNK);
  const nonce = Buffer.alloc(12);
  for (let number = 0; number < STREAMED / CHUNK; number++) {
    nonce.writeUInt32BE(number);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    cipher.update(chunk);
    cipher.final();
    cipher.getAuthTag();
  }
}

async function ownStream(): Promise<void> {
  const piece = Buffer.alloc(2 ** 18);
  function* pieces() {
    for (let count = 0; count < STREAMED / piece.length; count++) yield piece;
  }
  for await (const _ of client.encryptStream(pieces()));
}

async function quotient(bare: () => void, own: () => Promise<void>): Promise<number> {
  const began = performance.now();
  bare();
  const between = performance.now();
  await own();
  return (between - began) / (performance.now() - between);
}

/** Without the first round, in which nothing is compiled yet. */
function median(quotients: number[]): number {
  const rest = quotients.slice(1).sort((one, other) => one - other);
  return rest[rest.length >> 1] ?? Number.NaN;
}

const rounds = Number(process.argv[2]);
if (!(rounds > 0)) throw new Error("USAGE: bench ROUNDS");
const kibs: number[] = [];
const streams: number[] = [];
for (let round = 0; round <= rounds; round++) {
  kibs.push(await quotient(bareMessages, ownMessages));
  streams.push(await quotient(bareStream, ownStream));
}
console.log(JSON.stringify({ kib_vs_bare: median(kibs), stream_vs_bare: median(streams) }));
