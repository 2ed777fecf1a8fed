/** The body of a message: its keys, and chunks that are sealed with XAES-256-GCM in the STREAM construction. */

import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";

import { altered, tooLarge } from "./refusals.js";

export const DATA_KEY_BYTES = 32;
export const NONCE_PREFIX_BYTES = 19;
export const TAG_BYTES = 16;
const MAX_CHUNKS = 2 ** 32 - 1;
const BLOCK_BYTES = 16;
const DERIVED_BYTES = 12; // of the nonce prefix, which the key of a message is derived from
const LABEL = Buffer.from("strongroom message v2");

/** What is derived from one data key, for one context and size of chunks; used for many messages. */
export class MessageKeys {
  readonly #headerKey: Buffer;
  readonly #bodyKey: Buffer;
  readonly #subkey: Buffer;

  /** Throws MESSAGE_ALTERED for a data key that has not 32 bytes: another ciphertext was put in its place. */
  constructor(dataKey: Uint8Array, chunkSizeLog2: number, contextDigest: Uint8Array) {
    if (dataKey.length !== DATA_KEY_BYTES) throw altered();
    const info = Buffer.concat([LABEL, Buffer.of(chunkSizeLog2), contextDigest]);
    const derived = Buffer.from(hkdfSync("sha256", dataKey, Buffer.alloc(0), info, 64));
    this.#bodyKey = derived.subarray(0, 32);
    this.#headerKey = derived.subarray(32);
    this.#subkey = doubled(this.#blocks(Buffer.alloc(BLOCK_BYTES)));
  }

  /** What authenticates a header, and commits to the data key. */
  headerTag(header: Uint8Array): Buffer {
    return createHmac("sha256", this.#headerKey).update(header).digest();
  }

  /** Throws MESSAGE_ALTERED unless `tag` is the header's. */
  verify(header: Uint8Array, tag: Uint8Array): void {
    if (!timingSafeEqual(this.headerTag(header), tag)) throw altered();
  }

  /** What seals and opens the chunks of the message with this nonce prefix (https://c2sp.org/XAES-256-GCM). */
  cipher(noncePrefix: Uint8Array): ChunkCipher {
    const counters = Buffer.alloc(2 * BLOCK_BYTES);
    for (const half of [0, 1]) {
      const block = counters.subarray(half * BLOCK_BYTES, (half + 1) * BLOCK_BYTES);
      block.set([0, half + 1, 0x58, 0]);
      block.set(noncePrefix.subarray(0, DERIVED_BYTES), 4);
      for (let index = 0; index < BLOCK_BYTES; index++) block[index]! ^= this.#subkey[index]!;
    }
    return new ChunkCipher(this.#blocks(counters), noncePrefix.subarray(DERIVED_BYTES));
  }

  /** Single blocks of AES, as a key derivation has them. */
  #blocks(blocks: Buffer): Buffer {
    return createCipheriv("aes-256-ecb", this.#bodyKey, null).setAutoPadding(false).update(blocks);
  }
}

/** One message's key with its nonces. */
export class ChunkCipher {
  readonly #key: Buffer;
  readonly #nonce = Buffer.alloc(12);

  constructor(key: Buffer, nonceStart: Uint8Array) {
    this.#key = key;
    this.#nonce.set(nonceStart);
  }

  /** The encrypted chunk and its tag, in pieces. Throws MESSAGE_TOO_LARGE. */
  seal(number: number, last: boolean, content: Uint8Array): Buffer[] {
    const cipher = createCipheriv("aes-256-gcm", this.#key, this.#place(number, last), { authTagLength: TAG_BYTES });
    const sealed = cipher.update(content);
    cipher.final();
    return [sealed, cipher.getAuthTag()];
  }

  /** The content of a chunk. Throws MESSAGE_ALTERED or MESSAGE_TOO_LARGE. */
  open(number: number, last: boolean, sealed: Uint8Array): Buffer {
    const end = sealed.length - TAG_BYTES;
    const cipher = createDecipheriv("aes-256-gcm", this.#key, this.#place(number, last), { authTagLength: TAG_BYTES });
    cipher.setAuthTag(sealed.subarray(end));
    const content = cipher.update(sealed.subarray(0, end));
    try {
      cipher.final();
    } catch {
      throw altered();
    }
    return content;
  }

  #place(number: number, last: boolean): Buffer {
    if (number >= MAX_CHUNKS) throw tooLarge();
    this.#nonce.writeUInt32BE(number, 7);
    this.#nonce[11] = last ? 1 : 0;
    return this.#nonce;
  }
}

/** Where the chunks of a body are, by its length behind the nonce prefix. */
export class Layout {
  readonly chunks: number;
  readonly contentBytes: number;
  readonly #sealedSize: number;

  /** Throws MESSAGE_ALTERED for a length that no body has, and MESSAGE_TOO_LARGE. */
  constructor(
    bodyBytes: number,
    readonly chunkSize: number,
  ) {
    this.#sealedSize = chunkSize + TAG_BYTES;
    if (bodyBytes < TAG_BYTES) throw altered();
    const over = bodyBytes % this.#sealedSize;
    this.chunks = (bodyBytes - over) / this.#sealedSize + (over > 0 ? 1 : 0);
    if (this.chunks > MAX_CHUNKS) throw tooLarge();
    const last = over || this.#sealedSize;
    // One content has one encoding: an empty chunk is for an empty message alone.
    if (last < TAG_BYTES || (last === TAG_BYTES && this.chunks > 1)) throw altered();
    this.contentBytes = bodyBytes - this.chunks * TAG_BYTES;
  }

  /** Where a chunk begins behind the nonce prefix, and where it ends, tag included. */
  sealedRange(number: number): [start: number, end: number] {
    const start = number * this.#sealedSize;
    return [start, start + Math.min(this.chunkSize, this.contentBytes - number * this.chunkSize) + TAG_BYTES];
  }
}

/** What a message begins with, and its nonce prefix and chunks behind that. */
export function sealBody(
  beginning: Buffer,
  keys: MessageKeys,
  content: Uint8Array,
  chunkSize: number,
  noncePrefix: Buffer = randomBytes(NONCE_PREFIX_BYTES),
): Buffer {
  const cipher = keys.cipher(noncePrefix);
  const chunks = Math.max(1, Math.ceil(content.length / chunkSize));
  const parts = [beginning, noncePrefix];
  for (let number = 0; number < chunks; number++) {
    const piece = content.subarray(number * chunkSize, (number + 1) * chunkSize);
    parts.push(...cipher.seal(number, number === chunks - 1, piece));
  }
  return Buffer.concat(parts);
}

/** The content of a body, all of it or nothing. Throws MESSAGE_ALTERED or MESSAGE_TOO_LARGE. */
export function openBody(keys: MessageKeys, body: Buffer, chunkSize: number): Buffer {
  if (body.length < NONCE_PREFIX_BYTES + TAG_BYTES) throw altered();
  const cipher = keys.cipher(body.subarray(0, NONCE_PREFIX_BYTES));
  const sealed = body.subarray(NONCE_PREFIX_BYTES);
  const layout = new Layout(sealed.length, chunkSize);
  const pieces: Buffer[] = [];
  for (let number = 0; number < layout.chunks; number++) {
    pieces.push(cipher.open(number, number === layout.chunks - 1, sealed.subarray(...layout.sealedRange(number))));
  }
  return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
}

/** The first subkey of CMAC (NIST SP 800-38B, section 6.1), from the encryption of the zero block. */
function doubled(block: Buffer): Buffer {
  const overflow = block[0]! >> 7;
  const shifted = block.map((byte, index) => (byte << 1) | ((block[index + 1] ?? 0) >> 7));
  shifted[BLOCK_BYTES - 1]! ^= 0x87 * overflow;
  return Buffer.from(shifted);
}
