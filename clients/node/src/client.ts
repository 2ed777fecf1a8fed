/** A client of a mesh. */

import { type CallOptions, Endpoint, type Stub } from "./calls.js";
import { Channel } from "./channel.js";
import { StrongroomError } from "./errors.js";
import { type ClientConfig, readProfile } from "./profile.js";
import { AccessService } from "./stubs/strongroom/access/v1/access_service_pb.js";
import { SessionService } from "./stubs/strongroom/access/v1/session_service_pb.js";
import { AuditService } from "./stubs/strongroom/audit/v1/audit_service_pb.js";
import { CryptoService } from "./stubs/strongroom/crypto/v1/crypto_pb.js";
import { KeyService } from "./stubs/strongroom/keystore/v1/key_service_pb.js";
import { SecretService } from "./stubs/strongroom/secrets/v1/secret_service_pb.js";
import { pemFiles, type TokenSource, tokenSource } from "./tokens.js";

const TIMEOUT_MS = 10_000;

/** Pairs that a message is bound to, not secret, up to 8,192 bytes in all. */
export type EncryptionContext = Readonly<Record<string, string>>;

/**
 * The connections to a mesh, each opened when it is first needed, and the generated methods of every service.
 *
 *     const client = Client.fromProfile();
 *     const { ciphertext } = await client.encrypt("payments", Buffer.from("4111"), { tenant: "a" });
 *
 * Every method rejects with a `StrongroomError`, whose `reason` is stable.
 */
export class Client {
  readonly keys: Stub<typeof KeyService>;
  readonly crypto: Stub<typeof CryptoService>;
  readonly secrets: Stub<typeof SecretService>;
  readonly audit: Stub<typeof AuditService>;
  readonly access: Stub<typeof AccessService>;
  readonly sessions: Stub<typeof SessionService>;
  readonly #account: string;
  readonly #channels: Channel[] = [];

  constructor(config: ClientConfig) {
    this.#account = config.account ?? "";
    const files = pemFiles(config.trust, config.credentials);
    const channels = (service: "keystore" | "crypto" | "secrets" | "audit") => {
      const addresses = (config.endpoints[service] ?? "").split(",").filter((address) => address.trim() !== "");
      const made = addresses.map((address) => new Channel(address.trim(), files));
      this.#channels.push(...made);
      return new Endpoint(service, made, config.timeoutMs ?? TIMEOUT_MS, undefined);
    };
    const begun = channels("keystore");
    const sessions = (tokens: TokenSource | undefined) => begun.withTokens(tokens).stub(SessionService);
    const tokens = tokenSource(config.credentials, sessions);
    const keystore = begun.withTokens(tokens);
    this.keys = keystore.stub(KeyService);
    this.access = keystore.stub(AccessService);
    this.sessions = keystore.stub(SessionService);
    this.crypto = channels("crypto").withTokens(tokens).stub(CryptoService);
    this.secrets = channels("secrets").withTokens(tokens).stub(SecretService);
    this.audit = channels("audit").withTokens(tokens).stub(AuditService);
  }

  /**
   * A client from the profile file, which `make run` and `strongroom profile create` write: `$STRONGROOM_CONFIG`, or
   * `strongroom/profiles.toml` in the configuration directory. Without a name, `$STRONGROOM_PROFILE` or the current one.
   */
  static fromProfile(name = ""): Client {
    return new Client(readProfile(name));
  }

  /** Ends every connection. */
  close(): void {
    for (const channel of this.#channels) channel.close();
  }

  /** The full name of a key or alias: from an id (`payments`), `alias/{alias}`, or a full name. */
  keyName(name: string): string {
    if (name.startsWith("accounts/")) return name;
    const alias = name.startsWith("alias/");
    const id = alias ? name.slice("alias/".length) : name;
    if (id === "") throw new StrongroomError("FIELD_REQUIRED", "key is required", { field: "key" });
    if (id.includes("/")) {
      throw new StrongroomError("NAME_MALFORMED", `key is not an id, alias/{alias}, or accounts/…: ${name}`, { field: "key" });
    }
    if (this.#account === "") {
      throw new StrongroomError("FIELD_REQUIRED", "no account is set: give the name in full", { field: "account" });
    }
    return `accounts/${this.#account}/${alias ? "aliases" : "keys"}/${id}`;
  }

  /** Encrypts up to 64 KiB in the mesh. `EncryptionClient` is for larger content, or much of it. */
  async encrypt(key: string, plaintext: Uint8Array, context: EncryptionContext = {}, options?: CallOptions) {
    return this.crypto.encrypt({ key: this.keyName(key), plaintext, encryptionContext: { ...context } }, options);
  }

  /** Decrypts what `encrypt` or `generateDataKey` made; with a key, only what is under it. */
  async decrypt(key: string, ciphertext: Uint8Array, context: EncryptionContext = {}, options?: CallOptions) {
    const name = key === "" ? "" : this.keyName(key);
    return this.crypto.decrypt({ key: name, ciphertext, encryptionContext: { ...context } }, options);
  }

  /** Makes a data key of 32 bytes, in the clear and encrypted under a key. */
  async generateDataKey(key: string, context: EncryptionContext = {}, options?: CallOptions) {
    const request = { key: this.keyName(key), numberOfBytes: 32, encryptionContext: { ...context } };
    return this.crypto.generateDataKey(request, options);
  }
}
