"""Public keys: fetched, encrypted to, agreed with, encapsulated to."""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.calls.base import Part
from strongroom.calls.crypto.results import Context, Decrypted, decrypted_under
from strongroom.calls.crypto.signatures import algorithm_number, algorithm_text
from strongroom.convert import enum_text
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.keystore.v1 import key_pb2


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key version, by its full name.

    `der` is SubjectPublicKeyInfo (for X-Wing, which has neither that nor a `pem`, the raw key), `fingerprint` its
    SHA-256, and `algorithms` what the key can be used with.
    """

    key_version: str
    spec: str
    usage: str
    pem: str
    der: bytes
    fingerprint: bytes
    algorithms: tuple[str, ...]
    event_id: str


@dataclass(frozen=True, slots=True)
class AsymmetricEncrypted:
    """A bare ciphertext: it does not name its key, so keep `key_version` and `algorithm` with it."""

    ciphertext: bytes
    key_version: str
    algorithm: str
    event_id: str


@dataclass(frozen=True, slots=True)
class SharedSecret:
    """A shared secret, which is not in the `repr`: derive keys from it.

    `ciphertext` carries an encapsulated secret to the owner of the key; it is empty for others.
    """

    shared_secret: bytes = field(repr=False)
    key_version: str
    event_id: str
    ciphertext: bytes = b""


class Asymmetric(Part[CryptoServiceStub]):
    """Uses asymmetric keys. `key` is an id, `alias/{alias}`, a full name, or one version: `payments/versions/2`.

    `algorithm` is such as `RSAES_OAEP_SHA_256`; empty for the key's default.
    """

    def get_public_key(self, key: str, *, timeout: float | None = None) -> PublicKey:
        """Answers the public half of a key version. Raises KEY_USAGE_INVALID for a symmetric key."""
        request = pb.GetPublicKeyRequest(name=self._names.key_or_version(key))
        answer = self._service.call(self._service.stub.GetPublicKey, request, timeout)
        found = answer.response
        return PublicKey(
            key_version=found.key_version,
            spec=enum_text(key_pb2.KeySpec, "KEY_SPEC_", found.spec),
            usage=enum_text(key_pb2.KeyUsage, "KEY_USAGE_", found.usage),
            pem=found.pem,
            der=found.der,
            fingerprint=found.fingerprint,
            algorithms=tuple(map(algorithm_text, found.algorithms)),
            event_id=answer.event_id,
        )

    def encrypt(
        self,
        key: str,
        plaintext: bytes,
        context: Context = None,
        *,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> AsymmetricEncrypted:
        """Encrypts to the public half of a key.

        With RSA that is 190 to 446 bytes by the key's size, without a context; with HPKE 65,536 bytes. Raises
        ALGORITHM_INVALID, FIELD_TOO_LARGE.
        """
        request = pb.AsymmetricEncryptRequest(
            key=self._names.key_or_version(key),
            plaintext=plaintext,
            algorithm=algorithm_number(algorithm),
            encryption_context=context or {},
        )
        answer = self._service.call(self._service.stub.AsymmetricEncrypt, request, timeout)
        response = answer.response
        return AsymmetricEncrypted(
            response.ciphertext, response.key_version, algorithm_text(response.algorithm), answer.event_id
        )

    def decrypt(
        self,
        key: str,
        ciphertext: bytes,
        context: Context = None,
        *,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> Decrypted:
        """Decrypts what was encrypted to the public half, given the same context. Raises CIPHERTEXT_INVALID."""
        request = pb.AsymmetricDecryptRequest(
            key=self._names.key_or_version(key),
            ciphertext=ciphertext,
            algorithm=algorithm_number(algorithm),
            encryption_context=context or {},
        )
        answer = self._service.call(self._service.stub.AsymmetricDecrypt, request, timeout)
        return decrypted_under(answer.response.plaintext, answer.response.key_version, answer.event_id)

    def derive_shared_secret(self, key: str, peer_public_key: bytes, *, timeout: float | None = None) -> SharedSecret:
        """Agrees on a secret with the owner of a public key, SubjectPublicKeyInfo in PEM or DER.

        Raises PUBLIC_KEY_INVALID.
        """
        request = pb.DeriveSharedSecretRequest(key=self._names.key_or_version(key), peer_public_key=peer_public_key)
        answer = self._service.call(self._service.stub.DeriveSharedSecret, request, timeout)
        return SharedSecret(answer.response.shared_secret, answer.response.key_version, answer.event_id)

    def encapsulate(self, key: str, *, timeout: float | None = None) -> SharedSecret:
        """Makes a fresh shared secret of 32 bytes for the owner of a KEM key, and the ciphertext that carries it."""
        request = pb.EncapsulateRequest(key=self._names.key_or_version(key))
        answer = self._service.call(self._service.stub.Encapsulate, request, timeout)
        response = answer.response
        return SharedSecret(response.shared_secret, response.key_version, answer.event_id, response.ciphertext)

    def decapsulate(self, key: str, ciphertext: bytes, *, timeout: float | None = None) -> SharedSecret:
        """Opens a secret that was encapsulated. Raises CIPHERTEXT_INVALID for a ciphertext of the wrong length."""
        request = pb.DecapsulateRequest(key=self._names.key_or_version(key), ciphertext=ciphertext)
        answer = self._service.call(self._service.stub.Decapsulate, request, timeout)
        return SharedSecret(answer.response.shared_secret, answer.response.key_version, answer.event_id)
