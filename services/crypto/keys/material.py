"""Key material: made, wrapped into blobs, and opened for use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.crypto import blobs
from services.crypto.blobs import AnyBinding, Binding, WrappingKeyBinding
from services.crypto.primitives import ciphers, macs, private_keys, public_keys
from services.crypto.primitives.agreement import Agreement, agreement
from services.crypto.primitives.algorithms import ALGORITHMS
from services.crypto.primitives.ciphers import Cipher
from services.crypto.primitives.encapsulation import Encapsulation
from services.crypto.primitives.macs import MacKey, SoftwareMacKey, TokenMacKey
from services.crypto.primitives.public_key_encryption import Decrypter, decrypter
from services.crypto.primitives.signatures import Signer, signer
from services.crypto.provider import MadeHsmKey, Provider, SealBrokenError
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.key_specs import USAGES, spec_name, usage_name
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

Opened = Cipher | Signer | Decrypter | MacKey | Agreement | Encapsulation
"""The material of one key version, ready for what the key's usage permits."""

_SYMMETRIC_BYTES: Mapping[KeySpec.ValueType, int] = {**ciphers.KEY_BYTES, **macs.KEY_BYTES}


@dataclass(frozen=True, slots=True)
class Made:
    """Material of a key version: its blob, and the public half as `public_keys.load` reads it."""

    blob: bytes
    public_key: bytes


def make(provider: Provider, binding: AnyBinding) -> Made:
    """Makes material for a key version, or for an import's wrapping key.

    Raises SPEC_UNSUPPORTED, KEY_USAGE_INVALID, or UNSUPPORTED_IN_HSM where the token cannot make it, or cannot use it
    afterwards: an HSM key is used once before it is answered.
    """
    algorithms = possible(binding)
    if binding.protection_level == k.PROTECTION_LEVEL_HSM:
        return _proven(provider, binding, provider.make_hsm_key(binding.spec), algorithms)
    size = _SYMMETRIC_BYTES.get(binding.spec)
    return _sealed(provider, binding, private_keys.generate(binding.spec) if size is None else provider.random(size))


def normalized(binding: Binding, given: bytes) -> bytes:
    """Material from outside as it is stored: a raw key, PKCS#8 in DER, or X-Wing's seed.

    Raises ValueError for material that is not whole, or of another spec.
    """
    size = _SYMMETRIC_BYTES.get(binding.spec)
    if size is None:
        return private_keys.validated(binding.spec, given)
    if len(given) != size:
        raise ValueError("a key of another length")
    return given


def take_in(provider: Provider, binding: Binding, material: bytes) -> Made:
    """What `make` answers, for material that `normalized` gave. Raises as `make`, and ValueError for material that the
    token refuses."""
    algorithms = possible(binding)
    if binding.protection_level == k.PROTECTION_LEVEL_HSM:
        return _proven(provider, binding, provider.import_hsm_key(binding.spec, material), algorithms)
    return _sealed(provider, binding, material)


def open_blob(provider: Provider, binding: AnyBinding, blob: bytes, public_key: bytes = b"") -> Opened:
    """Opens a key version's blob for use. Raises KEY_MATERIAL_REFUSED when it is not that version's."""
    if binding.protection_level == k.PROTECTION_LEVEL_HSM:
        wrapped = blobs.unseal(provider, blobs.HSM, blob, binding.encode())
        return _in_token(provider, binding, MadeHsmKey(wrapped, blobs.root_version(blob), public_key))
    return _in_software(binding, blobs.unseal(provider, blobs.SOFTWARE, blob, binding.encode()))


def rewrap(provider: Provider, binding: Binding, blob: bytes) -> bytes:
    """A key version's blob under the newest root version: the same one where it is. Raises KEY_MATERIAL_REFUSED when it
    is not that version's."""
    root_version = blobs.root_version(blob)
    # Another process may know of a newer one than this.
    if root_version >= provider.root_version:
        kind = blobs.HSM if binding.protection_level == k.PROTECTION_LEVEL_HSM else blobs.SOFTWARE
        blobs.unseal(provider, kind, blob, binding.encode())
        return blob
    if binding.protection_level == k.PROTECTION_LEVEL_SOFTWARE:
        return blobs.reseal(provider, blobs.SOFTWARE, blob, binding.encode())
    wrapped = blobs.unseal(provider, blobs.HSM, blob, binding.encode())
    try:
        return _sealed_hsm_key(provider, binding, provider.rewrap_hsm_key(binding.spec, root_version, wrapped))
    except SealBrokenError as error:
        raise blobs.refused() from error


def possible(binding: AnyBinding) -> tuple[Algorithm.ValueType, ...]:
    """What the key can be used with. Raises SPEC_UNSUPPORTED, KEY_USAGE_INVALID."""
    algorithms = ALGORITHMS.get((binding.spec, binding.usage))
    if algorithms is not None:
        return algorithms
    usages = USAGES.get(binding.spec)
    if usages is None:
        raise StrongroomError(Reason.SPEC_UNSUPPORTED, f"there is no key spec {binding.spec}", field="spec")
    fitting = " or ".join(map(usage_name, usages))
    raise StrongroomError(Reason.KEY_USAGE_INVALID, f"{spec_name(binding.spec)} keys are for {fitting}", field="usage")


def _sealed(provider: Provider, binding: AnyBinding, material: bytes) -> Made:
    public = private_keys.public_key(binding.spec, material) if binding.spec in private_keys.SPECS else b""
    return Made(blobs.seal(provider, blobs.SOFTWARE, material, binding.encode()), public)


def _sealed_hsm_key(provider: Provider, binding: AnyBinding, made: MadeHsmKey) -> bytes:
    # Both layers under one root version, whatever another process makes meanwhile.
    return blobs.seal(provider, blobs.HSM, made.wrapped, binding.encode(), made.root_version)


def _proven(
    provider: Provider, binding: AnyBinding, made: MadeHsmKey, algorithms: tuple[Algorithm.ValueType, ...]
) -> Made:
    opened = _in_token(provider, binding, made)
    if isinstance(opened, Signer | Decrypter):
        opened.prove(algorithms)
    else:
        opened.prove()
    return Made(_sealed_hsm_key(provider, binding, made), made.public_key)


def _in_software(binding: AnyBinding, material: bytes) -> Opened:
    spec = binding.spec
    if spec in ciphers.KEY_BYTES:
        return ciphers.in_software(spec, material)
    if spec in macs.KEY_BYTES:
        return SoftwareMacKey(material, possible(binding)[0])
    private = private_keys.load(spec, material)
    public = private.public_key()
    if isinstance(private, private_keys.MlKemPrivateKey) and binding.usage == k.KEY_USAGE_KEY_ENCAPSULATION:
        return Encapsulation(private)
    return _ASYMMETRIC[binding.usage](private, public)


def _in_token(
    provider: Provider, binding: AnyBinding, made: MadeHsmKey
) -> Cipher | MacKey | Signer | Decrypter | Agreement:
    spec, usage = binding.spec, binding.usage
    version = binding.version if isinstance(binding, WrappingKeyBinding) else binding
    key = provider.hsm_key(spec, usage, made.root_version, made.wrapped, version.account)
    if spec in ciphers.KEY_BYTES:
        return ciphers.in_token(spec, key)
    if spec in macs.KEY_BYTES:
        return TokenMacKey(key, possible(binding)[0])
    return _ASYMMETRIC[usage](key, public_keys.load(spec, made.public_key))


_ASYMMETRIC: Mapping[KeyUsage.ValueType, Callable[..., Signer | Decrypter | Agreement]] = {
    k.KEY_USAGE_SIGN_VERIFY: signer,
    k.KEY_USAGE_ENCRYPT_DECRYPT: decrypter,
    k.KEY_USAGE_KEY_AGREEMENT: agreement,
}
