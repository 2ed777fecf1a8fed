/** Messages, files and objects of any size, encrypted in this process in the format that every language reads. */

export { type DecryptionOptions, EncryptionClient, type EncryptionOptions } from "./client.js";
export { ANY_KEY, type KeyCalls, type Keys, type MeshKey } from "./keys.js";
export type { DecryptingFile, ReadAt } from "./streams.js";
