/** The keys of the mesh that data keys of messages are wrapped under, and which of them may open a message. */

import type { EncryptionContext } from "../client.js";
import { StrongroomError } from "../errors.js";
import { DATA_KEY_BYTES } from "./body.js";
import { type Header, MAX_WRAPPED_KEYS, type WrappedKey } from "./header.js";
import { altered, fieldInvalid, keyMismatch, keyNotAccepted } from "./refusals.js";

/**
 * In place of the name of a key that a reader accepts: every key that its client may use. Whoever can write messages
 * chooses the key then: it is for tools that people use, not for services.
 */
export const ANY_KEY = "*";

const MAX_ATTEMPTS = 16;

/** What of a mesh's client the encryption SDK needs: `Client`, or what stands in its place. */
export interface KeyCalls {
  keyName(name: string): string;
  generateDataKey(key: string, context: EncryptionContext): Promise<Wrapped & { plaintext: Uint8Array }>;
  encrypt(key: string, plaintext: Uint8Array, context: EncryptionContext): Promise<Wrapped>;
  decrypt(key: string, ciphertext: Uint8Array, context: EncryptionContext): Promise<{ plaintext: Uint8Array; key: string }>;
}

interface Wrapped {
  ciphertext: Uint8Array;
  /** The key's full name. */
  key: string;
}

/** A key of a mesh: its name, and the client that reaches the mesh, by default the one of the whole. */
export interface MeshKey {
  /** An id (`payments`), `alias/{alias}`, a full name, or `ANY_KEY`, which is for decryption alone. */
  name: string;
  client?: KeyCalls;
  /** Tells keys of different meshes apart where messages are under several: a word that writers and readers agree on. */
  mesh?: string;
}

/** A key with its full name, which is empty for every key. */
export type KnownKey = Required<MeshKey>;

/** One key or several: names, or keys with clients of their own. */
export type Keys = string | MeshKey | readonly (string | MeshKey)[];

/** The keys that a caller named, each once. Throws FIELD_REQUIRED or NAME_MALFORMED. */
export function knownKeys(client: KeyCalls, keys: Keys): KnownKey[] {
  const given = typeof keys === "string" || "name" in keys ? [keys] : keys;
  const known: KnownKey[] = [];
  for (const one of given) {
    const key = { client, mesh: "", ...(typeof one === "string" ? { name: one } : one) };
    // A name that was not configured must not come to mean every key.
    if (!key.name) throw new StrongroomError("FIELD_REQUIRED", "a key has no name; for every key say ANY_KEY", { field: "keys" });
    key.name = key.name === ANY_KEY ? "" : key.client.keyName(key.name);
    const same = (other: KnownKey) => other.name === key.name && other.mesh === key.mesh && other.client === key.client;
    if (!known.some(same)) known.push(key);
  }
  if (known.length === 0) throw new StrongroomError("FIELD_REQUIRED", "name at least one key", { field: "keys" });
  return known;
}

/** Has a data key made under the first key, and wrapped under each other one. */
export async function newDataKey(keys: readonly KnownKey[], context: EncryptionContext, nameKeys: boolean) {
  if (keys.length > MAX_WRAPPED_KEYS) throw fieldInvalid("keys", "a message is under at most 16 keys");
  const [first, ...others] = keys as [KnownKey, ...KnownKey[]];
  const made = await asked(first, () => first.client.generateDataKey(first.name, context));
  const wrappedKeys = [
    wrappedKey(first, made, nameKeys),
    ...(await wrappedUnder(others, made.plaintext, context, nameKeys)),
  ];
  return { dataKey: made.plaintext, wrappedKeys };
}

/** A data key, wrapped under each of these keys. */
export async function wrappedUnder(
  keys: readonly KnownKey[],
  dataKey: Uint8Array,
  context: EncryptionContext,
  nameKeys: boolean,
): Promise<WrappedKey[]> {
  const wrap = async (key: KnownKey) =>
    wrappedKey(key, await asked(key, () => key.client.encrypt(key.name, dataKey, context)), nameKeys);
  return Promise.all(keys.map(wrap));
}

/**
 * The data key of a message, from the first key that the mesh does not refuse. Where all are refused, the first refusal
 * counts, or before it the first by a mesh that could not serve: another time it may do better.
 */
export async function unwrapped(header: Header, accepted: readonly KnownKey[], context: EncryptionContext) {
  const refusals: StrongroomError[] = [];
  for (const [wrapped, key] of fitting(header.wrappedKeys, accepted)) {
    try {
      const answer = await asked(key, () => key.client.decrypt(key.name, wrapped.encryptedDataKey, context));
      if (wrapped.key && answer.key && answer.key !== wrapped.key) throw keyMismatch();
      if (answer.plaintext.length !== DATA_KEY_BYTES) throw altered();
      return answer.plaintext;
    } catch (error) {
      if (!(error instanceof StrongroomError)) throw error;
      refusals.push(error);
    }
  }
  throw refusals.find((refusal) => refusal.isAway) ?? refusals[0];
}

function fitting(wrappedKeys: readonly WrappedKey[], accepted: readonly KnownKey[]): [WrappedKey, KnownKey][] {
  const pairs = wrappedKeys.flatMap((wrapped) =>
    accepted.filter((key) => fits(wrapped, key)).map((key): [WrappedKey, KnownKey] => [wrapped, key]),
  );
  if (pairs.length === 0) throw keyNotAccepted(wrappedKeys.map((wrapped) => wrapped.key).filter(Boolean).join(", "));
  return pairs.slice(0, MAX_ATTEMPTS);
}

function fits(wrapped: WrappedKey, key: KnownKey): boolean {
  if (wrapped.mesh && key.mesh && wrapped.mesh !== key.mesh) return false;
  // What an alias stands for, its mesh knows.
  return !wrapped.key || !key.name || wrapped.key === key.name || key.name.includes("/aliases/");
}

function wrappedKey(key: KnownKey, answer: Wrapped, nameKeys: boolean): WrappedKey {
  return { key: nameKeys ? answer.key : "", mesh: key.mesh, encryptedDataKey: answer.ciphertext };
}

async function asked<Answer>(key: KnownKey, call: () => Promise<Answer>): Promise<Answer> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof StrongroomError) || !error.isAway) throw error;
    throw error.withAdvice(
      `so there is no data key of ${key.name || "its key"}: look at \`strongroom status\` and at the profile's addresses; ` +
        "messages whose data keys a cache holds go on meanwhile",
    );
  }
}
