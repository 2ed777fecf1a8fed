/** The canonical bytes of an encryption context (docs/formats.md, "Encryption context"), written and read. */

import { createHash } from "node:crypto";

import type { EncryptionContext } from "../client.js";
import { altered, fieldInvalid, fieldTooLarge } from "./refusals.js";

const MAX_BYTES = 8192;

/** The canonical bytes of a context: equal contexts have equal bytes, different ones never. */
export function canonical(context: EncryptionContext | undefined): Buffer {
  const pairs = Object.entries(context ?? {});
  if (pairs.length > MAX_BYTES / 4) throw tooLarge();
  if (pairs.some((pair) => pair.some((text) => typeof text !== "string" || !text.isWellFormed()))) {
    throw fieldInvalid("context", "the encryption context holds something that is no text in UTF-8");
  }
  if (pairs.some(([name]) => name === "")) throw fieldInvalid("context", "the encryption context has an empty key");
  const encoded = pairs.map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const);
  if (encoded.reduce((size, [name, value]) => size + 4 + name.length + value.length, 2) > MAX_BYTES) throw tooLarge();
  encoded.sort(([left], [right]) => Buffer.compare(left, right));
  const parts = encoded.flatMap(([name, value]) => [u16(name.length), name, u16(value.length), value]);
  return Buffer.concat([u16(encoded.length), ...parts]);
}

/** What stands for a context where the context itself does not. */
export function digest(canonicalContext: Uint8Array): Buffer {
  return createHash("sha256").update(canonicalContext).digest();
}

/** The pairs of canonical bytes. Throws MESSAGE_ALTERED for any other bytes. */
export function pairsOf(canonicalContext: Buffer): EncryptionContext {
  if (canonicalContext.length > MAX_BYTES) throw altered();
  const fields = new Fields(canonicalContext);
  const pairs: Record<string, string> = Object.create(null) as Record<string, string>;
  let before: Buffer = Buffer.alloc(0);
  for (let count = fields.number(2); count > 0; count--) {
    const name = fields.take(fields.number(2));
    const value = fields.take(fields.number(2));
    // The first key is more than nothing, each further one more than the one before.
    if (Buffer.compare(name, before) <= 0) throw altered();
    pairs[text(name)] = text(value);
    before = name;
  }
  fields.end();
  return pairs;
}

/** Bytes that are taken field by field, and must end where the fields do. */
export class Fields {
  #at = 0;

  constructor(private readonly data: Buffer) {}

  /** The next number, of `size` bytes. */
  number(size: 1 | 2): number {
    return this.take(size).readUIntBE(0, size);
  }

  /** The next `size` bytes. Throws MESSAGE_ALTERED. */
  take(size: number): Buffer {
    const start = this.#at;
    this.#at += size;
    if (this.#at > this.data.length) throw altered();
    return this.data.subarray(start, this.#at);
  }

  /** Throws MESSAGE_ALTERED unless every byte was taken. */
  end(): void {
    if (this.#at !== this.data.length) throw altered();
  }
}

/** A number of two bytes. */
export function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

function text(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw altered();
  }
}

function tooLarge() {
  return fieldTooLarge("context", `the encryption context has more than ${MAX_BYTES} bytes`);
}
