"""Signed notes (C2SP signed-note): text, and lines of signatures under it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.errors import StrongroomError
from strongroom.tlog.errors import malformed
from strongroom.tlog.text import base64_bytes, encoded

ED25519 = 0x01
COSIGNATURE = 0x04
"""Timestamped Ed25519 checkpoint cosignatures, C2SP tlog-cosignature."""

MAX_SIGNATURES = 64
MAX_NOTE_BYTES = 1 << 20

_PREFIX = "\N{EM DASH} "
_ID_BYTES = 4
_PUBLIC_KEY_BYTES = 32
_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who signed, and what came out."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_PREFIX}{self.name} {encoded(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends in a newline, and its signatures, of which nothing is believed until it is verified."""

    text: str
    signatures: Sequence[Signature]

    def __bytes__(self) -> bytes:
        return "".join((self.text, "\n", *map(str, self.signatures))).encode()


class Verifier(Protocol):
    """A public key that verifies signatures of one kind."""

    @property
    def name(self) -> str:
        """The key's name."""

    @property
    def key_id(self) -> bytes:
        """The key's id, 4 bytes."""

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether the signature is the key's, over the text."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and what it signs, `{name}+{hash}+{base64}` as text."""

    name: str
    kind: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """What tells signatures of this key from those of others with the name: 4 bytes of a SHA-256."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return sha256(named).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encoded(bytes([self.kind]) + self.public_key)}"

    def signed_by(self, message: bytes, signature: bytes) -> bool:
        """Whether an Ed25519 signature is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether this is the key's signature over a note's text."""
        return self.kind == ED25519 and self.signed_by(text.encode(), signature)


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that signs notes under a name."""

    name: str
    private_key: Ed25519PrivateKey
    kind: int = ED25519

    @property
    def verifier_key(self) -> VerifierKey:
        """Its public half."""
        return VerifierKey(self.name, self.kind, self.private_key.public_key().public_bytes_raw())

    def sign(self, text: str) -> Signature:
        """The signature line for a note's text."""
        return Signature(self.name, self.verifier_key.key_id, self.private_key.sign(text.encode()))


def parse_verifier_key(text: str) -> VerifierKey:
    """Reads a verifier key of Ed25519, of a log or of a witness. Raises LOG_DATA_MALFORMED."""
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded_key = rest.partition("+")
    if not is_name(name) or not _KEY_ID.fullmatch(key_id):
        raise malformed("the verifier key", "is not {name}+{hash}+{base64}")
    data = base64_bytes(encoded_key, "the verifier key")
    if len(data) != 1 + _PUBLIC_KEY_BYTES or data[0] not in (ED25519, COSIGNATURE):
        raise malformed("the verifier key", "is not one of Ed25519")
    key = VerifierKey(name, data[0], data[1:])
    if key.key_id.hex() != key_id:
        raise malformed("the verifier key", "has the hash of another")
    return key


def is_name(text: str) -> bool:
    """Whether a key may have this name: not empty, without spaces, `+` and control characters."""
    return bool(_NAME.fullmatch(text)) and text.isprintable()


def parse(data: bytes) -> Note:
    """Reads a note; verifies nothing. Raises LOG_DATA_MALFORMED."""
    if len(data) > MAX_NOTE_BYTES:
        raise malformed("the note", f"has more than {MAX_NOTE_BYTES} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise malformed("the note", "is not UTF-8") from None
    text, separator, lines = whole.rpartition("\n\n")
    if _CONTROL.search(whole) or not separator or not text or not lines.endswith("\n"):
        raise malformed("the note", "is not text, an empty line and signatures")
    return Note(text + "\n", parse_signatures(lines))


def parse_signatures(lines: str) -> list[Signature]:
    """Reads signature lines, each ended by a newline. Raises LOG_DATA_MALFORMED."""
    if not lines.endswith("\n"):
        raise malformed("the signature line", "is not ended")
    found = [_signature(line) for line in lines[:-1].split("\n")]
    if len(found) > MAX_SIGNATURES:
        raise malformed("the note", f"has more than {MAX_SIGNATURES} signatures")
    return found


def verified_by(note: Note, keys: Iterable[Verifier]) -> list[Verifier]:
    """Which of the keys signed the note. Raises SIGNATURE_INVALID where a signature of one of them is not true.

    Signatures of other keys are ignored, as they have to be.
    """
    known = {(key.name, key.key_id): key for key in keys}
    found: dict[tuple[str, bytes], Verifier] = {}
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.verifies(note.text, signature.signature):
            raise StrongroomError("SIGNATURE_INVALID", f"a signature of {key.name} is not true", code="DATA_LOSS")
        found[key.name, key.key_id] = key
    return list(found.values())


def _signature(line: str) -> Signature:
    name, _, rest = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX) or not is_name(name):
        raise malformed("the signature line", "is not `\N{EM DASH} name base64`")
    data = base64_bytes(rest, "the signature")
    if len(data) <= _ID_BYTES:
        raise malformed("the signature", "is too short")
    return Signature(name, data[:_ID_BYTES], data[_ID_BYTES:])
