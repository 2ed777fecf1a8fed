//! Why a message is refused: one reason for each kind of fault, the same in every language.

use tonic::Code;

use super::header::VERSION;
use crate::Error;

pub(super) fn not_recognized() -> Error {
    Error::invalid("MESSAGE_NOT_RECOGNIZED", "this is no message that Strongroom's encryption SDK wrote", "")
}

pub(super) fn version_unknown(version: u8) -> Error {
    let message = format!("the message is of format version {version}; this reader knows version {VERSION}");
    Error::invalid("MESSAGE_VERSION_UNKNOWN", message, "")
}

/// What every message gets that fails verification: it does not say where or how.
pub(super) fn altered() -> Error {
    let message = "the message was altered or cut off since it was encrypted";
    Error::new("MESSAGE_ALTERED", message, Code::DataLoss, "")
}

pub(super) fn chunk_size_invalid(log2: u8) -> Error {
    let message = format!("the message claims chunks of 2^{log2} bytes; 2^6 to 2^20 are allowed");
    Error::invalid("MESSAGE_CHUNK_SIZE_INVALID", message, "")
}

pub(super) fn too_large() -> Error {
    let message = "a message has at most 2^32 - 1 chunks: choose larger chunks, or divide the content";
    Error::invalid("MESSAGE_TOO_LARGE", message, "")
}

pub(super) fn context_mismatch() -> Error {
    let message =
        "the message was encrypted with another encryption context: give exactly the pairs that the writer gave";
    Error::invalid("CONTEXT_MISMATCH", message, "context")
}

pub(super) fn key_not_accepted(hints: &str) -> Error {
    let under = if hints.is_empty() { "keys that it does not name" } else { hints };
    let message = format!("the message is under none of the keys that are accepted, but under {under}");
    Error::new("KEY_NOT_ACCEPTED", message, Code::PermissionDenied, "keys")
}

pub(super) fn key_mismatch() -> Error {
    Error::invalid("KEY_MISMATCH", "the message names another key than its data key is under", "")
}
