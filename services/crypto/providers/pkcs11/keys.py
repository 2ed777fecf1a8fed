"""Keys of protection level HSM: made in the token, wrapped out under the root, and unwrapped into sessions for use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pkcs11
from asn1crypto.algos import DigestInfo
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from pkcs11 import KDF, MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11 import exceptions as errors
from pkcs11.constants import DEFAULT
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

from services.crypto import blobs
from services.crypto.primitives import private_keys, public_keys
from services.crypto.primitives.algorithms import HASHES, PSS, RSA_SPECS
from services.crypto.provider import HsmKey, MadeHsmKey, SealBrokenError
from services.crypto.providers.pkcs11 import gcm
from services.crypto.providers.pkcs11.connection import PooledSession, Work
from services.crypto.providers.pkcs11.module import TokenKey
from services.crypto.providers.pkcs11.root import GUARDED
from services.crypto.providers.pkcs11.sessions import SessionPool
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.key_specs import spec_name
from services.runtime.telemetry import Telemetry
from strongroom.crypto.v1 import algorithm_pb2 as a
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

# Extractable only under the root, and only while it is made: the object is gone before its wrapped form is answered.
_WRAPPABLE: Mapping[Attribute, Any] = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: True,
}
# What python-pkcs11 would set on any key, and a private key does not have.
_NOT_OF_PRIVATE_KEYS: Mapping[Attribute, Any] = {
    Attribute.ENCRYPT: DEFAULT,
    Attribute.VERIFY: DEFAULT,
    Attribute.WRAP: DEFAULT,
}

# What tokens answer when they lack a mechanism, a curve, a size or a parameter.
_LACKS = (
    errors.ArgumentsBad,
    errors.AttributeTypeInvalid,
    errors.AttributeValueInvalid,
    errors.DomainParamsInvalid,
    errors.FunctionNotSupported,
    errors.KeyNotWrappable,
    errors.KeySizeRange,
    errors.KeyTypeInconsistent,
    errors.KeyUnextractable,
    errors.MechanismInvalid,
    errors.MechanismParamInvalid,
    errors.TemplateIncomplete,
    errors.TemplateInconsistent,
)

# What becomes of unwrapping what is no wrapped key.
_NOT_WRAPPED = (SealBrokenError, errors.WrappedKeyInvalid, errors.WrappedKeyLenRange)

_KEK_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a token knows a spec."""

    key_type: KeyType
    bits: int = 0
    curve: str = ""

    @property
    def secret(self) -> bool:
        return self.key_type in (KeyType.AES, KeyType.GENERIC_SECRET)


_KINDS: Mapping[KeySpec.ValueType, _Kind] = {
    k.KEY_SPEC_AES_256: _Kind(KeyType.AES, 256),
    k.KEY_SPEC_AES_128: _Kind(KeyType.AES, 128),
    k.KEY_SPEC_HMAC_256: _Kind(KeyType.GENERIC_SECRET, 256),
    k.KEY_SPEC_HMAC_384: _Kind(KeyType.GENERIC_SECRET, 384),
    k.KEY_SPEC_HMAC_512: _Kind(KeyType.GENERIC_SECRET, 512),
    **{spec: _Kind(KeyType.RSA, private_keys.RSA_BITS[spec]) for spec in RSA_SPECS},
    **{spec: _Kind(KeyType.EC, curve=curve.name) for spec, curve in private_keys.CURVES.items()},
}
SPECS = tuple(_KINDS)
"""Of which a token can hold keys."""

_CAPABILITIES: Mapping[KeyUsage.ValueType, MechanismFlag] = {
    k.KEY_USAGE_ENCRYPT_DECRYPT: MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
    k.KEY_USAGE_GENERATE_VERIFY_MAC: MechanismFlag.SIGN | MechanismFlag.VERIFY,
    k.KEY_USAGE_SIGN_VERIFY: MechanismFlag.SIGN,
    k.KEY_USAGE_KEY_AGREEMENT: MechanismFlag.DERIVE,
}

_DIGESTS: Mapping[str, tuple[Mechanism, MGF]] = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}
_HMACS: Mapping[Algorithm.ValueType, Mechanism] = {
    a.ALGORITHM_HMAC_SHA_256: Mechanism.SHA256_HMAC,
    a.ALGORITHM_HMAC_SHA_384: Mechanism.SHA384_HMAC,
    a.ALGORITHM_HMAC_SHA_512: Mechanism.SHA512_HMAC,
}


def make(pooled: PooledSession, root: TokenKey, root_version: int, spec: KeySpec.ValueType) -> MadeHsmKey:
    """A new key, wrapped under the root of this version. Raises UNSUPPORTED_IN_HSM."""
    kind = _kind(spec)
    with _refusing(spec):
        if kind.secret:
            return MadeHsmKey(_wrapped_out(pooled, root, _generated_secret(pooled.session, kind)), root_version)
        try:
            public, private = pooled.judged(lambda: _generated_pair(pooled.session, kind))
        except SealBrokenError as error:  # Kryoptic's answer for a curve that it lacks
            raise _unsupported(spec) from error
        try:
            encoded = _public_key(kind, public)
        finally:
            public.destroy()
        return MadeHsmKey(_wrapped_out(pooled, root, private), root_version, encoded)


def put(
    pooled: PooledSession, root: TokenKey, root_version: int, spec: KeySpec.ValueType, material: bytes
) -> MadeHsmKey:
    """A key from outside, wrapped under the root of this version. Raises UNSUPPORTED_IN_HSM, and ValueError when the
    token refuses it."""
    kind = _kind(spec)
    # Tokens take private keys only by unwrapping: so under a key that both sides know for this once.
    kek = os.urandom(_KEK_BYTES)
    with _refusing(spec):
        unwrapping: TokenKey = pooled.session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.VALUE: kek,
                Attribute.UNWRAP: True,
                Attribute.TOKEN: False,
                **GUARDED,
            }
        )
        try:
            wrapped = aes_key_wrap_with_padding(kek, material)
            key = _unwrapped(pooled, unwrapping, kind, wrapped, MechanismFlag(0), _WRAPPABLE)
        except (errors.FunctionFailed, *_NOT_WRAPPED) as error:
            raise ValueError("the token refuses the material") from error
        finally:
            unwrapping.destroy()
        public_key = b"" if kind.secret else private_keys.public_key(spec, material)
        return MadeHsmKey(_wrapped_out(pooled, root, key), root_version, public_key)


def rewrap(
    pooled: PooledSession, old: TokenKey, new: TokenKey, root_version: int, spec: KeySpec.ValueType, wrapped: bytes
) -> MadeHsmKey:
    """The key that is wrapped under one root, wrapped under another, which is of this version. Raises SealBrokenError,
    UNSUPPORTED_IN_HSM."""
    with _refusing(spec):
        key = _unwrapped(pooled, old, _kind(spec), wrapped, MechanismFlag(0), _WRAPPABLE)
        return MadeHsmKey(_wrapped_out(pooled, new, key), root_version)


class Pkcs11Key(HsmKey):
    """A key in the token. It is unwrapped into each session that comes to use it."""

    def __init__(
        self,
        pool: SessionPool,
        telemetry: Telemetry,
        spec: KeySpec.ValueType,
        usage: KeyUsage.ValueType,
        root_label: str,
        wrapped: bytes,
        account: str,
    ) -> None:
        self._pool = pool
        self._account = account
        self._telemetry = telemetry
        self._spec = spec
        self._kind = _kind(spec)
        self._capabilities = (
            _CAPABILITIES[usage] if self._kind.secret else _CAPABILITIES[usage] & ~MechanismFlag.ENCRYPT
        )
        self._root_label = root_label
        self._wrapped = wrapped
        self._name = sha256(usage.to_bytes(4, "big") + wrapped).digest()

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """AES-GCM: 12 bytes of nonce from the token, the ciphertext and 16 bytes of tag."""
        with self._in_token("hsm encrypt") as (pooled, key):
            return gcm.encrypt(pooled, key, plaintext, associated_data)

    def decrypt(self, sealed: bytes, associated_data: bytes) -> bytes:
        """The plaintext of what `encrypt` made."""
        with self._in_token("hsm decrypt") as (pooled, key):
            return gcm.decrypt(pooled, key, sealed, associated_data)

    def sign(self, algorithm: Algorithm.ValueType, data: bytes) -> bytes:
        """RSA and ECDSA: a signature of a digest, ECDSA's in DER."""
        with self._in_token("hsm sign") as (_, key):
            if algorithm in _HMACS:
                return bytes(key.sign(data, mechanism=_HMACS[algorithm]))
            if algorithm in PSS:
                digest, mask = _DIGESTS[HASHES[algorithm].name]
                parameters = (digest, mask, HASHES[algorithm].digest_size)
                return bytes(key.sign(data, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters))
            if self._kind.key_type is KeyType.RSA:
                info = DigestInfo({"digest_algorithm": {"algorithm": HASHES[algorithm].name}, "digest": data})
                return bytes(key.sign(info.dump(), mechanism=Mechanism.RSA_PKCS))
            signature: bytes = key.sign(data, mechanism=Mechanism.ECDSA)
            half = len(signature) // 2
            return encode_dss_signature(
                int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            )

    def decrypt_oaep(self, ciphertext: bytes) -> bytes:
        """RSAES-OAEP with SHA-256."""
        with self._in_token("hsm decrypt") as (pooled, key):
            parameters = (Mechanism.SHA256, MGF.SHA256, None)
            try:
                return pooled.judged(
                    lambda: bytes(
                        key.decrypt(ciphertext, mechanism=Mechanism.RSA_PKCS_OAEP, mechanism_param=parameters)
                    )
                )
            except (errors.DataInvalid, errors.DataLenRange) as error:
                raise SealBrokenError from error

    def agree(self, point: bytes) -> bytes:
        """ECDH with an uncompressed point of the same curve: the raw shared secret."""
        field_bits = (private_keys.CURVES[self._spec].key_size + 7) // 8 * 8
        with self._in_token("hsm derive") as (_, key):
            shared = key.derive_key(
                KeyType.GENERIC_SECRET,
                field_bits,
                mechanism=Mechanism.ECDH1_DERIVE,
                mechanism_param=(KDF.NULL, None, point),
                capabilities=MechanismFlag(0),
                # The caller gets the shared secret: it is what the operation answers.
                template={Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True},
            )
            try:
                return bytes(shared[Attribute.VALUE])
            finally:
                shared.destroy()

    @contextmanager
    def _in_token(self, span: str) -> Iterator[tuple[PooledSession, TokenKey]]:
        with (
            self._telemetry.span(span),
            self._pool.session(Work.OPERATION, self._account) as pooled,
            _refusing(self._spec),
        ):
            key = pooled.keys.get(self._name)
            if key is None:
                root = pooled.root(self._root_label)
                try:
                    unwrapped = _unwrapped(pooled, root, self._kind, self._wrapped, self._capabilities, GUARDED)
                except _NOT_WRAPPED as error:
                    raise blobs.refused() from error
                key = pooled.remember(self._name, unwrapped)
            else:
                pooled.keys.move_to_end(self._name)
            yield pooled, key


def _kind(spec: KeySpec.ValueType) -> _Kind:
    kind = _KINDS.get(spec)
    if kind is None:
        raise _unsupported(spec)
    return kind


@contextmanager
def _refusing(spec: KeySpec.ValueType) -> Iterator[None]:
    try:
        yield
    except _LACKS as error:
        raise _unsupported(spec) from error


def _unsupported(spec: KeySpec.ValueType) -> StrongroomError:
    return StrongroomError(
        Reason.UNSUPPORTED_IN_HSM, f"the HSM cannot keep {spec_name(spec)} keys for this use", field="protection_level"
    )


def _generated_secret(session: pkcs11.Session, kind: _Kind) -> TokenKey:
    mechanism = Mechanism.GENERIC_SECRET_KEY_GEN if kind.key_type is KeyType.GENERIC_SECRET else None
    return session.generate_key(
        kind.key_type, kind.bits, mechanism=mechanism, capabilities=MechanismFlag(0), template=dict(_WRAPPABLE)
    )


def _generated_pair(session: pkcs11.Session, kind: _Kind) -> tuple[TokenKey, TokenKey]:
    if kind.key_type is KeyType.RSA:
        return session.generate_keypair(KeyType.RSA, kind.bits, private_template=dict(_WRAPPABLE))
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters(kind.curve)}, local=True
    )
    return parameters.generate_keypair(private_template=dict(_WRAPPABLE))


def _public_key(kind: _Kind, public: TokenKey) -> bytes:
    if kind.key_type is KeyType.EC:
        return bytes(encode_ec_public_key(public))
    exponent, modulus = public[Attribute.PUBLIC_EXPONENT], public[Attribute.MODULUS]
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big"))
    return public_keys.der(numbers.public_key())


def _wrapped_out(pooled: PooledSession, root: TokenKey, key: TokenKey) -> bytes:
    try:
        return bytes(root.wrap_key(key, mechanism=pooled.wrapping))
    finally:
        key.destroy()


def _unwrapped(
    pooled: PooledSession,
    unwrapping: TokenKey,
    kind: _Kind,
    wrapped: bytes,
    capabilities: MechanismFlag,
    guard: Mapping[Attribute, Any],
) -> TokenKey:
    return pooled.judged(
        lambda: unwrapping.unwrap_key(
            ObjectClass.SECRET_KEY if kind.secret else ObjectClass.PRIVATE_KEY,
            kind.key_type,
            wrapped,
            mechanism=pooled.wrapping,
            capabilities=capabilities,
            template=dict(guard) if kind.secret else {**_NOT_OF_PRIVATE_KEYS, **guard},
        )
    )
