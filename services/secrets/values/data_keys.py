"""Data keys from crypto: one for each secret version, made and opened on behalf of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh import forwarding
from services.runtime.mesh.channels import CRYPTO, MeshChannel
from services.runtime.requests import checksums
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub

DATA_KEY_BYTES = 32
# Longer than crypto waits for its audit log, so that its own reason arrives.
_TIMEOUT_SECONDS = 1.8


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: in the clear for use now, encrypted to be kept."""

    plaintext: SensitiveBytes
    ciphertext: bytes
    key_version: str
    """Full name of the key version that it is encrypted under."""


class DataKeys(Protocol):
    """Makes data keys bound to a secret version, and opens them for that version alone."""

    def generate(self, call: Call, key: str, version: ResourceName) -> DataKey:
        """A new data key for `version` under `key`. Raises what crypto raises, or CRYPTO_UNREACHABLE."""

    def open(self, call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        """The data key of `version`. Raises CIPHERTEXT_INVALID for another version's, and as `generate`."""

    def open_many(
        self, call: Call, wanted: Sequence[tuple[bytes, ResourceName]]
    ) -> list[SensitiveBytes | StrongroomError]:
        """The data keys of many versions, in their order; in the place of each that cannot be had what `open` would
        raise. Raises what concerns the whole call."""


def encryption_context(version: ResourceName) -> dict[str, str]:
    """What binds a data key to its secret version."""
    return {"strongroom:secret": str(version.without_version), "strongroom:version": str(version.version)}


class CryptoDataKeys:
    """Data keys from the crypto service, which authorizes the caller itself, as if it had called crypto."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._generate = CRYPTO.method(crypto, CryptoServiceStub, "GenerateDataKey", _TIMEOUT_SECONDS)
        self._decrypt = CRYPTO.method(crypto, CryptoServiceStub, "Decrypt", _TIMEOUT_SECONDS)
        self._batch_decrypt = CRYPTO.method(crypto, CryptoServiceStub, "BatchDecrypt", _TIMEOUT_SECONDS)

    def generate(self, call: Call, key: str, version: ResourceName) -> DataKey:
        """A new data key for `version` under `key`."""
        request = pb.GenerateDataKeyRequest(
            key=key, number_of_bytes=DATA_KEY_BYTES, encryption_context=encryption_context(version)
        )
        response: pb.GenerateDataKeyResponse = self._generate(request, metadata=forwarding.on_behalf_of(call))
        # A data key that changed on its way would seal a value for good.
        checksums.verify(response.plaintext, response.plaintext_crc32c, "plaintext_crc32c")
        checksums.verify(response.ciphertext, response.ciphertext_crc32c, "ciphertext_crc32c")
        return DataKey(SensitiveBytes(response.plaintext), response.ciphertext, response.key_version)

    def open(self, call: Call, ciphertext: bytes, version: ResourceName) -> SensitiveBytes:
        """The data key of `version`."""
        request = pb.DecryptRequest(ciphertext=ciphertext, encryption_context=encryption_context(version))
        response: pb.DecryptResponse = self._decrypt(request, metadata=forwarding.on_behalf_of(call))
        return SensitiveBytes(response.plaintext)

    def open_many(
        self, call: Call, wanted: Sequence[tuple[bytes, ResourceName]]
    ) -> list[SensitiveBytes | StrongroomError]:
        """The data keys of many versions, in their order; in the place of each that cannot be had what `open` would
        raise."""
        items = [
            pb.DecryptItem(ciphertext=ciphertext, encryption_context=encryption_context(version))
            for ciphertext, version in wanted
        ]
        try:
            response: pb.BatchDecryptResponse = self._batch_decrypt(
                pb.BatchDecryptRequest(items=items), metadata=forwarding.on_behalf_of(call)
            )
        except StrongroomError as error:
            if error.is_unavailable:
                raise
            # No item has a key that the caller may use.
            return [error] * len(items)
        return [_outcome(outcome) for outcome in response.outcomes]


def _outcome(outcome: pb.DecryptOutcome) -> SensitiveBytes | StrongroomError:
    if outcome.WhichOneof("outcome") == "decrypted":
        return SensitiveBytes(outcome.decrypted.plaintext)
    return StrongroomError(Reason(outcome.error.reason), outcome.error.message)
