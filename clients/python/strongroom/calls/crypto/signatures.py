"""What signing, and authenticating messages, takes and answers."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.convert import enum_number, enum_text
from strongroom.crypto.v1 import algorithm_pb2
from strongroom.crypto.v1 import crypto_pb2 as pb


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of a message, where the message itself could be given."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, encoded as is usual for `algorithm`.

    `key_version` is the full name of the version that signed: pass it to `verify` once the key has a newer one.
    """

    signature: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Mac:
    """A message authentication code of 32, 48 or 64 bytes.

    `key_version` is the full name of the version that made it: pass it to `verify_mac` once the key has a newer one.
    """

    mac: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a signature or a MAC is valid; true and false like `valid` itself.

    `key_version` is the full name of the version that it was checked with.
    """

    valid: bool
    key_version: str
    algorithm: str
    event_id: str

    def __bool__(self) -> bool:
        return self.valid


def signature(response: pb.SignResponse, event_id: str) -> Signature:
    """The signature that a call answered."""
    return Signature(response.signature, response.key_version, algorithm_text(response.algorithm), event_id)


def mac(response: pb.GenerateMacResponse, event_id: str) -> Mac:
    """The message authentication code that a call answered."""
    return Mac(response.mac, response.key_version, algorithm_text(response.algorithm), event_id)


def verification(response: pb.VerifyResponse | pb.VerifyMacResponse, event_id: str) -> Verification:
    """What was found of a signature or a MAC."""
    return Verification(response.valid, response.key_version, algorithm_text(response.algorithm), event_id)


def give(request: pb.SignRequest | pb.VerifyRequest, message: bytes | None, digest: bytes | None) -> None:
    """Puts what is signed into a request, as far as it is given; the service says when it is not one of the two."""
    if message is not None:
        request.message = message
    if digest is not None:
        request.digest = digest


def algorithm_text(algorithm: algorithm_pb2.Algorithm.ValueType) -> str:
    """An algorithm's name without the enum's prefix."""
    return enum_text(algorithm_pb2.Algorithm, "ALGORITHM_", algorithm)


def algorithm_number(name: str, field: str = "algorithm") -> algorithm_pb2.Algorithm.ValueType:
    """The contract's value for an algorithm's name without its prefix; 0 for the empty string. Raises FIELD_INVALID."""
    return enum_number(algorithm_pb2.Algorithm, "ALGORITHM_", name, field)
