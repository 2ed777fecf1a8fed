import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { status } from "@grpc/grpc-js";

import type { EncryptionContext } from "../client.js";
import { Layout, MessageKeys, sealBody } from "../encryption/body.js";
import { canonical, digest } from "../encryption/context.js";
import { headerBytes } from "../encryption/header.js";
import { ANY_KEY, EncryptionClient, type KeyCalls } from "../encryption/index.js";
import { StrongroomError } from "../errors.js";

interface Answer {
  mesh: string;
  encrypted_data_key: string;
  key: string;
  alias: string;
  context: EncryptionContext;
  data_key: string;
  refused_with?: string;
  code?: keyof typeof status;
}

interface Vector {
  name: string;
  accepted: { key: string; mesh: string }[];
  context: EncryptionContext | null;
  answers: Answer[];
  message: string;
  content: string;
  refused_with: string;
  reasons: [number, number, string][];
  data_key: string;
  written_context: EncryptionContext;
  context_form: "digest" | "whole";
  chunk_size_log2: number;
  wrapped_keys: { key: string; mesh: string; encrypted_data_key: string }[];
  nonce_prefix: string;
  body_bytes: number;
  chunks: number;
  content_bytes: number;
}

type Kind = "valid" | "refused" | "flipped" | "truncated" | "layouts";
const path = new URL("../../../../tests/vectors/encrypted_message.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8")) as Record<Kind, Vector[]>;
assert(vectors.valid.length >= 20 && vectors.refused.length >= 100 && vectors.layouts.length >= 40);

const hex = (text: string) => Buffer.from(text, "hex");

/** What a mesh answers, by a vector. */
function answering({ answers }: Vector, mesh: string): KeyCalls {
  const unused = () => Promise.reject(new Error("not for readers"));
  return {
    keyName: (name) => name,
    generateDataKey: unused,
    encrypt: unused,
    decrypt(key, ciphertext, context) {
      for (const answer of answers) {
        if (answer.mesh !== mesh || !hex(answer.encrypted_data_key).equals(ciphertext)) continue;
        if (answer.refused_with !== undefined) return refusal(answer.refused_with, answer.code);
        if (key !== "" && key !== answer.key && key !== answer.alias) return refusal("KEY_MISMATCH");
        if (canonical(answer.context).equals(canonical(context))) {
          return Promise.resolve({ plaintext: hex(answer.data_key), key: answer.key });
        }
      }
      return refusal("CIPHERTEXT_INVALID");
    },
  };
}

const refusal = (reason: string, code: keyof typeof status = "INVALID_ARGUMENT") =>
  Promise.reject(new StrongroomError(reason, "refused", { code: status[code] }));

function clientOf(vector: Vector): EncryptionClient {
  const keys = vector.accepted.map(({ key, mesh }) => ({ name: key || ANY_KEY, client: answering(vector, mesh), mesh }));
  return new EncryptionClient(answering(vector, ""), keys, { cacheMs: 60_000 });
}

type Read = (client: EncryptionClient, message: Buffer, context?: EncryptionContext) => Promise<Buffer>;

async function joined(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

function* cut(message: Buffer, size: number) {
  for (let at = 0; at < message.length; at += size) yield message.subarray(at, at + size);
}

const reads: Record<string, Read> = {
  "at once": (client, message, context) => client.decrypt(message, context),
  "in pieces": (client, message, context) => joined(client.decryptStream(cut(message, 7), context)),
  anywhere: async (client, message, context) => {
    const read = (at: number, length: number) => Promise.resolve(message.subarray(at, at + length));
    const file = await client.openFile(read, message.length, context);
    return file.readAt(0, file.size);
  },
};

async function refuses(vector: Vector, message: Buffer, reason: string): Promise<void> {
  for (const [way, read] of Object.entries(reads)) {
    const found = await read(clientOf(vector), message, vector.context ?? undefined).then(
      () => "",
      (error: unknown) => (error instanceof StrongroomError ? error.reason : String(error)),
    );
    assert.equal(found, reason, `${vector.name}, ${way}`);
  }
}

test("every message is read", async () => {
  for (const vector of vectors.valid) {
    for (const [way, read] of Object.entries(reads)) {
      const content = await read(clientOf(vector), hex(vector.message), vector.context ?? undefined);
      assert(content.equals(hex(vector.content)), `${vector.name}, ${way}`);
    }
  }
});

test("every refusal has its reason", async () => {
  // No client is made that accepts no key.
  for (const vector of vectors.refused.filter(({ accepted }) => accepted.length > 0)) {
    await refuses(vector, hex(vector.message), vector.refused_with);
  }
});

test("every flipped bit is refused", async () => {
  for (const vector of vectors.flipped) {
    for (const [first, last, reason] of vector.reasons) {
      for (let bit = first; bit <= last; bit++) {
        const message = hex(vector.message);
        message[bit >> 3]! ^= 1 << (bit & 7);
        await refuses(vector, message, reason);
      }
    }
  }
});

test("every length is refused", async () => {
  for (const vector of vectors.truncated) {
    for (const [first, last, reason] of vector.reasons) {
      for (let length = first; length <= last; length++) {
        await refuses(vector, hex(vector.message).subarray(0, length), reason);
      }
    }
  }
});

test("layouts", () => {
  for (const vector of vectors.layouts) {
    const make = () => new Layout(vector.body_bytes, 2 ** vector.chunk_size_log2);
    if (vector.refused_with) assert.throws(make, { reason: vector.refused_with });
    else {
      const { chunks, contentBytes } = make();
      assert.deepEqual([chunks, contentBytes], [vector.chunks, vector.content_bytes]);
    }
  }
});

test("messages are written byte for byte", () => {
  for (const vector of vectors.valid) {
    const contextDigest = digest(canonical(vector.written_context));
    const data = headerBytes({
      chunkSizeLog2: vector.chunk_size_log2,
      contextDigest,
      context: vector.context_form === "whole" ? vector.written_context : undefined,
      wrappedKeys: vector.wrapped_keys.map(({ key, mesh, encrypted_data_key }) => ({
        key,
        mesh,
        encryptedDataKey: hex(encrypted_data_key),
      })),
    });
    const keys = new MessageKeys(hex(vector.data_key), vector.chunk_size_log2, contextDigest);
    const beginning = Buffer.concat([data, keys.headerTag(data)]);
    const message = sealBody(beginning, keys, hex(vector.content), 2 ** vector.chunk_size_log2, hex(vector.nonce_prefix));
    assert.equal(message.toString("hex"), vector.message, vector.name);
  }
});

test("a chunk beyond the last number is neither written nor read", () => {
  const cipher = new MessageKeys(Buffer.alloc(32), 6, Buffer.alloc(32)).cipher(Buffer.alloc(19));
  const last = 2 ** 32 - 2;
  const sealed = Buffer.concat(cipher.seal(last, true, Buffer.from("a")));
  assert.equal(cipher.open(last, true, sealed).toString(), "a");
  assert.throws(() => cipher.seal(last + 1, true, Buffer.from("a")), { reason: "MESSAGE_TOO_LARGE" });
  assert.throws(() => cipher.open(last + 1, true, sealed), { reason: "MESSAGE_TOO_LARGE" });
});
