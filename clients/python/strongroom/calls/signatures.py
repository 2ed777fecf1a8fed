"""Signatures and message authentication codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.calls.cryptography import Batch, CryptographyCalls, item_error
from strongroom.convert import enum_number, enum_text
from strongroom.crypto.v1 import algorithm_pb2
from strongroom.crypto.v1 import crypto_pb2 as pb


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as `algorithm` encodes it; `verify` with `key_version` once the key has a newer one."""

    signature: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Mac:
    """A MAC of 32, 48 or 64 bytes; `verify_mac` with `key_version` once the key has a newer one."""

    mac: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a signature or a MAC is valid; true and false like `valid` itself."""

    valid: bool
    key_version: str
    algorithm: str
    event_id: str

    def __bool__(self) -> bool:
        return self.valid


class SignatureCalls(CryptographyCalls):
    """Methods that sign and authenticate. `key` is as for `encrypt`, or one version: `payments/versions/2`.

    `algorithm` is the contract's name without its prefix (`RSASSA_PSS_SHA_256`); empty: the key's default.
    """

    def sign(
        self,
        key: str,
        message: bytes | None = None,
        *,
        digest: bytes | None = None,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> Signature:
        """Signs a message of up to 65,536 bytes, or its digest.

        Raises ALGORITHM_INVALID, KEY_USAGE_INVALID, FIELD_INVALID for a digest of the wrong length.
        """
        request = pb.SignRequest(key=self.names.key_or_version(key), algorithm=algorithm_number(algorithm))
        _give(request, message, digest)
        answer = self._crypto.call(self._crypto.stub.Sign, request, timeout)
        response = answer.response
        return Signature(response.signature, response.key_version, algorithm_text(response.algorithm), answer.event_id)

    def verify(
        self,
        key: str,
        signature: bytes,
        message: bytes | None = None,
        *,
        digest: bytes | None = None,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> Verification:
        """Whether a signature is that of a message, or of its digest. Raises as `sign`."""
        request = pb.VerifyRequest(
            key=self.names.key_or_version(key), signature=signature, algorithm=algorithm_number(algorithm)
        )
        _give(request, message, digest)
        answer = self._crypto.call(self._crypto.stub.Verify, request, timeout)
        response = answer.response
        return Verification(response.valid, response.key_version, algorithm_text(response.algorithm), answer.event_id)

    def batch_sign(
        self, key: str, messages: Sequence[bytes], *, algorithm: str = "", timeout: float | None = None
    ) -> Batch[Signature]:
        """Signs up to 1,000 messages, 4 MiB in all, in one call. What concerns one message is its outcome."""
        request = pb.BatchSignRequest(
            key=self.names.key_or_version(key),
            items=[pb.SignItem(message=message) for message in messages],
            algorithm=algorithm_number(algorithm),
        )
        answer = self._crypto.call(self._crypto.stub.BatchSign, request, timeout)
        response, event_id = answer.response, answer.event_id
        name = algorithm_text(response.algorithm)
        outcomes = tuple(
            item_error(outcome.error, event_id)
            if outcome.HasField("error")
            else Signature(outcome.signature, response.key_version, name, event_id)
            for outcome in response.outcomes
        )
        return Batch(outcomes, event_id)

    def generate_mac(self, key: str, message: bytes, *, timeout: float | None = None) -> Mac:
        """The MAC of 1 to 65,536 bytes, under an HMAC key's primary version."""
        request = pb.GenerateMacRequest(key=self.names.key(key), message=message)
        answer = self._crypto.call(self._crypto.stub.GenerateMac, request, timeout)
        response = answer.response
        return Mac(response.mac, response.key_version, algorithm_text(response.algorithm), answer.event_id)

    def verify_mac(self, key: str, message: bytes, mac: bytes, *, timeout: float | None = None) -> Verification:
        """Whether a MAC is a message's."""
        request = pb.VerifyMacRequest(key=self.names.key_or_version(key), message=message, mac=mac)
        answer = self._crypto.call(self._crypto.stub.VerifyMac, request, timeout)
        response = answer.response
        return Verification(response.valid, response.key_version, algorithm_text(response.algorithm), answer.event_id)


def algorithm_text(algorithm: algorithm_pb2.Algorithm.ValueType) -> str:
    """An algorithm's name without the enum's prefix."""
    return enum_text(algorithm_pb2.Algorithm, "ALGORITHM_", algorithm)


def algorithm_number(name: str) -> algorithm_pb2.Algorithm.ValueType:
    """The other way; 0 for the empty string. Raises FIELD_INVALID."""
    return enum_number(algorithm_pb2.Algorithm, "ALGORITHM_", name, "algorithm")


def _give(request: pb.SignRequest | pb.VerifyRequest, message: bytes | None, digest: bytes | None) -> None:
    if message is not None:
        request.message = message
    if digest is not None:
        request.digest = digest
