import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import { EncryptionClient, type KeyCalls } from "../encryption/index.js";

/** Stands for a mesh: it wraps data keys by writing their key's name before them. */
class Wrapping implements KeyCalls {
  calls = 0;

  keyName(name: string): string {
    return `accounts/main/keys/${name}`;
  }

  generateDataKey(key: string) {
    const plaintext = randomBytes(32);
    return this.encrypt(key, plaintext).then((wrapped) => ({ ...wrapped, plaintext }));
  }

  encrypt(key: string, plaintext: Uint8Array) {
    this.calls++;
    return Promise.resolve({ ciphertext: Buffer.concat([Buffer.from(key), plaintext]), key });
  }

  decrypt(_: string, ciphertext: Uint8Array) {
    this.calls++;
    return Promise.resolve({ plaintext: ciphertext.slice(-32), key: Buffer.from(ciphertext.slice(0, -32)).toString() });
  }
}

async function joined(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

test("contents of every size around a chunk come back", async () => {
  const client = new EncryptionClient(new Wrapping(), ["a", "b"], { chunkSizeLog2: 6, storeContext: true });
  for (let size = 0; size < 200; size++) {
    const content = randomBytes(size);
    const pieces = Array.from(content, (byte) => Buffer.of(byte));
    const streamed = await joined(client.encryptStream(pieces, { tenant: "a" }));
    for (const message of [streamed, await client.encrypt(content, { tenant: "a" })]) {
      assert.deepEqual(await client.decrypt(message), content);
      assert.deepEqual(await joined(client.decryptStream([message])), content);
      const file = await client.openFile(async (at, length) => message.subarray(at, at + length), message.length);
      assert.deepEqual(await file.readAt(size >> 1, size), content.subarray(size >> 1));
    }
  }
});

test("a source that throws leaves a message that is refused", async () => {
  const client = new EncryptionClient(new Wrapping(), "a");
  const written: Buffer[] = [];
  async function* source() {
    yield Buffer.alloc(200_000);
    throw new Error("the disk is gone");
  }
  await assert.rejects(async () => {
    for await (const piece of client.encryptStream(source())) written.push(piece);
  }, /the disk is gone/);
  await assert.rejects(client.decrypt(Buffer.concat(written)), { reason: "MESSAGE_ALTERED" });
});

test("a source is ended where its message is refused, or nobody reads on", async () => {
  const client = new EncryptionClient(new Wrapping(), "a");
  let ended = 0;
  async function* source(piece: Buffer) {
    try {
      for (;;) yield piece;
    } finally {
      ended++;
    }
  }
  await assert.rejects(joined(client.decryptStream(source(Buffer.from("no message")))), { reason: "MESSAGE_NOT_RECOGNIZED" });
  assert.equal(ended, 1);
  const message = client.encryptStream(source(Buffer.alloc(100_000)));
  await message.next();
  await message.next();
  await message.return(undefined);
  assert.equal(ended, 2);
});

test("a cache makes one call for concurrent messages", async () => {
  const mesh = new Wrapping();
  const client = new EncryptionClient(mesh, "a", { cacheMs: 60_000 });
  const messages = await Promise.all(Array.from({ length: 50 }, () => client.encrypt(Buffer.from("content"))));
  await Promise.all(messages.map((message) => client.decrypt(message)));
  assert.equal(mesh.calls, 2);
  client.clear();
  await client.encrypt(Buffer.from("content"));
  assert.equal(mesh.calls, 3);
});

test("a rewrapped message opens under its new key alone", async () => {
  const client = new EncryptionClient(new Wrapping(), "a");
  const moved = await client.rewrap(await client.encrypt(Buffer.from("content")), "b");
  assert.equal((await client.decrypt(moved, undefined, { keys: "b" })).toString(), "content");
  await assert.rejects(client.decrypt(moved), { reason: "KEY_NOT_ACCEPTED" });
});

test("what has no canonical form is refused before any call", async () => {
  const mesh = new Wrapping();
  const client = new EncryptionClient(mesh, "a");
  await assert.rejects(client.encrypt(Buffer.of(1), { "": "a" }), { reason: "FIELD_INVALID" });
  await assert.rejects(client.encrypt(Buffer.of(1), { a: "\ud800" }), { reason: "FIELD_INVALID" });
  await assert.rejects(client.encrypt(Buffer.of(1), { a: "a".repeat(8192) }), { reason: "FIELD_TOO_LARGE" });
  assert.throws(() => new EncryptionClient(mesh, ""), { reason: "FIELD_REQUIRED" });
  assert.equal(mesh.calls, 0);
});

test("a hostile header makes nobody read more than a header", async () => {
  let read = 0;
  async function* endless() {
    yield Buffer.from([0x89, ...Buffer.from("SRFILE"), 2, 20, 1, 16, 0xff, 0xff]);
    for (;;) {
      read += 4096;
      yield Buffer.alloc(4096);
    }
  }
  const client = new EncryptionClient(new Wrapping(), "a");
  await assert.rejects(joined(client.decryptStream(endless())), { reason: "MESSAGE_ALTERED" });
  assert(read <= 1 << 17);
});
