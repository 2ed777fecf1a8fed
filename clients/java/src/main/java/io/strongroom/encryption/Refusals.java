package io.strongroom.encryption;

import io.strongroom.StrongroomException;

/** Why a message is refused: one reason for each kind of fault, the same in every language. */
final class Refusals {
    private Refusals() {}

    static StrongroomException notRecognized() {
        return invalid("MESSAGE_NOT_RECOGNIZED", "this is no message that Strongroom's encryption SDK wrote", "");
    }

    static StrongroomException versionUnknown(int version) {
        return invalid(
                "MESSAGE_VERSION_UNKNOWN",
                "the message is of format version " + version + "; this reader knows version " + Header.VERSION,
                "");
    }

    /** What every message gets that fails verification: it does not say where or how. */
    static StrongroomException altered() {
        return new StrongroomException(
                "MESSAGE_ALTERED", "the message was altered or cut off since it was encrypted", "DATA_LOSS", "");
    }

    static StrongroomException chunkSizeInvalid(int chunkSizeLog2) {
        return invalid(
                "MESSAGE_CHUNK_SIZE_INVALID",
                "the message claims chunks of 2^" + chunkSizeLog2 + " bytes; 2^6 to 2^20 are allowed",
                "");
    }

    static StrongroomException tooLarge() {
        return invalid(
                "MESSAGE_TOO_LARGE",
                "a message has at most 2^32 - 1 chunks: choose larger chunks, or divide the content",
                "");
    }

    static StrongroomException contextMismatch() {
        return invalid(
                "CONTEXT_MISMATCH",
                "the message was encrypted with another encryption context: give exactly the pairs that the writer gave",
                "context");
    }

    static StrongroomException keyNotAccepted(String hints) {
        return new StrongroomException(
                "KEY_NOT_ACCEPTED",
                "the message is under none of the keys that are accepted, but under "
                        + (hints.isEmpty() ? "keys that it does not name" : hints),
                "PERMISSION_DENIED",
                "keys");
    }

    static StrongroomException keyMismatch() {
        return invalid("KEY_MISMATCH", "the message names another key than its data key is under", "");
    }

    static StrongroomException fieldInvalid(String why, String field) {
        return invalid("FIELD_INVALID", why, field);
    }

    static StrongroomException fieldTooLarge(String why, String field) {
        return invalid("FIELD_TOO_LARGE", why, field);
    }

    static StrongroomException fieldRequired(String why, String field) {
        return invalid("FIELD_REQUIRED", why, field);
    }

    private static StrongroomException invalid(String reason, String explanation, String field) {
        return new StrongroomException(reason, explanation, "INVALID_ARGUMENT", field);
    }
}
