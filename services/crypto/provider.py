"""What crypto needs of the place where the root key lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage


class SealBrokenError(Exception):
    """What was to be unsealed is not intact, or was sealed as something else."""


@dataclass(frozen=True, slots=True)
class MadeHsmKey:
    """A key that was made in the token: wrapped under a root version (RFC 5649), and its public half,
    SubjectPublicKeyInfo in DER, where it has one."""

    wrapped: bytes
    root_version: int
    public_key: bytes = b""


@dataclass(frozen=True, slots=True)
class RootVersion:
    """A version of the root key."""

    number: int
    """From 1."""
    created_us: int | None = None
    """In microseconds since the Unix epoch, where the provider tells."""


class HsmKey(ABC):
    """A key that is used inside the token. Its material never is a Python object.

    Which operations it has depends on its spec and usage. Raises UNSUPPORTED_IN_HSM for what the token cannot do after
    all, PROVIDER_UNAVAILABLE when the token cannot be used just now.
    """

    @abstractmethod
    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """AES-GCM: 12 bytes of nonce from the token, the ciphertext and 16 bytes of tag."""

    @abstractmethod
    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext of what `encrypt` made. Raises SealBrokenError for anything else."""

    @abstractmethod
    def sign(self, algorithm: Algorithm.ValueType, data: bytes) -> bytes:
        """RSA and ECDSA: a signature of a digest, ECDSA's in DER. HMAC: of a message."""

    @abstractmethod
    def decrypt_oaep(self, ciphertext: bytes) -> bytes:
        """RSAES-OAEP with SHA-256. Raises SealBrokenError for what is no ciphertext of this key."""

    @abstractmethod
    def agree(self, point: bytes) -> bytes:
        """ECDH with an uncompressed point of the same curve: the raw shared secret."""


class Provider(Protocol):
    """A root key, versioned, and what it can do. Methods may be called from many threads at once.

    Raises PROVIDER_UNAVAILABLE when the token cannot be used just now.
    """

    name: str
    token: str
    """Label, serial number and model of the token; empty without one."""
    has_hsm: bool
    hsm_specs: Sequence[KeySpec.ValueType]
    """The specs that a token can have keys of, as far as its mechanisms tell; none without a token."""

    @property
    def root_version(self) -> int:
        """The newest root version: what new blobs are sealed under. One that another process made is noticed within 5
        seconds."""

    @abstractmethod
    def root_versions(self) -> list[RootVersion]:
        """Every root version that there is just now, oldest first."""

    @abstractmethod
    def make_root(self, version: int) -> None:
        """Makes a root version, whole or not at all."""

    @abstractmethod
    def destroy_root(self, version: int) -> None:
        """Destroys a root version for good; what is still under it is lost."""

    @abstractmethod
    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """12 bytes of nonce, the ciphertext under the root's sealing key, and 16 bytes of tag."""

    @abstractmethod
    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """The payload of what `seal` made. Raises SealBrokenError for anything else."""

    @abstractmethod
    def make_hsm_key(self, spec: KeySpec.ValueType) -> MadeHsmKey:
        """Makes a key in the token. Raises UNSUPPORTED_IN_HSM where there is no token, or it lacks the spec."""

    @abstractmethod
    def import_hsm_key(self, spec: KeySpec.ValueType, material: bytes) -> MadeHsmKey:
        """Puts a key into the token, and answers it wrapped: a raw key, or PKCS#8 in DER. Raises as `make_hsm_key`, and
        ValueError for material that the token refuses."""

    @abstractmethod
    def hsm_key(
        self,
        spec: KeySpec.ValueType,
        usage: KeyUsage.ValueType,
        root_version: int,
        wrapped: bytes,
        account: str = "",
    ) -> HsmKey:
        """The key that was wrapped, for use inside the token, as one of the account's. Using it raises
        KEY_MATERIAL_REFUSED when it was not."""

    @abstractmethod
    def rewrap_hsm_key(self, spec: KeySpec.ValueType, root_version: int, wrapped: bytes) -> MadeHsmKey:
        """Wraps the key anew, under the newest root version, inside the token; no public half is answered. Raises
        SealBrokenError when it was not wrapped under this root version."""

    @abstractmethod
    def random(self, size: int) -> bytes:
        """`size` random bytes from the token where there is one."""

    @abstractmethod
    def check(self) -> None:
        """Raises PROVIDER_UNAVAILABLE unless the root key can be used."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the token."""
