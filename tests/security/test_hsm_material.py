"""The material of an HSM key can neither be read nor wrapped out of the token, and no Python object holds it while the
key is used or wrapped anew.

What these tests cannot show: SoftHSM2 and Kryoptic are libraries, so they have the material in the memory of crypto's
process; an HSM has memory of its own. And import is an exception by its nature: what a caller sends passes through
crypto on its way into the token. The tests show where that ends.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from pkcs11 import Attribute
from pkcs11.exceptions import PKCS11Error

from services.crypto.primitives import private_keys
from services.crypto.provider import HsmKey
from services.crypto.providers.pkcs11.provider import Pkcs11Provider
from services.crypto.providers.pkcs11.sessions import SessionPool
from services.runtime.errors import StrongroomError
from strongroom.crypto.v1 import algorithm_pb2 as a
from strongroom.keystore.v1 import key_pb2 as k
from tests.support import tokens

WRAPPING_ROOT = "strongroom-root-1"
# What PKCS#11 calls the secret parts of each kind of key.
SECRET_PARTS = (Attribute.VALUE, Attribute.PRIVATE_EXPONENT, Attribute.PRIME_1, Attribute.PRIME_2)

Use = Callable[[HsmKey], bytes]
KEYS: dict[str, tuple[k.KeySpec.ValueType, k.KeyUsage.ValueType, Use]] = {
    "aes": (k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT, lambda key: key.encrypt(b"plaintext", b"")),
    "hmac": (
        k.KEY_SPEC_HMAC_256,
        k.KEY_USAGE_GENERATE_VERIFY_MAC,
        lambda key: key.sign(a.ALGORITHM_HMAC_SHA_256, b"m"),
    ),
    "rsa": (
        k.KEY_SPEC_RSA_2048,
        k.KEY_USAGE_SIGN_VERIFY,
        lambda key: key.sign(a.ALGORITHM_RSASSA_PSS_SHA_256, bytes(32)),
    ),
    "ec": (k.KEY_SPEC_EC_P256, k.KEY_USAGE_SIGN_VERIFY, lambda key: key.sign(a.ALGORITHM_ECDSA_SHA_256, bytes(32))),
}
IN_TOKENS = [(module, kind) for module in tokens.MODULES for kind in KEYS]

in_tokens = pytest.mark.parametrize(("opened", "kind"), IN_TOKENS, indirect=["opened"])
in_each = pytest.mark.parametrize("opened", tokens.MODULES, indirect=True)
Opened = tuple[SessionPool, Pkcs11Provider]


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A token of the module that the test names, with one session, so that keys are found where they are used."""
    token = tokens.open_token(request.param, tmp_path_factory.mktemp("token"))
    with tokens.provider_of(token) as pool_and_provider:
        yield pool_and_provider


def material_of(kind: str) -> tuple[bytes, tuple[bytes | int, ...]]:
    """New material to import, and what of it is secret."""
    if kind != "rsa":
        stored = private_keys.generate(KEYS[kind][0]) if kind == "ec" else os.urandom(32)
        return stored, (stored,)
    stored = private_keys.generate(k.KEY_SPEC_RSA_2048)
    key = load_der_private_key(stored, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    return stored, (stored, numbers.d, numbers.d.to_bytes(256, "big"), numbers.p, numbers.p.to_bytes(128, "big"))


def assert_guarded(pool: SessionPool, key: Any) -> None:
    """`key` says that it is guarded, and is."""
    for part in SECRET_PARTS:
        with pytest.raises(PKCS11Error):
            key[part]
    with pool.session() as pooled, pytest.raises(PKCS11Error):
        pooled.root(WRAPPING_ROOT).wrap_key(key, mechanism=pooled.wrapping)
    for protection, wanted in ((Attribute.SENSITIVE, True), (Attribute.EXTRACTABLE, False)):
        assert key[protection] is wanted


def in_use(pool: SessionPool) -> Any:
    """The token's object of the key that was used last."""
    with pool.session() as pooled:
        return next(reversed(pooled.keys.values()))


@in_tokens
def test_a_key_in_use_can_neither_be_read_nor_wrapped_out(opened: Opened, kind: str) -> None:
    pool, provider = opened
    spec, usage, use = KEYS[kind]
    made = provider.make_hsm_key(spec)
    assert use(provider.hsm_key(spec, usage, 1, made.wrapped))
    assert_guarded(pool, in_use(pool))


@in_tokens
def test_nor_can_one_that_was_imported_or_wrapped_anew(opened: Opened, kind: str) -> None:
    pool, provider = opened
    spec, usage, use = KEYS[kind]
    imported = provider.import_hsm_key(spec, material_of(kind)[0])
    anew = provider.rewrap_hsm_key(spec, 1, imported.wrapped)
    for made in (imported, anew):
        assert use(provider.hsm_key(spec, usage, made.root_version, made.wrapped))
        assert_guarded(pool, in_use(pool))


@in_each
def test_the_root_keys_can_neither_be_read_nor_wrapped_out(opened: Opened) -> None:
    pool, provider = opened
    provider.seal(1, b"payload", b"")
    provider.make_hsm_key(k.KEY_SPEC_AES_256)
    with pool.session() as pooled:
        roots = list(pooled.roots.values())
    assert len(roots) == 2
    for root in roots:
        assert_guarded(pool, root)


@in_tokens
def test_nothing_that_was_wrapped_out_stays_in_the_token(opened: Opened, kind: str) -> None:
    pool, provider = opened
    spec = KEYS[kind][0]

    def extractable() -> int:
        with pool.session() as pooled:
            return sum(1 for _ in pooled.session.get_objects({Attribute.EXTRACTABLE: True}))

    before = extractable()
    made = provider.make_hsm_key(spec)
    provider.rewrap_hsm_key(spec, 1, made.wrapped)
    provider.import_hsm_key(spec, material_of(kind)[0])
    assert extractable() == before


@in_tokens
def test_no_local_variable_holds_the_material_of_a_key_in_use(opened: Opened, kind: str) -> None:
    _, provider = opened
    spec, usage, use = KEYS[kind]
    material, secrets = material_of(kind)

    with seen_in_locals(secrets) as while_importing:
        imported = provider.import_hsm_key(spec, material)
    # Import is what the material passes through crypto for; it also shows that this way of looking finds it.
    assert "put" in while_importing

    with seen_in_locals(secrets) as while_used:
        anew = provider.rewrap_hsm_key(spec, 1, imported.wrapped)
        for made in (imported, anew):
            assert use(provider.hsm_key(spec, usage, 1, made.wrapped))
    assert while_used == set()


@in_tokens
def test_after_import_no_object_holds_the_material(opened: Opened, kind: str) -> None:
    _, provider = opened
    spec, usage, use = KEYS[kind]
    kept: list[Any] = list(material_of(kind))
    masked = mask(kept[1])
    # This way of looking finds what is there.
    assert holders(masked) > 0

    imported = provider.import_hsm_key(spec, kept[0])
    kept.clear()
    assert use(provider.hsm_key(spec, usage, 1, imported.wrapped))
    assert holders(masked) == 0


@in_each
def test_a_guarded_key_is_not_wrapped_even_by_the_provider(opened: Opened) -> None:
    pool, provider = opened
    made = provider.make_hsm_key(k.KEY_SPEC_AES_256)
    provider.hsm_key(k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT, 1, made.wrapped).encrypt(b"x", b"")
    key = in_use(pool)
    with pytest.raises(StrongroomError), pool.session() as pooled:
        pooled.root(WRAPPING_ROOT).wrap_key(key, mechanism=pooled.wrapping)


@contextmanager
def seen_in_locals(secrets: tuple[bytes | int, ...]) -> Iterator[set[str]]:
    """Collects the names of the functions that have one of `secrets` in a local variable, at any of their lines."""
    seen: set[str] = set()

    def trace(frame: FrameType, _event: str, value: Any) -> Any:
        if any(_holds(local, secrets) for local in (*frame.f_locals.values(), value)):
            seen.add(frame.f_code.co_name)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)
        # What this function and the test itself know does not count.
        seen.discard("seen_in_locals")


def mask(secrets: Iterable[bytes | int]) -> tuple[bytes | int, ...]:
    """Each in another form, so that what looks for it does not hold it; and back."""
    return tuple(~one if isinstance(one, int) else bytes(byte ^ 0xFF for byte in one) for one in secrets)


def holders(masked: tuple[bytes | int, ...]) -> int:
    """How many bytes and integers in containers that the garbage collector knows hold what is masked here."""
    gc.collect()
    known = gc.get_objects()
    secrets = mask(masked)
    values = {
        id(value): value
        for container in known
        for value in gc.get_referents(container)
        # By their type: what stands in for others, as Django's settings do, answers isinstance with code of its own.
        if issubclass(type(value), bytes | bytearray | int)
    }
    return sum(_holds(value, secrets) for value in values.values())


def _holds(value: Any, secrets: tuple[bytes | int, ...]) -> bool:
    if isinstance(value, bytes | bytearray):
        return any(isinstance(secret, bytes) and secret in value for secret in secrets)
    return isinstance(value, int) and any(isinstance(secret, int) and secret == value for secret in secrets)
