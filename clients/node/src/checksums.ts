/**
 * CRC32C of what crosses the network: put into every request, verified in every answer.
 *
 * A field `x_crc32c` holds the checksum (Castagnoli, RFC 3720 appendix B.4) of `x` beside it, which is a field of bytes,
 * or a oneof of such.
 */

import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";

const SUFFIX = "_crc32c";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** The CRC32C of `data`. */
export function crc32c(data: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of data) value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff]!;
  return (value ^ 0xffffffff) >>> 0;
}

/** Sets every checksum of a request, those of its items too. */
export function addChecksums(schema: DescMessage, request: Message): void {
  for (const { message, field, data } of checksums(reflect(schema, request))) {
    if (data !== undefined) message.set(field, crc32c(data));
  }
}

/** The first field of an answer that is not what its checksum says; empty when each is, or has none. */
export function corrupted(schema: DescMessage, response: Message): string {
  for (const { message, field, data } of checksums(reflect(schema, response))) {
    const given = field.presence === FeatureSet_FieldPresence.IMPLICIT || message.isSet(field);
    if (given && message.get(field) !== crc32c(data ?? new Uint8Array())) return field.name.slice(0, -SUFFIX.length);
  }
  return "";
}

interface Checksum {
  message: ReflectMessage;
  field: DescField & { fieldKind: "scalar" };
  /** What it is of; undefined where that may be absent and is. */
  data: Uint8Array | undefined;
}

function* checksums(message: ReflectMessage): Generator<Checksum> {
  for (const field of message.fields) {
    if (field.fieldKind === "scalar" && field.name.endsWith(SUFFIX)) {
      yield { message, field, data: subject(message, field.name.slice(0, -SUFFIX.length)) };
    } else if (field.fieldKind === "message" && message.isSet(field)) {
      yield* checksums(message.get(field));
    } else if (field.fieldKind === "list" && field.listKind === "message") {
      for (const item of message.get(field)) yield* checksums(item as ReflectMessage);
    }
  }
}

function subject(message: ReflectMessage, name: string): Uint8Array | undefined {
  const oneof = message.desc.oneofs.find((one) => one.name === name);
  const field = oneof === undefined ? message.desc.fields.find((one) => one.name === name) : message.oneofCase(oneof);
  if (field === undefined || (field.presence !== FeatureSet_FieldPresence.IMPLICIT && !message.isSet(field))) return undefined;
  const value: unknown = message.get(field);
  return value instanceof Uint8Array ? value : undefined;
}
