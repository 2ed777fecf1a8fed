/** The one way that every call takes: trace, token, deadline, checksums, retries, errors. */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import {
  create,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { type ClientReadableStream, Metadata, type ServiceError, status } from "@grpc/grpc-js";

import type { Channel } from "./channel.js";
import { addChecksums, corrupted } from "./checksums.js";
import { fromServiceError, StrongroomError } from "./errors.js";
import { described } from "./proxies.js";
import type { TokenSource } from "./tokens.js";
import { addTrace } from "./tracing.js";

const ROUNDS = 4; // each tries every address once
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;
const PENDING_PAUSE_MS = 250;
// What was asked was done, or may have been: the same request with the same id answers what it made.
const PENDING = new Set(["AUDIT_PENDING", "CHANGE_UNDECIDED"]);
// How long a service asks to wait before a call is made again; negative of one that it may have begun.
const PUSHBACK = "grpc-retry-pushback-ms";

// Methods whose repetition changes nothing more. A change is repeated with its request id, which it is given where it
// has none, or where nothing was sent.
const SAFE =
  /^(Get|List|Lookup|Simulate|Validate|Encrypt|Decrypt|ReEncrypt|Generate|Export|Asymmetric|Sign|Verify|Derive|Encapsulate|Decapsulate|Batch|CreateSession|AssumeRole)/;

/** What a call is made with. */
export interface CallOptions {
  /** Milliseconds for the call, retries included. */
  timeoutMs?: number;
}

/** The methods of a service: a promise for one answer, an iterable for a stream of them. */
export type Stub<Service> =
  Service extends GenService<infer Methods extends GenServiceMethods>
    ? {
        [Name in keyof Methods]: Methods[Name]["methodKind"] extends "server_streaming"
          ? (request: MessageInitShape<Methods[Name]["input"]>) => AsyncIterable<MessageShape<Methods[Name]["output"]>>
          : (
              request: MessageInitShape<Methods[Name]["input"]>,
              options?: CallOptions,
            ) => Promise<MessageShape<Methods[Name]["output"]>>;
      }
    : never;

/** One service at one address or at several. */
export class Endpoint {
  #preferred = 0;

  constructor(
    private readonly service: string,
    private readonly channels: readonly Channel[],
    private readonly timeoutMs: number,
    private readonly tokens: TokenSource | undefined,
  ) {}

  /** The same service, called with the tokens of another source. */
  withTokens(tokens: TokenSource | undefined): Endpoint {
    return new Endpoint(this.service, this.channels, this.timeoutMs, tokens);
  }

  /** The methods of a generated service. */
  stub<Methods extends GenServiceMethods>(service: GenService<Methods>): Stub<GenService<Methods>> {
    const methods = service.methods.map((method: DescMethod) => [
      method.localName,
      method.methodKind === "server_streaming"
        ? (request: Message) => this.#stream(method as DescMethodServerStreaming & DescMethod, request)
        : (request: Message, options?: CallOptions) => this.#call(method as DescMethodUnary & DescMethod, request, options),
    ]);
    return Object.fromEntries(methods) as Stub<GenService<Methods>>;
  }

  async #call(method: DescMethodUnary, init: Message, options: CallOptions = {}): Promise<Message> {
    this.#checkKnown();
    const request = create(method.input, init);
    addRequestId(request);
    addChecksums(method.input, request);
    const deadline = performance.now() + (options.timeoutMs ?? this.timeoutMs);
    try {
      return await this.#authorized(method, request, deadline);
    } catch (error) {
      if (!(error instanceof StrongroomError) || !PENDING.has(error.reason) || !requestId(request)) throw error;
      return await this.#untilDecided(method, request, deadline, error);
    }
  }

  /** Asks for a change again, by its request id, until it is known what stands or the time is over. */
  async #untilDecided(method: DescMethodUnary, request: Message, deadline: number, pending: Error): Promise<Message> {
    while (deadline - performance.now() > PENDING_PAUSE_MS) {
      await sleep(PENDING_PAUSE_MS);
      try {
        return await this.#authorized(method, request, deadline);
      } catch (error) {
        if (!(error instanceof StrongroomError) || !error.isAway) throw error;
      }
    }
    throw pending;
  }

  /** Calls with a token, and once again with another where the service did not accept that. */
  async #authorized(method: DescMethodUnary, request: Message, deadline: number): Promise<Message> {
    const token = await this.#token(deadline);
    try {
      return await this.#answered(method, request, deadline, token);
    } catch (error) {
      const refused = error instanceof StrongroomError && ["TOKEN_EXPIRED", "TOKEN_INVALID"].includes(error.reason);
      if (!refused || token === undefined || !this.tokens?.renew(token)) throw error;
    }
    return await this.#answered(method, request, deadline, await this.#token(deadline));
  }

  /** The token for a call; an exchange that takes longer than the call may goes on for others. */
  async #token(deadline: number): Promise<string | undefined> {
    if (this.tokens === undefined) return undefined;
    let timer;
    const late = new Promise<never>((_, reject) => {
      const message = "the exchange of credentials for a session did not end in time";
      const error = new StrongroomError("DEADLINE_EXCEEDED", message, { code: status.DEADLINE_EXCEEDED });
      timer = setTimeout(() => reject(error), Math.max(0, deadline - performance.now()));
    });
    try {
      return await Promise.race([this.tokens.current(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Calls at one address after the other, in rounds with growing random pauses, until one answers. */
  async #answered(method: DescMethodUnary, request: Message, deadline: number, token?: string): Promise<Message> {
    for (let round = 0; ; round++) {
      const first = this.#preferred;
      let failure: unknown;
      for (let step = 0; step < this.channels.length; step++) {
        const index = (first + step) % this.channels.length;
        try {
          return await this.#at(this.channels[index]!, method, request, deadline, token);
        } catch (error) {
          if (!(error instanceof StrongroomError)) throw error;
          if (error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED) {
            if (this.#preferred === index) this.#preferred = (index + 1) % this.channels.length;
          }
          if (!(error instanceof Repeatable) || performance.now() >= deadline) throw plain(error);
          failure = plain(error);
        }
      }
      const pause = Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** round);
      if (round === ROUNDS - 1 || performance.now() + pause >= deadline) throw failure;
      await sleep(pause);
    }
  }

  async #at(channel: Channel, method: DescMethodUnary, request: Message, deadline: number, token?: string) {
    const metadata = new Metadata();
    const traceId = addTrace(metadata);
    if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
    if (!(await channel.ready(wallClock(deadline)))) {
      const why = "nobody answers there, or not with a certificate that is trusted";
      const details = { code: status.UNAVAILABLE, traceId };
      throw new Repeatable("UNREACHABLE", `${this.#peer} cannot be reached: ${why}`, details);
    }
    const answer = await new Promise<Message>((resolve, reject) => {
      channel.current().makeUnaryRequest(
        path(method),
        (message: Message) => Buffer.from(toBinary(method.input, message)),
        (bytes) => fromBinary(method.output, bytes),
        request,
        metadata,
        { deadline: wallClock(deadline) },
        (error, response) => (error === null ? resolve(response as Message) : reject(this.#refusal(error, method, request, traceId))),
      );
    });
    const field = corrupted(method.output, answer);
    if (field) {
      const details = { code: status.DATA_LOSS, field, traceId };
      throw new StrongroomError("ANSWER_CORRUPTED", `${this.#peer}: ${field} was altered on the way, by its checksum`, details);
    }
    return answer;
  }

  #refusal(error: ServiceError, method: DescMethodUnary, request: Message, traceId: string): StrongroomError {
    const refusal = fromServiceError(error, this.#peer, traceId);
    if (refusal.code !== status.UNAVAILABLE || PENDING.has(refusal.reason)) return refusal;
    // A service that says UNAVAILABLE with another reason has done nothing, of what it had not begun.
    const undone = refusal.reason !== "UNREACHABLE" && !mayHaveBegun(error);
    const repeatable = undone || SAFE.test(method.name) || requestId(request);
    return repeatable ? new Repeatable(refusal.reason, unprefixed(refusal), refusal.details) : refusal;
  }

  async *#stream(method: DescMethodServerStreaming, init: Message): AsyncGenerator<Message> {
    this.#checkKnown();
    const metadata = new Metadata();
    const traceId = addTrace(metadata);
    const token = await this.tokens?.current();
    if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
    const stream: ClientReadableStream<Message> = this.channels[this.#preferred]!.current().makeServerStreamRequest(
      path(method),
      (message: Message) => Buffer.from(toBinary(method.input, message)),
      (bytes) => fromBinary(method.output, bytes) as Message,
      create(method.input, init),
      metadata,
    );
    try {
      yield* stream;
    } catch (error) {
      throw fromServiceError(error as ServiceError, this.#peer, traceId);
    } finally {
      stream.cancel();
    }
  }

  #checkKnown(): void {
    if (this.channels.length > 0) return;
    const details = { code: status.FAILED_PRECONDITION, field: this.service };
    throw new StrongroomError("ENDPOINT_UNKNOWN", `the address of ${this.service} is not known`, details);
  }

  get #peer(): string {
    return `${this.service} at ${this.channels.map((channel) => described(channel.address)).join(", ")}`;
  }
}

/** A failure after which the call may be made again: nothing was done, or doing it twice does no harm. */
class Repeatable extends StrongroomError {}

function plain(error: StrongroomError): StrongroomError {
  return error instanceof Repeatable ? new StrongroomError(error.reason, unprefixed(error), error.details) : error;
}

function unprefixed(error: StrongroomError): string {
  return error.message.slice(error.reason.length + 2);
}

/** Whether a service that refuses a call may have begun it. */
function mayHaveBegun(error: ServiceError): boolean {
  // gRPC takes for "never again" also what it cannot read.
  return error.metadata?.get(PUSHBACK).some((pushback) => !/^\d+$/.test(pushback.toString())) ?? false;
}

function path(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function requestId(request: Message): boolean {
  return "requestId" in request && request.requestId !== "";
}

/** Gives a request an id where it can have one and has none, so that it can be made again. */
function addRequestId(request: Message): void {
  if ("requestId" in request && request.requestId === "") request.requestId = randomUUID();
}

/** gRPC's kind of deadline, of one by the clock that nobody sets. */
function wallClock(deadline: number): number {
  return Date.now() + deadline - performance.now();
}
