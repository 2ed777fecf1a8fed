"""HMAC: every vector of RFC 4231 but the truncated one, through gRPC."""

from __future__ import annotations

import hashlib

import pytest

from strongroom import Client
from tests.support.vectors import published
from tests.vectors.conftest import ImportKey

# The key's length is the digest's.
SPECS = {"sha256": "HMAC_256", "sha384": "HMAC_384", "sha512": "HMAC_512"}


def as_long_as_the_digest(key: bytes, name: str) -> bytes:
    """The key of another length that HMAC takes for the same one: RFC 2104 pads a short key with zeros, and puts the
    digest in the place of one longer than a block."""
    digest = hashlib.new(name)
    if len(key) > digest.block_size:
        return hashlib.new(name, key).digest()
    assert len(key) <= digest.digest_size
    return key.ljust(digest.digest_size, b"\0")


@pytest.mark.parametrize("name", SPECS)
def test_hmac(client: Client, import_key: ImportKey, name: str) -> None:
    found = list(published.records(f"HMAC/rfc-4231-{name}.txt"))
    keys = {
        material: import_key(SPECS[name], "GENERATE_VERIFY_MAC", as_long_as_the_digest(bytes.fromhex(material), name))
        for material in {record["Key"]: None for record in found}
    }
    assert (len(found), len(keys)) == (6, 5)
    for record in found:
        key, message, mac = keys[record["Key"]], record.raw("Msg"), record.raw("MD")
        assert client.generate_mac(key, message).mac == mac
        assert client.verify_mac(key, message, mac)
        assert not client.verify_mac(key, message, published.flipped(mac))
        assert not client.verify_mac(key, published.flipped(message), mac)
