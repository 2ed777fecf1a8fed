"""Checkpoints of a log (C2SP tlog-checkpoint), and witnesses' cosignatures on them (C2SP tlog-cosignature)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.errors import StrongroomError
from strongroom.tlog import notes
from strongroom.tlog.errors import malformed
from strongroom.tlog.notes import COSIGNATURE, Note, Signature, Verifier, VerifierKey
from strongroom.tlog.text import encoded, hash_bytes, number

_TIMESTAMP = Struct(">Q")
_MAX_TIMESTAMP = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: its origin, how many entries it has, and their root hash."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{encoded(self.root)}\n"


def parse_text(text: str) -> Checkpoint:
    """Reads a note's text; extension lines are allowed and not looked at. Raises LOG_DATA_MALFORMED."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise malformed("the checkpoint", "is not at least three lines")
    return Checkpoint(lines[0], number(lines[1], "the tree size"), hash_bytes(lines[2], "the root hash"))


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness's public key: verifies timestamped cosignatures."""

    key: VerifierKey

    @property
    def name(self) -> str:
        """The witness's name."""
        return self.key.name

    @property
    def key_id(self) -> bytes:
        """The id of its key for cosignatures."""
        return self.key.key_id

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether the witness cosigned the checkpoint, at whatever time."""
        if self.key.kind != COSIGNATURE or len(signature) <= _TIMESTAMP.size:
            return False
        time = cosignature_time(signature)
        return time <= _MAX_TIMESTAMP and self.key.signed_by(_cosigned(text, time), signature[_TIMESTAMP.size :])


def verifier(key: VerifierKey) -> Verifier:
    """What verifies the signatures of a key: a log's own, or a witness's cosignatures."""
    return Cosigner(key) if key.kind == COSIGNATURE else key


def cosignature_time(signature: bytes) -> int:
    """When a cosignature was made, in seconds since the Unix epoch."""
    seconds: int = _TIMESTAMP.unpack_from(signature)[0]
    return seconds


def cosign(name: str, private_key: Ed25519PrivateKey, text: str, seconds: int) -> Signature:
    """A witness's cosignature on a checkpoint's text."""
    key = VerifierKey(name, COSIGNATURE, private_key.public_key().public_bytes_raw())
    return Signature(name, key.key_id, _TIMESTAMP.pack(seconds) + private_key.sign(_cosigned(text, seconds)))


def open_checkpoint(
    data: bytes, keys: Iterable[VerifierKey], witnesses: Sequence[VerifierKey] = (), quorum: int = 0
) -> tuple[Checkpoint, Note]:
    """The checkpoint in a signed note that one of `keys` signed, whose name is the log's origin, with the cosignatures
    of `quorum` of the witnesses.

    Raises LOG_DATA_MALFORMED, SIGNATURE_INVALID, SIGNATURE_MISSING, LOG_MISMATCH where only keys of other logs signed
    it, QUORUM_MISSING.
    """
    note = notes.parse(data)
    signers = notes.verified_by(note, keys)
    if not signers:
        raise StrongroomError("SIGNATURE_MISSING", "the checkpoint is signed by no key that is trusted")
    checkpoint = parse_text(note.text)
    if all(key.name != checkpoint.origin for key in signers):
        # A key speaks for the log that it is named after.
        message = f"the checkpoint says that it is of {checkpoint.origin}, and is signed for {signers[0].name}"
        raise StrongroomError("LOG_MISMATCH", message, code="DATA_LOSS")
    cosigned = notes.verified_by(note, map(verifier, witnesses))
    if len({one.name for one in cosigned}) < quorum:
        message = f"{len(cosigned)} witnesses cosigned the checkpoint, {quorum} are demanded"
        raise StrongroomError("QUORUM_MISSING", message, code="FAILED_PRECONDITION")
    return checkpoint, note


def _cosigned(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
