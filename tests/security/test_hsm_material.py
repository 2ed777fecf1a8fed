"""The material of an HSM key in use can neither be read nor wrapped out again, so nothing in the process holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pkcs11 import Attribute, Mechanism
from pkcs11.exceptions import PKCS11Error

from services.crypto.providers import pkcs11
from services.crypto.providers.pkcs11 import Pkcs11Provider
from services.crypto.providers.pkcs11_sessions import SessionPool
from services.crypto.providers.provider import HsmKey
from strongroom.crypto.v1 import algorithm_pb2 as a
from strongroom.keystore.v1 import key_pb2 as k
from tests.tokens import provider_in, softhsm_pool

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


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionPool]:
    with softhsm_pool(tmp_path_factory.mktemp("token")) as pool:
        assert pkcs11.initialize(pool)
        yield pool


@pytest.fixture
def provider(pool: SessionPool) -> Pkcs11Provider:
    return provider_in(pool)


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_in_use_can_neither_be_read_nor_wrapped_out(
    pool: SessionPool, provider: Pkcs11Provider, kind: str
) -> None:
    spec, usage, use = KEYS[kind]
    made = provider.make_hsm_key(spec)
    assert use(provider.hsm_key(spec, usage, provider.root_version, made.wrapped))

    with pool.session() as pooled:
        in_use = next(reversed(pooled.keys.values()))
        for part in SECRET_PARTS:
            with pytest.raises(PKCS11Error):
                in_use[part]
        with pytest.raises(PKCS11Error):
            pooled.root(WRAPPING_ROOT).wrap_key(in_use, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        for protection, wanted in ((Attribute.SENSITIVE, True), (Attribute.EXTRACTABLE, False)):
            assert in_use[protection] is wanted


def test_the_root_keys_can_neither_be_read_nor_wrapped_out(pool: SessionPool, provider: Pkcs11Provider) -> None:
    provider.seal(provider.root_version, b"payload", b"")
    provider.make_hsm_key(k.KEY_SPEC_AES_256)
    with pool.session() as pooled:
        assert len(pooled.roots) == 2
        for root in pooled.roots.values():
            with pytest.raises(PKCS11Error):
                root[Attribute.VALUE]
            with pytest.raises(PKCS11Error):
                pooled.root(WRAPPING_ROOT).wrap_key(root, mechanism=Mechanism.AES_KEY_WRAP_PAD)


def test_nothing_that_was_wrapped_out_stays_in_the_token(pool: SessionPool, provider: Pkcs11Provider) -> None:
    with pool.session() as pooled:
        before = sum(1 for _ in pooled.session.get_objects({Attribute.EXTRACTABLE: True}))
    for spec, _, _ in KEYS.values():
        provider.make_hsm_key(spec)
    with pool.session() as pooled:
        assert sum(1 for _ in pooled.session.get_objects({Attribute.EXTRACTABLE: True})) == before
