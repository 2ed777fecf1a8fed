/** Profiles: where a mesh is and who calls it, by name, in a TOML file. */

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";

import { status } from "@grpc/grpc-js";
import { parse } from "smol-toml";

import { StrongroomError } from "./errors.js";
import type { Credentials } from "./tokens.js";

/** Where a mesh is, and who calls it. */
export interface ClientConfig {
  /** `host:port` of each service; several replicas are joined by commas. */
  endpoints: Partial<Record<"keystore" | "crypto" | "secrets" | "audit", string>>;
  /** The id of the account that short names are completed with. */
  account?: string;
  /** A PEM file of the mesh's certificate authorities; without it the system's. A replaced file is read again. */
  trust?: string | undefined;
  credentials: Credentials;
  /** For each call, retries included; 10,000 by default. */
  timeoutMs?: number;
}

type Table = Record<string, unknown>;

/** What a profile says. Throws PROFILE_NOT_FOUND or PROFILE_INVALID. */
export function readProfile(name: string, environment = process.env): ClientConfig {
  const home = environment["XDG_CONFIG_HOME"] || join(homedir(), ".config");
  const path = environment["STRONGROOM_CONFIG"] || join(home, "strongroom", "profiles.toml");
  const file = readToml(path);
  const wanted = name || environment["STRONGROOM_PROFILE"] || String(file["current"] ?? "");
  const table = (file["profiles"] as Record<string, Table> | undefined)?.[wanted];
  if (table === undefined) throw notFound(`there is no profile "${wanted}" in ${path}`);
  const profile = new Profile(wanted, table, dirname(path));
  return {
    endpoints: (table["endpoints"] ?? {}) as ClientConfig["endpoints"],
    account: profile.text("account"),
    trust: profile.path("trust"),
    credentials: profile.credentials(environment["STRONGROOM_TOKEN"]?.trim() ?? ""),
  };
}

class Profile {
  constructor(
    private readonly name: string,
    private readonly table: Table,
    private readonly folder: string,
  ) {}

  text(field: string): string {
    const value = this.table[field] ?? "";
    if (typeof value !== "string") throw this.invalid(`has ${field}, which is not a string`);
    return value;
  }

  path(field: string): string | undefined {
    const value = this.text(field);
    // Relative to the file, so that profile and certificates can be handed on in one directory.
    return value === "" ? undefined : resolve(this.folder, value);
  }

  credentials(token: string): Credentials {
    const source: Credentials = token === "" ? this.own() : { kind: "sessionToken", token };
    const role = this.text("role");
    if (role === "") return source;
    return {
      kind: "assumedRole",
      source,
      role: role.startsWith("accounts/") ? role : `accounts/${this.text("account")}/roles/${role.replace(/^roles\//, "")}`,
      sessionName: this.text("session_name") || "strongroom",
      externalId: this.text("external_id"),
    };
  }

  private own(): Credentials {
    const sessionName = this.text("session_name");
    const [certificate, key] = [this.path("certificate"), this.path("key")];
    const secretFile = this.path("client_key_secret_file");
    const tokenFile = this.path("oidc_token_file");
    if (this.text("client_key") !== "") {
      if (secretFile === undefined) throw this.invalid("needs client_key_secret_file beside client_key");
      return { kind: "clientKey", name: this.text("client_key"), secretFile, sessionName };
    }
    if (tokenFile !== undefined) return { kind: "oidcToken", tokenFile, account: this.text("account"), sessionName };
    if (certificate === undefined || key === undefined) throw this.invalid("has no credentials");
    if (this.table["session"] === true) return { kind: "certificateSession", certificate, key, sessionName };
    return { kind: "certificate", certificate, key };
  }

  private invalid(why: string): StrongroomError {
    return new StrongroomError("PROFILE_INVALID", `profile ${this.name} ${why}`, { field: "profile" });
  }
}

function readToml(path: string): Table {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw notFound(`${path} cannot be read; \`strongroom profile create NAME HOST:PORT\` makes one, and so does \`make run\``);
  }
  try {
    return parse(text);
  } catch (error) {
    throw new StrongroomError("PROFILE_INVALID", `${path}: ${String(error)}`, { field: "profile" });
  }
}

function notFound(message: string): StrongroomError {
  return new StrongroomError("PROFILE_NOT_FOUND", message, { code: status.NOT_FOUND, field: "profile" });
}
