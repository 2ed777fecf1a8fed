/** What a message says before its body. */

import type { EncryptionContext } from "../client.js";
import { canonical, digest, Fields, pairsOf, u16 } from "./context.js";
import {
  altered,
  chunkSizeInvalid,
  contextMismatch,
  fieldInvalid,
  fieldTooLarge,
  notRecognized,
  versionUnknown,
} from "./refusals.js";

const MAGIC = Buffer.from("\x89SRFILE", "latin1");
const VERSION = 2;
export const FIXED_BYTES = 13;
export const HEADER_TAG_BYTES = 32;
export const MAX_WRAPPED_KEYS = 16;
const MAX_HINT_BYTES = 255;
const MAX_ENCRYPTED_DATA_KEY_BYTES = 2048;
const [DIGEST_FORM, WHOLE_FORM] = [0, 1] as const;

/** A data key, encrypted by a mesh under one of its keys; `key` and `mesh` are hints. */
export interface WrappedKey {
  readonly key: string;
  readonly mesh: string;
  readonly encryptedDataKey: Uint8Array;
}

/** A header. `context` is undefined where the message holds only its digest. */
export interface Header {
  readonly chunkSizeLog2: number;
  readonly contextDigest: Buffer;
  readonly context: EncryptionContext | undefined;
  readonly wrappedKeys: readonly WrappedKey[];
}

/** A header as it was found: its bytes, and the tag behind them, which nobody has verified yet. */
export interface FoundHeader extends Header {
  readonly data: Buffer;
  readonly tag: Buffer;
}

/** Throws FIELD_INVALID for a size of chunks that no message has. */
export function checkChunkSize(chunkSizeLog2: number): void {
  if (!isChunkSize(chunkSizeLog2)) throw fieldInvalid("chunk_size_log2", "chunks have 2^6 to 2^20 bytes");
}

/** The header as it is in the message, without its tag. Throws FIELD_INVALID or FIELD_TOO_LARGE. */
export function headerBytes(header: Header): Buffer {
  checkChunkSize(header.chunkSizeLog2);
  const count = header.wrappedKeys.length;
  if (count === 0 || count > MAX_WRAPPED_KEYS) throw fieldInvalid("keys", "a message is under 1 to 16 keys");
  const whole = header.context === undefined ? undefined : canonical(header.context);
  const context = whole === undefined ? header.contextDigest : Buffer.concat([u16(whole.length), whole]);
  const rest = Buffer.concat([context, ...header.wrappedKeys.map(wrappedKeyBytes)]);
  const form = whole === undefined ? DIGEST_FORM : WHOLE_FORM;
  const fixed = Buffer.of(VERSION, header.chunkSizeLog2, form, count);
  return Buffer.concat([MAGIC, fixed, u16(rest.length), rest]);
}

/** The message's context, where `given` is that or nothing is given. Throws CONTEXT_MISMATCH. */
export function contextFor(header: Header, given: EncryptionContext | undefined): EncryptionContext {
  if (given === undefined && header.context !== undefined) return header.context;
  if (!digest(canonical(given)).equals(header.contextDigest)) throw contextMismatch();
  return given ?? {};
}

/** How many bytes header and tag have, by the first 13 of a message; more than are there for what must be refused. */
export function headBytes(message: Buffer): number {
  const known = Math.min(message.length, MAGIC.length);
  if (!message.subarray(0, known).equals(MAGIC.subarray(0, known))) return message.length;
  if (message.length < FIXED_BYTES) return FIXED_BYTES;
  return FIXED_BYTES + message.readUInt16BE(FIXED_BYTES - 2) + HEADER_TAG_BYTES;
}

/** Reads the header at the beginning of a message; what follows its tag is not looked at. */
export function readHeader(message: Buffer): FoundHeader {
  if (message.length <= MAGIC.length || !message.subarray(0, MAGIC.length).equals(MAGIC)) throw notRecognized();
  const version = message[MAGIC.length]!;
  if (version !== VERSION) throw versionUnknown(version, VERSION);
  if (message.length < FIXED_BYTES) throw altered();
  const [chunkSizeLog2, form, count] = [message[8]!, message[9]!, message[10]!];
  if (!isChunkSize(chunkSizeLog2)) throw chunkSizeInvalid(chunkSizeLog2);
  if (form > WHOLE_FORM || count === 0 || count > MAX_WRAPPED_KEYS) throw altered();
  const end = FIXED_BYTES + message.readUInt16BE(FIXED_BYTES - 2);
  if (message.length < end + HEADER_TAG_BYTES) throw altered();
  const data = message.subarray(0, end);
  const fields = new Fields(data.subarray(FIXED_BYTES));
  const whole = form === WHOLE_FORM ? fields.take(fields.number(2)) : undefined;
  const contextDigest = whole === undefined ? fields.take(32) : digest(whole);
  const context = whole === undefined ? undefined : pairsOf(whole);
  const wrappedKeys = Array.from({ length: count }, () => readWrappedKey(fields));
  fields.end();
  return { chunkSizeLog2, contextDigest, context, wrappedKeys, data, tag: message.subarray(end, end + HEADER_TAG_BYTES) };
}

function readWrappedKey(fields: Fields): WrappedKey {
  const [key, mesh] = [readHint(fields), readHint(fields)];
  const length = fields.number(2);
  if (length === 0 || length > MAX_ENCRYPTED_DATA_KEY_BYTES) throw altered();
  return { key, mesh, encryptedDataKey: fields.take(length) };
}

function readHint(fields: Fields): string {
  const bytes = fields.take(fields.number(1));
  if (!isHint(bytes)) throw altered();
  return bytes.toString("latin1");
}

function wrappedKeyBytes({ key, mesh, encryptedDataKey }: WrappedKey): Buffer {
  const length = encryptedDataKey.length;
  if (length === 0 || length > MAX_ENCRYPTED_DATA_KEY_BYTES) {
    throw fieldTooLarge("keys", "an encrypted data key has 1 to 2,048 bytes");
  }
  return Buffer.concat([hintBytes(key), hintBytes(mesh), u16(length), encryptedDataKey]);
}

function hintBytes(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > MAX_HINT_BYTES || !isHint(bytes)) {
    throw fieldInvalid("keys", "a hint has at most 255 printable ASCII characters and no space");
  }
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function isHint(bytes: Buffer): boolean {
  return bytes.every((byte) => byte >= 0x21 && byte <= 0x7e);
}

function isChunkSize(chunkSizeLog2: number): boolean {
  return Number.isInteger(chunkSizeLog2) && chunkSizeLog2 >= 6 && chunkSizeLog2 <= 20;
}
