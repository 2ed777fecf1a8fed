"""Why a message is refused: one reason for each kind of fault, the same in every language."""

from __future__ import annotations

from strongroom.errors import StrongroomError

NOT_RECOGNIZED = "MESSAGE_NOT_RECOGNIZED"
VERSION_UNKNOWN = "MESSAGE_VERSION_UNKNOWN"
ALTERED = "MESSAGE_ALTERED"
CHUNK_SIZE_INVALID = "MESSAGE_CHUNK_SIZE_INVALID"
TOO_LARGE = "MESSAGE_TOO_LARGE"
CONTEXT_MISMATCH = "CONTEXT_MISMATCH"
KEY_NOT_ACCEPTED = "KEY_NOT_ACCEPTED"


def not_recognized() -> StrongroomError:
    """It does not begin like a message."""
    return StrongroomError(NOT_RECOGNIZED, "this is no message that Strongroom's encryption SDK wrote")


def version_unknown(version: int, known: int) -> StrongroomError:
    """It is of a format that this reader does not know."""
    advice = "use a newer one" if version > known else "`strongroom file decrypt` reads files of version 1"
    return StrongroomError(
        VERSION_UNKNOWN,
        f"the message is of format version {version}; this reader knows version {known}: {advice}",
        metadata={"version": str(version)},
    )


def altered() -> StrongroomError:
    """What every message gets that fails verification: it does not say where or how."""
    return StrongroomError(ALTERED, "the message was altered or cut off since it was encrypted", code="DATA_LOSS")


def chunk_size_invalid(chunk_size_log2: int, smallest: int, largest: int) -> StrongroomError:
    """Its chunks would be smaller or larger than any writer makes them."""
    return StrongroomError(
        CHUNK_SIZE_INVALID,
        f"the message claims chunks of 2^{chunk_size_log2} bytes; 2^{smallest} to 2^{largest} are allowed",
    )


def too_large() -> StrongroomError:
    """It has more chunks than there are numbers for them."""
    return StrongroomError(
        TOO_LARGE, "a message has at most 2^32 - 1 chunks: choose larger chunks, or divide the content"
    )


def context_mismatch() -> StrongroomError:
    """The caller's encryption context is not the message's."""
    return StrongroomError(
        CONTEXT_MISMATCH,
        "the message was encrypted with another encryption context: give exactly the pairs that the writer gave",
        field="context",
    )


def key_not_accepted(hints: str) -> StrongroomError:
    """No key that the caller accepts opens it, by what the header says."""
    return StrongroomError(
        KEY_NOT_ACCEPTED,
        f"the message is under none of the keys that are accepted, but under {hints or 'keys that it does not name'}",
        code="PERMISSION_DENIED",
        field="keys",
    )
