/** Strongroom, a key management service, for Node. `@strongroom/client/encryption` encrypts messages of any size. */

export type { CallOptions, Stub } from "./calls.js";
export { Client, type EncryptionContext } from "./client.js";
export { type ErrorDetails, StrongroomError } from "./errors.js";
export type { ClientConfig } from "./profile.js";
export type { Credentials, SessionOptions } from "./tokens.js";
