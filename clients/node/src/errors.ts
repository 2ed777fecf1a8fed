/** The one exception of the client, and how it is read from a failed call. */

import { fromBinary } from "@bufbuild/protobuf";
import { status, type ServiceError } from "@grpc/grpc-js";

import { type ErrorInfo, ErrorInfoSchema, RetryInfoSchema } from "./stubs/google/rpc/error_details_pb.js";
import { StatusSchema } from "./stubs/google/rpc/status_pb.js";

/** A call that was refused or failed, or something that the client itself refuses. */
export class StrongroomError extends Error {
  override readonly name = "StrongroomError";

  /**
   * @param reason What programs switch on (`KEY_DISABLED`, `PERMISSION_DENIED`); it is stable.
   * @param message A sentence for a person; it never holds a secret.
   */
  constructor(
    readonly reason: string,
    message: string,
    readonly details: ErrorDetails = {},
  ) {
    super(`${reason}: ${message}`);
  }

  /** The gRPC status code; for what the client itself refuses, the one that a service would use. */
  get code(): status {
    return this.details.code ?? status.INVALID_ARGUMENT;
  }

  /** Whether the service, or one that it needs, could not serve now: another time it may. */
  get isAway(): boolean {
    return [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.RESOURCE_EXHAUSTED].includes(this.code);
  }

  /** A copy whose message goes on with what to do. */
  withAdvice(advice: string): StrongroomError {
    return new StrongroomError(this.reason, `${this.message.slice(this.reason.length + 2)}; ${advice}`, this.details);
  }
}

/** What else an error says; what it has nothing to say about is missing. */
export interface ErrorDetails {
  code?: status;
  /** The request's field that is at fault. */
  field?: string;
  metadata?: Record<string, string>;
  /** The audit event of the call. */
  eventId?: string;
  /** Its trace, 32 hex digits. */
  traceId?: string;
  /** How long the service asks to wait. */
  retryAfterSeconds?: number;
}

/** What a failed call means; `peer` is which service at which address. */
export function fromServiceError(error: ServiceError, peer: string, traceId: string): StrongroomError {
  const eventId = error.metadata?.get("strongroom-event-id")[0]?.toString();
  const details: ErrorDetails = { code: error.code, traceId, ...(eventId === undefined ? {} : { eventId }) };
  const found = readDetails(error);
  if (found.info !== undefined) {
    const { field, ...metadata } = found.info.metadata;
    Object.assign(details, { metadata }, field === undefined ? {} : { field });
    if (found.retryAfterSeconds > 0) details.retryAfterSeconds = found.retryAfterSeconds;
    return new StrongroomError(found.info.reason, error.details, details);
  }
  switch (error.code) {
    // No service says CANCELLED: gRPC does, of a call that it had not handed over when the server stopped.
    case status.UNAVAILABLE:
    case status.CANCELLED:
      details.code = status.UNAVAILABLE;
      return new StrongroomError("UNREACHABLE", `${peer} cannot be reached: ${error.details}`, details);
    case status.DEADLINE_EXCEEDED:
      return new StrongroomError("DEADLINE_EXCEEDED", `${peer} did not answer in time`, details);
    default:
      return new StrongroomError(status[error.code] ?? "UNKNOWN", `${peer}: ${error.details}`, details);
  }
}

function readDetails(error: ServiceError): { info?: ErrorInfo; retryAfterSeconds: number } {
  const found: { info?: ErrorInfo; retryAfterSeconds: number } = { retryAfterSeconds: 0 };
  const packed = error.metadata?.get("grpc-status-details-bin")[0];
  if (!(packed instanceof Uint8Array)) return found;
  try {
    for (const detail of fromBinary(StatusSchema, packed).details) {
      if (detail.typeUrl.endsWith("/google.rpc.ErrorInfo")) {
        const info = fromBinary(ErrorInfoSchema, detail.value);
        if (info.domain === "strongroom") found.info = info;
      } else if (detail.typeUrl.endsWith("/google.rpc.RetryInfo")) {
        const delay = fromBinary(RetryInfoSchema, detail.value).retryDelay;
        found.retryAfterSeconds = Number(delay?.seconds ?? 0n) + (delay?.nanos ?? 0) / 1e9;
      }
    }
  } catch {
    // Details that cannot be read are none; the status stays.
  }
  return found;
}
