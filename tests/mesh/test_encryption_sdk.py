"""The encryption SDK and coalesced calls against real services."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import free_port
from strongroom import Client, decrypt_file, encrypt_file
from strongroom.encryption import ANY_KEY, DataKeyCache, EncryptionClient, MeshKey
from strongroom.encryption.message.body import MessageKeys
from strongroom.encryption.message.header import Header, WrappedKey
from tests.support.clients import client_of, reason_of, refusal, until

TENANT = {"tenant": "a"}


@pytest.fixture
def key(client: Client, name: str) -> str:
    return client.keys.create(name).name


@pytest.fixture
def other(client: Client, name: str) -> str:
    return client.keys.create(f"{name}-other").name


def test_messages_open_under_any_of_their_keys_and_no_other(client: Client, key: str, other: str) -> None:
    encryption = EncryptionClient(client, keys=[key, other], cache=DataKeyCache())
    message = encryption.encrypt(b"4111 1111 1111 1111", TENANT)
    for one in (key, other, ANY_KEY):
        assert EncryptionClient(client, keys=one).decrypt(message, TENANT) == b"4111 1111 1111 1111"
    client.keys.disable(key)
    until(lambda: reason_of(lambda: client.encrypt(key, b"a")) == "KEY_DISABLED")
    assert EncryptionClient(client, keys=[key, other]).decrypt(message, TENANT) == b"4111 1111 1111 1111"
    assert refusal(lambda: EncryptionClient(client, keys=key).decrypt(message, TENANT)).reason == "KEY_DISABLED"
    assert refusal(lambda: EncryptionClient(client, keys=key).encrypt(b"a")).reason == "KEY_DISABLED"
    # A data key at hand goes on until its age; docs/encryption.md says so.
    assert encryption.decrypt(encryption.encrypt(b"a", TENANT), TENANT) == b"a"
    assert refusal(lambda: encryption.decrypt(message, {"tenant": "b"})).reason == "CONTEXT_MISMATCH"


def test_hints_that_lie_and_wrapped_keys_that_were_changed_are_refused(client: Client, key: str, other: str) -> None:
    made = client.generate_data_key(other, TENANT)
    lie = message_of(made.plaintext, made.ciphertext, key)
    assert refusal(lambda: EncryptionClient(client, keys=key).decrypt(lie, TENANT)).reason == "KEY_MISMATCH"
    assert refusal(lambda: EncryptionClient(client, keys=ANY_KEY).decrypt(lie, TENANT)).reason == "KEY_MISMATCH"
    corrupt = message_of(made.plaintext, made.ciphertext[:-1] + bytes([made.ciphertext[-1] ^ 1]), other)
    assert refusal(lambda: EncryptionClient(client, keys=other).decrypt(corrupt, TENANT)).reason == "CIPHERTEXT_INVALID"
    honest = message_of(made.plaintext, made.ciphertext, other)
    assert EncryptionClient(client, keys=other).decrypt(honest, TENANT) == b"content"


def message_of(data_key: bytes, encrypted_data_key: bytes, key: str) -> bytes:
    header = Header.of((WrappedKey(encrypted_data_key, key),), TENANT)
    keys = MessageKeys(data_key, header.chunk_size_log2, header.context_digest)
    data = header.to_bytes()
    return keys.seal(b"content", data + keys.header_tag(data))


def test_a_file_under_an_alias_and_a_key_goes_through_the_mesh(
    client: Client, key: str, other: str, name: str, tmp_path: Path
) -> None:
    client.keys.aliases.create(name, key)
    (tmp_path / "plain").write_bytes(bytes(3 << 20))
    sealed = encrypt_file(client, [f"alias/{name}", other], tmp_path / "plain", tmp_path / "sealed", context=TENANT)
    assert sealed.key_version == f"{key}/versions/1"
    for one in (f"alias/{name}", key, other, ""):
        opened = decrypt_file(client, tmp_path / "sealed", tmp_path / "opened", key=one, context=TENANT, overwrite=True)
        assert opened.size == 3 << 20
    file = EncryptionClient(client, keys=key).open_decrypting(io.BytesIO((tmp_path / "sealed").read_bytes()), TENANT)
    file.seek(-5, io.SEEK_END)
    assert file.read() == bytes(5)


# While the mesh is away


@pytest.fixture
def nobody() -> int:
    """A port of this machine where nothing listens."""
    return free_port()


def test_a_warm_cache_goes_on_while_the_mesh_is_gone_and_a_cold_one_says_where_and_what(
    mesh: Mesh, key: str, nobody: int
) -> None:
    gone = f"127.0.0.1:{nobody}"
    with client_of(mesh) as client, client_of(mesh, addresses={"crypto": gone}, timeout=2.0) as cut_off:
        warm = EncryptionClient(client, keys=key, cache=DataKeyCache())
        message = warm.encrypt(b"content", TENANT)
        assert warm.decrypt(message, TENANT) == b"content"
        # From now on every call of the same client goes nowhere.
        client._transport, client.__dict__["_crypto"] = cut_off._transport, cut_off._crypto
        assert warm.decrypt(warm.encrypt(b"more", TENANT), TENANT) == b"more"
        error = refusal(lambda: EncryptionClient(client, keys=key).encrypt(b"content"))
        assert error.code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert gone in error.message
        assert "strongroom status" in error.message


def test_one_mesh_that_is_there_is_enough_to_decrypt(mesh: Mesh, client: Client, key: str, nobody: int) -> None:
    with client_of(mesh, addresses={"crypto": f"127.0.0.1:{nobody}"}, timeout=1.0) as away:
        writing = [MeshKey(key, client, mesh="eu"), MeshKey(key, client, mesh="us")]
        reading = [MeshKey(key, away, mesh="eu"), MeshKey(key, client, mesh="us")]
        message = EncryptionClient(client, keys=writing).encrypt(b"content")
        assert EncryptionClient(client, keys=reading).decrypt(message) == b"content"


def test_a_data_key_comes_from_the_next_address_where_nobody_is_at_the_first(mesh: Mesh, key: str, nobody: int) -> None:
    addresses = f"127.0.0.1:{nobody},{mesh.address('crypto')}"
    with client_of(mesh, addresses={"crypto": addresses}) as client:
        encryption = EncryptionClient(client, keys=key)
        assert encryption.decrypt(encryption.encrypt(b"content")) == b"content"


# Coalescing


def test_concurrent_calls_travel_together_with_an_outcome_each(mesh: Mesh, client: Client, key: str, name: str) -> None:
    signing = client.keys.create(f"{name}-signs", spec="ED25519").name
    with client_of(mesh, coalesce=True) as coalescing, ThreadPoolExecutor(32) as pool:
        sealed = list(pool.map(lambda n: coalescing.encrypt(key, b"%d" % n, {"n": str(n % 3)}), range(200)))
        assert {one.key for one in sealed} == {key}
        assert len({one.event_id for one in sealed}) < 200
        opened = pool.map(lambda n: coalescing.decrypt(sealed[n].ciphertext, {"n": str(n % 3)}).plaintext, range(200))
        assert list(opened) == [b"%d" % n for n in range(200)]
        reasons = pool.map(
            lambda n: "" if n % 2 else refusal(lambda: coalescing.decrypt(sealed[n].ciphertext, {"n": "none"})).reason,
            range(50),
        )
        assert set(reasons) == {"", "CIPHERTEXT_INVALID"}
        signatures = list(pool.map(lambda n: coalescing.sign(signing, b"%d" % n).signature, range(50)))
        assert refusal(lambda: coalescing.encrypt("no-such-key", b"a")).reason == "KEY_NOT_FOUND"
        assert refusal(lambda: coalescing.encrypt(key, b"")).reason == "FIELD_REQUIRED"
    assert all(client.verify(signing, signature, b"%d" % n) for n, signature in enumerate(signatures))
