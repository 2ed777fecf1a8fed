"""What crypto needs of the place where the root key lives."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol


class SealBrokenError(Exception):
    """What was to be unsealed is not intact, or was sealed as something else."""


class HsmCipher(Protocol):
    """An AES-256 key that is used inside the token. Its material never is a Python object."""

    @abstractmethod
    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """12 bytes of nonce from the token, the ciphertext and 16 bytes of tag."""

    @abstractmethod
    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext of what `encrypt` made. Raises SealBrokenError for anything else."""


class Provider(Protocol):
    """A root key, versioned, and what it can do. Methods may be called from many threads at once.

    Raises PROVIDER_UNAVAILABLE when the token cannot be used just now.
    """

    name: str
    root_version: int
    """The newest root version: what new blobs are sealed under."""
    has_hsm: bool

    @abstractmethod
    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """12 bytes of nonce, the ciphertext under the root's sealing key, and 16 bytes of tag."""

    @abstractmethod
    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """The payload of what `seal` made. Raises SealBrokenError for anything else."""

    @abstractmethod
    def make_hsm_key(self) -> bytes:
        """Makes an AES-256 key in the token and answers it wrapped under the root (RFC 5649).

        Raises UNSUPPORTED_IN_HSM where there is no token.
        """

    @abstractmethod
    def hsm_cipher(self, root_version: int, wrapped: bytes) -> HsmCipher:
        """The key that `make_hsm_key` wrapped, for use inside the token. Raises SealBrokenError."""

    @abstractmethod
    def random(self, size: int) -> bytes:
        """`size` random bytes from the token where there is one."""

    @abstractmethod
    def check(self) -> None:
        """Raises PROVIDER_UNAVAILABLE unless the root key can be used."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the token."""
