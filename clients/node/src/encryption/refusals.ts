/** Why a message is refused: one reason for each kind of fault, the same in every language. */

import { status } from "@grpc/grpc-js";

import { StrongroomError } from "../errors.js";

export const notRecognized = () =>
  new StrongroomError("MESSAGE_NOT_RECOGNIZED", "this is no message that Strongroom's encryption SDK wrote");

export const versionUnknown = (found: number, known: number) =>
  new StrongroomError(
    "MESSAGE_VERSION_UNKNOWN",
    `the message is of format version ${found}; this reader knows version ${known}: ` +
      (found > known ? "use a newer one" : "`strongroom file decrypt` reads files of version 1"),
  );

/** What every message gets that fails verification: it does not say where or how. */
export const altered = () =>
  new StrongroomError("MESSAGE_ALTERED", "the message was altered or cut off since it was encrypted", {
    code: status.DATA_LOSS,
  });

export const chunkSizeInvalid = (found: number) =>
  new StrongroomError(
    "MESSAGE_CHUNK_SIZE_INVALID",
    `the message claims chunks of 2^${found} bytes; 2^6 to 2^20 are allowed`,
  );

export const tooLarge = () =>
  new StrongroomError(
    "MESSAGE_TOO_LARGE",
    "a message has at most 2^32 - 1 chunks: choose larger chunks, or divide the content",
  );

export const contextMismatch = () =>
  new StrongroomError(
    "CONTEXT_MISMATCH",
    "the message was encrypted with another encryption context: give exactly the pairs that the writer gave",
    { field: "context" },
  );

export const keyNotAccepted = (hints: string) =>
  new StrongroomError(
    "KEY_NOT_ACCEPTED",
    `the message is under none of the keys that are accepted, but under ${hints || "keys that it does not name"}`,
    { code: status.PERMISSION_DENIED, field: "keys" },
  );

export const keyMismatch = () =>
  new StrongroomError("KEY_MISMATCH", "the message names another key than its data key is under");

export const fieldInvalid = (field: string, message: string) => new StrongroomError("FIELD_INVALID", message, { field });

export const fieldTooLarge = (field: string, message: string) =>
  new StrongroomError("FIELD_TOO_LARGE", message, { field });
