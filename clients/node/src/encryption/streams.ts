/** Messages that do not fit into memory. */

import { randomBytes } from "node:crypto";

import { type ChunkCipher, Layout, type MessageKeys, NONCE_PREFIX_BYTES, TAG_BYTES } from "./body.js";
import { headBytes } from "./header.js";
import { altered } from "./refusals.js";

type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Bytes of a message, from `offset` on; fewer than `length` only at its end. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;

/** The message of a content that comes in pieces. */
export async function* encrypted(pieces: Pieces, beginning: Buffer, keys: MessageKeys, chunkSize: number) {
  const prefix = randomBytes(NONCE_PREFIX_BYTES);
  const cipher = keys.cipher(prefix);
  yield Buffer.concat([beginning, prefix]);
  // Only what follows a chunk tells that it is not the last: one is kept back.
  let number = 0;
  const kept = new Kept(pieces);
  try {
    while (await kept.holds(chunkSize + 1)) yield* cipher.seal(number++, false, kept.take(chunkSize));
    yield* cipher.seal(number, true, kept.take(chunkSize));
  } finally {
    await kept.end();
  }
}

/** The content of a message that comes in pieces; `open` is given header and tag. */
export async function* decrypted(
  pieces: Pieces,
  open: (head: Buffer) => Promise<{ keys: MessageKeys; chunkSize: number }>,
): AsyncGenerator<Buffer> {
  const kept = new Kept(pieces);
  try {
    yield* opened(kept, open);
  } finally {
    await kept.end();
  }
}

async function* opened(
  kept: Kept,
  open: (head: Buffer) => Promise<{ keys: MessageKeys; chunkSize: number }>,
): AsyncGenerator<Buffer> {
  await kept.holds(13);
  const size = headBytes(kept.peek(13));
  await kept.holds(size);
  const { keys, chunkSize } = await open(kept.take(size));
  await kept.holds(NONCE_PREFIX_BYTES);
  const prefix = kept.take(NONCE_PREFIX_BYTES);
  if (prefix.length < NONCE_PREFIX_BYTES) throw altered();
  const cipher = keys.cipher(prefix);
  const sealedSize = chunkSize + TAG_BYTES;
  let number = 0;
  while (await kept.holds(sealedSize + 1)) yield cipher.open(number++, false, kept.take(sealedSize));
  const last = kept.take(sealedSize);
  // One content has one encoding: an empty chunk is for an empty message alone.
  if (last.length < TAG_BYTES || (last.length === TAG_BYTES && number > 0)) throw altered();
  yield cipher.open(number, true, last);
}

/** The content of a message that can be read anywhere. */
export class DecryptingFile {
  #chunk: { number: number; content: Buffer } | undefined;

  private constructor(
    private readonly read: ReadAt,
    private readonly start: number,
    private readonly layout: Layout,
    private readonly cipher: ChunkCipher,
  ) {}

  /** Verifies the end of a message whose nonce prefix is at `start`. Throws MESSAGE_ALTERED or MESSAGE_TOO_LARGE. */
  static async open(read: ReadAt, start: number, size: number, keys: MessageKeys, chunkSize: number) {
    const chunks = start + NONCE_PREFIX_BYTES;
    if (size - chunks < TAG_BYTES) throw altered();
    const layout = new Layout(size - chunks, chunkSize);
    const prefix = Buffer.from(await read(start, NONCE_PREFIX_BYTES));
    if (prefix.length < NONCE_PREFIX_BYTES) throw altered();
    const file = new DecryptingFile(read, chunks, layout, keys.cipher(prefix));
    await file.#load(layout.chunks - 1);
    return file;
  }

  /** Bytes of the content, verified. */
  get size(): number {
    return this.layout.contentBytes;
  }

  /** The content from `offset` on, fewer than `length` bytes only at its end. */
  async readAt(offset: number, length: number): Promise<Buffer> {
    if (offset < 0 || length < 0) throw new RangeError("there is no such place in the content");
    const pieces: Buffer[] = [];
    const end = Math.min(offset + length, this.size);
    for (let at = offset; at < end; ) {
      const number = Math.floor(at / this.layout.chunkSize);
      const within = at - number * this.layout.chunkSize;
      const piece = (await this.#load(number)).subarray(within, within + end - at);
      pieces.push(piece);
      at += piece.length;
    }
    return Buffer.concat(pieces);
  }

  async #load(number: number): Promise<Buffer> {
    if (this.#chunk?.number === number) return this.#chunk.content;
    const [start, end] = this.layout.sealedRange(number);
    const sealed = await this.read(this.start + start, end - start);
    if (sealed.length !== end - start) throw altered();
    const content = this.cipher.open(number, number === this.layout.chunks - 1, sealed);
    this.#chunk = { number, content };
    return content;
  }
}

/** What came of a source and was not taken yet. */
class Kept {
  readonly #source: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #pieces: Uint8Array[] = [];
  #size = 0;
  #hasEnded = false;

  constructor(pieces: Pieces) {
    this.#source = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
  }

  /** Ends the source, which may have more and hold a file open, unless it has ended by itself. */
  async end(): Promise<void> {
    if (!this.#hasEnded) await this.#source.return?.();
  }

  /** Reads on until so many bytes are kept; false where the source ends before. */
  async holds(size: number): Promise<boolean> {
    while (this.#size < size) {
      if (this.#hasEnded) return false;
      // A source that throws has ended, too.
      this.#hasEnded = true;
      const next = await this.#source.next();
      if (next.done) return false;
      this.#hasEnded = false;
      this.#pieces.push(next.value);
      this.#size += next.value.length;
    }
    return true;
  }

  /** The first bytes, as many as are kept and at most `size`; they stay. */
  peek(size: number): Buffer {
    const taken = this.take(size);
    this.#pieces.unshift(taken);
    this.#size += taken.length;
    return taken;
  }

  /** The first bytes, as many as are kept and at most `size`; copied only where they came in several pieces. */
  take(size: number): Buffer {
    const parts: Uint8Array[] = [];
    let [left, used] = [size, 0];
    for (const piece of this.#pieces) {
      if (left === 0) break;
      parts.push(piece.subarray(0, left));
      left -= Math.min(left, piece.length);
      used++;
    }
    const last = parts.at(-1);
    const rest = last && this.#pieces[used - 1]!.subarray(last.length);
    this.#pieces.splice(0, used, ...(rest?.length ? [rest] : []));
    this.#size -= size - left;
    const [only] = parts;
    return parts.length === 1 && only ? Buffer.from(only.buffer, only.byteOffset, only.byteLength) : Buffer.concat(parts);
  }
}
