/** Connections, each made anew for new calls when its PEM files were replaced. */

import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";

import { Client as GrpcClient, connectivityState, credentials, status } from "@grpc/grpc-js";

import { StrongroomError } from "./errors.js";

const FILES_CHECKED_EVERY_MS = 5000;

/** PEM files to connect with. Without `trust`, the system's certificate authorities are trusted. */
export interface PemFiles {
  trust?: string | undefined;
  certificate?: string | undefined;
  key?: string | undefined;
}

/** A connection to one address. */
export class Channel {
  #current: GrpcClient | undefined;
  #stamps = "";
  #checkAt = 0;

  constructor(
    readonly address: string,
    private readonly files: PemFiles,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The connection for a call that begins now. Throws CREDENTIALS_UNREADABLE. */
  current(): GrpcClient {
    if (this.#current === undefined || this.now() >= this.#checkAt) {
      this.#checkAt = this.now() + FILES_CHECKED_EVERY_MS;
      try {
        this.#renew();
      } catch (error) {
        // A replacement may be half done, one file of it or a part of one: until it is whole, the connection that stands
        // is used, and each check tries again.
        if (this.#current === undefined) throw unreadable(error);
      }
    }
    return this.#current!;
  }

  #renew(): void {
    const stamps = this.#stampsNow();
    if (this.#current !== undefined && stamps === this.#stamps) return;
    const made = this.#made();
    this.#current?.close(); // its calls end by themselves
    this.#current = made;
    this.#stamps = stamps;
  }

  /** Waits until the connection stands; false where nobody answers there, so that nothing was sent. */
  async ready(deadline: number): Promise<boolean> {
    const channel = this.current().getChannel();
    for (;;) {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return true;
      if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) return false;
      const changed = await new Promise<boolean>((resolve) => {
        channel.watchConnectivityState(state, deadline, (error) => resolve(error === undefined));
      });
      if (!changed) return false;
    }
  }

  /** Ends the connection. */
  close(): void {
    this.#current?.close();
    this.#current = undefined;
  }

  #stampsNow(): string {
    const paths = [this.files.trust, this.files.certificate, this.files.key].filter((path) => path !== undefined);
    return paths.map((path) => statSync(path)).map((file) => `${file.mtimeMs} ${file.ino}`).join();
  }

  #made(): GrpcClient {
    const read = (path: string | undefined) => (path === undefined ? null : readFileSync(path));
    const trust = read(this.files.trust);
    // Node takes a file without a certificate for one that trusts nobody.
    if (trust !== null) new X509Certificate(trust);
    const tls = credentials.createSsl(trust, read(this.files.key), read(this.files.certificate));
    return new GrpcClient(this.address, tls, {
      "grpc.enable_retries": 0, // calls.ts retries, with the other addresses
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 5_000,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000,
      // Answers to batches are a little larger than the 4 MiB that a request may have.
      "grpc.max_receive_message_length": 8 << 20,
      "grpc.use_local_subchannel_pool": 1,
    });
  }
}

/** What a file that cannot be read is refused with. */
export function unreadable(error: unknown): StrongroomError {
  const message = error instanceof Error ? error.message : String(error);
  return new StrongroomError("CREDENTIALS_UNREADABLE", message, { code: status.FAILED_PRECONDITION });
}
