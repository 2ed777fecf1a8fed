/** What an application encrypts with: messages under data keys that only the mesh can open. */

import type { EncryptionContext } from "../client.js";
import { MessageKeys, openBody, sealBody } from "./body.js";
import { Cache } from "./cache.js";
import { canonical, digest } from "./context.js";
import { checkChunkSize, contextFor, type FoundHeader, type Header, headerBytes, headBytes, readHeader } from "./header.js";
import { type KeyCalls, type Keys, type KnownKey, knownKeys, newDataKey, unwrapped, wrappedUnder } from "./keys.js";
import { DecryptingFile, type ReadAt, decrypted, encrypted } from "./streams.js";

/** How messages are written. */
export interface EncryptionOptions {
  /**
   * Milliseconds for which data keys are kept for messages to come. A data key at hand works on until then when its key
   * is disabled or a permission is taken away. One that is in use is replaced ahead of its end, beside messages that go
   * on. Without it, each message asks the mesh.
   */
  cacheMs?: number;
  /** Milliseconds beyond `cacheMs` for which data keys are used while the mesh cannot be reached; 120,000 by default. */
  maxStaleMs?: number;
  /** Write encryption contexts themselves into messages, so that readers need not know them. */
  storeContext?: boolean;
  /** False leaves the names of keys out of messages; a reader of several keys then tries each. */
  nameKeys?: boolean;
  /** The size of chunks as a power of two, 6 to 20; 16 by default. */
  chunkSizeLog2?: number;
}

/** How a message is read. */
export interface DecryptionOptions {
  /** The keys that the message may be under, by default those of the client. */
  keys?: Keys;
}

type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

interface Beginning {
  data: Buffer;
  keys: MessageKeys;
}

interface Opened {
  keys: MessageKeys;
  dataKey: Uint8Array;
  context: EncryptionContext;
}

/**
 * Encrypts messages of any size in this process, under data keys that the mesh wraps (docs/encryption.md).
 *
 *     const encryption = new EncryptionClient(client, ["payments"], { cacheMs: 300_000 });
 *     const message = await encryption.encrypt(Buffer.from("4111"), { tenant: "a" });
 *     const content = await encryption.decrypt(message, { tenant: "a" });
 *
 * Messages are encrypted under all keys, and those alone are accepted by `decrypt` unless it is told others. Every method
 * rejects with a `StrongroomError`. Contexts that are left out stand for what the message holds, or for none.
 */
export class EncryptionClient {
  readonly #keys: KnownKey[];
  readonly #options: Required<Omit<EncryptionOptions, "cacheMs" | "maxStaleMs">>;
  readonly #writing: Cache<Beginning> | undefined;
  readonly #reading: Cache<Opened> | undefined;

  constructor(
    private readonly client: KeyCalls,
    keys: Keys,
    { cacheMs = 0, maxStaleMs = 120_000, ...options }: EncryptionOptions = {},
  ) {
    this.#options = { storeContext: false, nameKeys: true, chunkSizeLog2: 16, ...options };
    checkChunkSize(this.#options.chunkSizeLog2);
    this.#keys = knownKeys(client, keys);
    this.#writing = cacheMs > 0 ? new Cache(cacheMs, maxStaleMs) : undefined;
    this.#reading = cacheMs > 0 ? new Cache(cacheMs, maxStaleMs) : undefined;
  }

  /** The message that holds `content`, some 240 bytes longer with one key. */
  async encrypt(content: Uint8Array, context?: EncryptionContext): Promise<Buffer> {
    const { data, keys } = await this.#begin(context, content.length);
    return sealBody(data, keys, content, 2 ** this.#options.chunkSizeLog2);
  }

  /** The content of a message, all of it verified. */
  async decrypt(message: Uint8Array, context?: EncryptionContext, options: DecryptionOptions = {}): Promise<Buffer> {
    const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
    const found = readHeader(bytes);
    const body = bytes.subarray(found.data.length + found.tag.length);
    const { keys } = await this.#open(found, context, options, body.length);
    return openBody(keys, body, 2 ** found.chunkSizeLog2);
  }

  /**
   * A message under other keys, with the same body: it opens under `keys` and no longer under those of before. Whoever
   * could open it before may have kept its data key.
   */
  async rewrap(
    message: Uint8Array,
    keys: Keys,
    context?: EncryptionContext,
    options: DecryptionOptions = {},
  ): Promise<Buffer> {
    const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
    const under = knownKeys(this.client, keys);
    const found = readHeader(bytes);
    const opened = await this.#open(found, context, options, 0);
    const wrappedKeys = await wrappedUnder(under, opened.dataKey, opened.context, this.#options.nameKeys);
    const { chunkSizeLog2, contextDigest } = found;
    const data = headerBytes({ chunkSizeLog2, contextDigest, context: found.context, wrappedKeys });
    const body = bytes.subarray(found.data.length + found.tag.length);
    return Buffer.concat([data, opened.keys.headerTag(data), body]);
  }

  /**
   * The message of a content that comes in pieces, in pieces and constant memory. A source that throws leaves a message
   * without end, which every reader refuses.
   */
  async *encryptStream(pieces: Pieces, context?: EncryptionContext): AsyncGenerator<Buffer> {
    const { data, keys } = await this.#begin(context, 0);
    yield* encrypted(pieces, data, keys, 2 ** this.#options.chunkSizeLog2);
  }

  /**
   * The content of a message that comes in pieces, in pieces and constant memory. Each was verified; that none is
   * missing is known at the end, so keep what came before aside until then.
   */
  async *decryptStream(
    pieces: Pieces,
    context?: EncryptionContext,
    options: DecryptionOptions = {},
  ): AsyncGenerator<Buffer> {
    yield* decrypted(pieces, async (head) => {
      const found = readHeader(head);
      return { keys: (await this.#open(found, context, options, 0)).keys, chunkSize: 2 ** found.chunkSizeLog2 };
    });
  }

  /**
   * The content of a message of `size` bytes that can be read anywhere, in constant memory. That the message is whole was
   * verified then, by its last chunk; each chunk is when it is read. `read` answers bytes of the message.
   */
  async openFile(
    read: ReadAt,
    size: number,
    context?: EncryptionContext,
    options: DecryptionOptions = {},
  ): Promise<DecryptingFile> {
    const fixed = await read(0, Math.min(size, 13));
    const head = await read(0, Math.min(size, headBytes(Buffer.from(fixed))));
    const found = readHeader(Buffer.from(head));
    const { keys } = await this.#open(found, context, options, 0);
    return DecryptingFile.open(read, found.data.length + found.tag.length, size, keys, 2 ** found.chunkSizeLog2);
  }

  /** Forgets every data key that is kept: from then on the mesh is asked again. */
  clear(): void {
    this.#writing?.clear();
    this.#reading?.clear();
  }

  async #begin(context: EncryptionContext | undefined, size: number): Promise<Beginning> {
    // What has no canonical form is refused before a data key is made.
    const bytes = canonical(context);
    // A copy: the caller's own may change while the mesh is asked beside.
    const ask = () => this.#begun({ ...context }, bytes);
    return this.#writing === undefined ? ask() : this.#writing.get(bytes.toString("latin1"), size, ask);
  }

  async #begun(context: EncryptionContext, bytes: Buffer): Promise<Beginning> {
    const { chunkSizeLog2, nameKeys, storeContext } = this.#options;
    const { dataKey, wrappedKeys } = await newDataKey(this.#keys, context, nameKeys);
    const contextDigest = digest(bytes);
    const header: Header = { chunkSizeLog2, contextDigest, context: storeContext ? context : undefined, wrappedKeys };
    const data = headerBytes(header);
    const keys = new MessageKeys(dataKey, chunkSizeLog2, contextDigest);
    return { data: Buffer.concat([data, keys.headerTag(data)]), keys };
  }

  async #open(
    found: FoundHeader,
    given: EncryptionContext | undefined,
    { keys }: DecryptionOptions,
    size: number,
  ): Promise<Opened> {
    const known = contextFor(found, given);
    const accepted = keys === undefined ? this.#keys : knownKeys(this.client, keys);
    const ask = async () => {
      const context = { ...known };
      const dataKey = await unwrapped(found, accepted, context);
      const opened = new MessageKeys(dataKey, found.chunkSizeLog2, found.contextDigest);
      opened.verify(found.data, found.tag);
      return { keys: opened, dataKey, context };
    };
    if (this.#reading === undefined || keys !== undefined) return ask();
    // The header holds the context or its digest, which was compared: no other context finds this entry.
    return this.#reading.get(Buffer.concat([found.data, found.tag]).toString("latin1"), size, ask);
  }
}
