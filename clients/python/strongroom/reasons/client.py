"""Reasons that no service gives: the client library and the command line have them of their own."""

from __future__ import annotations

from collections.abc import Mapping

_FORGED = "Do not trust this copy of the log. Get another copy and the keys by ways that you trust, and compare."

CLIENT: Mapping[str, tuple[str, str]] = {
    "UNREACHABLE": (
        "The service cannot be reached, or its certificate is not trusted.",
        "See that the address is right, that the service runs, and that the profile's `trust` is the mesh's authority.",
    ),
    "ANSWER_CORRUPTED": (
        "The answer does not match its checksum: it was altered on the way. The operation was done.",
        "Look for what alters bytes between the two. The event id names what was done.",
    ),
    "ENDPOINT_UNKNOWN": (
        "The client was not told where this service is.",
        "Add the address to the profile or to `endpoints`; `strongroom profile create` finds all four.",
    ),
    "CREDENTIALS_UNREADABLE": (
        "A file with a certificate, key, token or secret cannot be read.",
        "See that the file is there and that this user may read it.",
    ),
    "PROFILE_NOT_FOUND": (
        "There is no such profile, or no profile file at all.",
        "`strongroom profile create NAME ADDRESS`, or `make run` for a development mesh.",
    ),
    "PROFILE_INVALID": (
        "The profile file cannot be understood, or a profile contradicts itself.",
        "Mend what the message names: `strongroom profile edit NAME`.",
    ),
    "LOGIN_EXPIRED": (
        "The login of this profile has ended.",
        "`strongroom login` again, or `strongroom logout` to use the profile's own credentials.",
    ),
    "IO_ERROR": (
        "A file cannot be read or written.",
        "See that the path is right, and that this user may use it.",
    ),
    "FILE_EXISTS": (
        "The file that would be written is there already.",
        "Choose another name, or `--force` to replace it.",
    ),
    "FILE_NOT_REGULAR": (
        "What was given is not a regular file.",
        "Give a file, not a directory or a device.",
    ),
    "FILE_NOT_TEXT": ("The file is not UTF-8 text.", "Give a text file."),
    "FILE_TOO_LARGE": ("The file is larger than what is read of such a file.", "Give a smaller file."),
    "NOTHING_MATCHED": (
        "There is nothing of the kind in what was named: no such file in the folder, or no secret at the path.",
        "See that the folder, pattern or path is the one that is meant.",
    ),
    "FILE_NOT_RECOGNIZED": (
        "The file was not written by `strongroom file encrypt`.",
        "Give the encrypted file. For a ciphertext of `strongroom encrypt` use `strongroom decrypt`.",
    ),
    "FILE_ALTERED": (
        "The encrypted file was altered or cut short.",
        "Get an intact copy. What was written before the altered part is removed.",
    ),
    "MESSAGE_NOT_RECOGNIZED": (
        "This is no message that the encryption SDK wrote in any language.",
        "Give the whole message, from its first byte. A ciphertext of `Encrypt` is opened with `Client.decrypt`.",
    ),
    "MESSAGE_VERSION_UNKNOWN": (
        "The message is of a format version that this client does not know.",
        "Use a newer client; files of version 1 are read by `strongroom file decrypt`.",
    ),
    "MESSAGE_ALTERED": (
        "The message was altered or cut short, or something was added to it.",
        "Get an intact copy, and use nothing of what a stream had handed out before.",
    ),
    "MESSAGE_CHUNK_SIZE_INVALID": (
        "The message claims chunks of a size that no writer makes.",
        "Get an intact copy: this one was altered, or made to harm.",
    ),
    "MESSAGE_TOO_LARGE": (
        "The content needs 2^32 chunks or more.",
        "Choose larger chunks (`chunk_size_log2`), or divide the content.",
    ),
    "CONTEXT_MISMATCH": (
        "The message was encrypted with another encryption context.",
        "Give exactly the pairs that the writer gave, or none where the message holds them.",
    ),
    "KEY_NOT_ACCEPTED": (
        "The message is under none of the keys that the reader accepts.",
        "See by `strongroom file inspect` which keys it names, and accept one of them if you trust its writer.",
    ),
    "TRACE_NOT_FOUND": (
        "No span of this trace is in the profile's trace directory.",
        "Give the id of a traced call, or look in your trace collector.",
    ),
    "UNSUPPORTED": (
        "This machine lacks something that the command needs; the message names it.",
        "Use the other way that the message or the command's help names.",
    ),
    "LOG_DATA_MALFORMED": ("A checkpoint, proof, key or tile is not of its format.", "Give the right file, whole."),
    "LOG_INCONSISTENT": ("Two states of the log contradict each other: something was altered or dropped.", _FORGED),
    "LOG_ALTERED": ("An entry of the log is not what the checkpoint was signed over.", _FORGED),
    "LOG_MISMATCH": ("The checkpoint, key or proof is of another log.", "Use what belongs to this log."),
    "SIGNATURE_INVALID": ("A signature of a trusted name is not true.", _FORGED),
    "SIGNATURE_MISSING": (
        "The checkpoint is signed by none of the keys that were given.",
        "Give the log's keys, which `strongroom audit export` writes beside a copy; get them by a way that you trust.",
    ),
    "QUORUM_MISSING": (
        "Fewer witnesses have cosigned the checkpoint than you asked for.",
        "Wait for the next checkpoint, or look at the witnesses: `strongroom audit logs`.",
    ),
    "USAGE": (
        "The command line was not understood, or needs `--yes`. Nothing was done.",
        "`strongroom help` and the `--help` of the command say what it takes.",
    ),
}
