/** How a caller proves who it is, and where a client's session tokens come from. */

import { readFileSync } from "node:fs";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";

import type { Stub } from "./calls.js";
import { type PemFiles, unreadable } from "./channel.js";
import type { CreateSessionRequestSchema, SessionService } from "./stubs/strongroom/access/v1/session_service_pb.js";

/**
 * Credentials of a caller. Sessions are begun when first needed, and again before they expire; files are read again for
 * each. `durationSeconds` is 1 to 43,200, by default an hour.
 *
 * - `certificate`: mutual TLS on every connection, with PEM files; replaced ones are used for new calls.
 * - `certificateSession`: session tokens for a client certificate, by keystore's listener for certificates.
 * - `clientKey`: session tokens for `accounts/{account}/clientKeys/{id}` and its secret.
 * - `oidcToken`: session tokens for an issuer's token in a file.
 * - `assumedRole`: sessions as `accounts/{account}/roles/{id}`, begun by whom `source` proves.
 * - `sessionToken`: a token that somebody else got; when it has expired, calls fail with TOKEN_EXPIRED.
 */
export type Credentials =
  | { kind: "certificate"; certificate: string; key: string }
  | ({ kind: "certificateSession"; certificate: string; key: string } & SessionOptions)
  | ({ kind: "clientKey"; name: string; secretFile: string } & SessionOptions)
  | ({ kind: "clientKey"; name: string; secret: string } & SessionOptions)
  | ({ kind: "oidcToken"; tokenFile: string; account: string } & SessionOptions)
  | ({ kind: "assumedRole"; source: Credentials; role: string; sessionName: string; externalId?: string } & SessionOptions)
  | { kind: "sessionToken"; token: string };

/** What a session is called in events, and how long it lasts. */
export interface SessionOptions {
  sessionName?: string;
  durationSeconds?: number;
}

/** Where the session token of a call comes from. */
export interface TokenSource {
  /** The token for a call that begins now. */
  current(): Promise<string>;
  /** Says that a service did not accept a token; answers whether `current` may have another now. */
  renew(refused: string): boolean;
}

type Sessions = Stub<typeof SessionService>;

/** The files that go with credentials. */
export function pemFiles(trust: string | undefined, credentials: Credentials): PemFiles {
  if (credentials.kind === "assumedRole") return pemFiles(trust, credentials.source);
  if (credentials.kind === "certificate" || credentials.kind === "certificateSession") {
    return { trust, certificate: credentials.certificate, key: credentials.key };
  }
  return { trust };
}

/** The tokens that stand for credentials; none for a client certificate. `sessions` calls with tokens of a source. */
export function tokenSource(
  credentials: Credentials,
  sessions: (tokens: TokenSource | undefined) => Sessions,
): TokenSource | undefined {
  switch (credentials.kind) {
    case "certificate":
      return undefined;
    case "sessionToken":
      return { current: () => Promise.resolve(credentials.token), renew: () => false };
    case "assumedRole": {
      const before = sessions(tokenSource(credentials.source, sessions));
      const { role, externalId = "" } = credentials;
      return new ExchangedTokens(() => before.assumeRole({ role, externalId, ...session(credentials) }));
    }
    default: {
      const begin = sessions(undefined);
      return new ExchangedTokens(() =>
        begin.createSession({ credential: credential(credentials), ...session(credentials) }),
      );
    }
  }
}

type Credential = NonNullable<MessageInitShape<typeof CreateSessionRequestSchema>["credential"]>;

function credential(
  credentials: Exclude<Credentials, { kind: "certificate" | "sessionToken" | "assumedRole" }>,
): Credential {
  switch (credentials.kind) {
    case "clientKey": {
      const secret = "secretFile" in credentials ? trimmed(credentials.secretFile) : credentials.secret;
      return { case: "clientKey", value: { clientKey: credentials.name, secret } };
    }
    case "oidcToken": {
      const token = trimmed(credentials.tokenFile);
      return { case: "oidcToken", value: { account: `accounts/${credentials.account}`, token } };
    }
    case "certificateSession":
      return { case: "certificate", value: {} };
  }
}

function session({ sessionName = "", durationSeconds }: SessionOptions) {
  return durationSeconds === undefined ? { sessionName } : { sessionName, duration: { seconds: BigInt(durationSeconds) } };
}

/** A secret in a file, without its last newline. */
function trimmed(path: string): string {
  try {
    return readFileSync(path, "utf8").replace(/[\r\n]+$/, "");
  } catch (error) {
    throw unreadable(error);
  }
}

/** Tokens that are exchanged for when first asked for, and again when a fifth of their time is left. */
class ExchangedTokens implements TokenSource {
  #token: Promise<string> | undefined;
  #text = "";
  #renewAt = 0;

  constructor(private readonly exchange: () => Promise<{ token: string; expireTime?: Timestamp | undefined }>) {}

  current(): Promise<string> {
    if (this.#token === undefined || performance.now() >= this.#renewAt) {
      const token = this.#exchanged();
      this.#token = token;
      this.#renewAt = Infinity; // calls that come meanwhile wait for this one
      token.catch(() => {
        if (this.#token === token) this.#token = undefined;
      });
    }
    return this.#token;
  }

  renew(refused: string): boolean {
    if (refused === this.#text) this.#token = undefined;
    return true;
  }

  async #exchanged(): Promise<string> {
    const [begun, at] = [Date.now(), performance.now()];
    const { token, expireTime } = await this.exchange();
    this.#text = token;
    this.#renewAt = at + 0.8 * ((expireTime === undefined ? begun : timestampMs(expireTime)) - begun);
    return token;
  }
}
