"""Public keys: fetched, encrypted to, agreed with, encapsulated to."""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.calls.cryptography import Context, CryptographyCalls, Decrypted
from strongroom.calls.signatures import algorithm_number, algorithm_text
from strongroom.convert import enum_text
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.keystore.v1 import key_pb2


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key version: `der` is SubjectPublicKeyInfo (for X-Wing, which has none and no `pem`, the raw
    key), `fingerprint` its SHA-256, `algorithms` what the key can be used with."""

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
    """A shared secret, which is not in the `repr`; derive keys from it. `ciphertext` carries an encapsulated one."""

    shared_secret: bytes = field(repr=False)
    key_version: str
    event_id: str
    ciphertext: bytes = b""


class PublicKeyCalls(CryptographyCalls):
    """Methods of asymmetric keys. `key` is as for `encrypt`, or one version: `payments/versions/2`."""

    def get_public_key(self, key: str, *, timeout: float | None = None) -> PublicKey:
        """The public half of a key version. Raises KEY_USAGE_INVALID for a symmetric key."""
        request = pb.GetPublicKeyRequest(name=self.names.key_or_version(key))
        answer = self._crypto.call(self._crypto.stub.GetPublicKey, request, timeout)
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

    def asymmetric_encrypt(
        self,
        key: str,
        plaintext: bytes,
        context: Context = None,
        *,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> AsymmetricEncrypted:
        """Encrypts to the public half: 190 to 446 bytes with RSA, which takes no context, 65,536 with HPKE."""
        request = pb.AsymmetricEncryptRequest(
            key=self.names.key_or_version(key),
            plaintext=plaintext,
            algorithm=algorithm_number(algorithm),
            encryption_context=context or {},
        )
        answer = self._crypto.call(self._crypto.stub.AsymmetricEncrypt, request, timeout)
        response = answer.response
        return AsymmetricEncrypted(
            response.ciphertext, response.key_version, algorithm_text(response.algorithm), answer.event_id
        )

    def asymmetric_decrypt(
        self,
        key: str,
        ciphertext: bytes,
        context: Context = None,
        *,
        algorithm: str = "",
        timeout: float | None = None,
    ) -> Decrypted:
        """Decrypts what was encrypted to the public half. Raises CIPHERTEXT_INVALID."""
        request = pb.AsymmetricDecryptRequest(
            key=self.names.key_or_version(key),
            ciphertext=ciphertext,
            algorithm=algorithm_number(algorithm),
            encryption_context=context or {},
        )
        answer = self._crypto.call(self._crypto.stub.AsymmetricDecrypt, request, timeout)
        version = answer.response.key_version
        return Decrypted(answer.response.plaintext, version.rpartition("/versions/")[0], version, answer.event_id)

    def derive_shared_secret(self, key: str, peer_public_key: bytes, *, timeout: float | None = None) -> SharedSecret:
        """Agrees with the owner of a public key, SubjectPublicKeyInfo in PEM or DER. Raises PUBLIC_KEY_INVALID."""
        request = pb.DeriveSharedSecretRequest(key=self.names.key_or_version(key), peer_public_key=peer_public_key)
        answer = self._crypto.call(self._crypto.stub.DeriveSharedSecret, request, timeout)
        return SharedSecret(answer.response.shared_secret, answer.response.key_version, answer.event_id)

    def encapsulate(self, key: str, *, timeout: float | None = None) -> SharedSecret:
        """A fresh shared secret of 32 bytes for the owner of a KEM key, with the ciphertext that carries it."""
        request = pb.EncapsulateRequest(key=self.names.key_or_version(key))
        answer = self._crypto.call(self._crypto.stub.Encapsulate, request, timeout)
        response = answer.response
        return SharedSecret(response.shared_secret, response.key_version, answer.event_id, response.ciphertext)

    def decapsulate(self, key: str, ciphertext: bytes, *, timeout: float | None = None) -> SharedSecret:
        """Opens what was encapsulated. Raises CIPHERTEXT_INVALID for a ciphertext of the wrong length."""
        request = pb.DecapsulateRequest(key=self.names.key_or_version(key), ciphertext=ciphertext)
        answer = self._crypto.call(self._crypto.stub.Decapsulate, request, timeout)
        return SharedSecret(answer.response.shared_secret, answer.response.key_version, answer.event_id)
