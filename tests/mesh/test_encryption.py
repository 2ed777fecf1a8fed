"""Encryption over a real mesh: what works, and each kind of bad input with its reason."""

from __future__ import annotations

import base64
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, StrongroomError
from strongroom.crypto.v1 import crypto_pb2 as pb
from tests.support.clients import reason_of, refusal


def test_what_was_encrypted_is_decrypted_under_the_same_context(client: Client, key: str) -> None:
    context = {"tenant": "blue", "row": "7"}
    sealed = client.encrypt(key, b"attack at dawn", context)

    opened = client.decrypt(sealed.ciphertext, dict(reversed(context.items())))

    assert opened.plaintext == b"attack at dawn"
    assert b"attack" not in sealed.ciphertext
    assert sealed.key_version == f"{key}/versions/1"


def test_a_data_key_comes_in_the_clear_and_encrypted(client: Client, key: str) -> None:
    made = client.generate_data_key(key)
    hidden = client.data_keys.generate_without_plaintext(key)

    assert len(made.plaintext) == 32
    assert client.decrypt(made.ciphertext).plaintext == made.plaintext
    assert len(client.decrypt(hidden.ciphertext).plaintext) == 32


def test_a_batch_has_an_outcome_for_each_item(client: Client, key: str) -> None:
    sealed = client.batch_encrypt(key, [b"one", b"two", b"three"]).results()
    damaged = bytearray(sealed[1].ciphertext)
    damaged[-1] ^= 1

    outcomes = client.batch_decrypt([sealed[0].ciphertext, bytes(damaged), sealed[2].ciphertext]).outcomes

    told = [outcome.reason if isinstance(outcome, StrongroomError) else outcome.plaintext for outcome in outcomes]
    assert told == [b"one", "CIPHERTEXT_INVALID", b"three"]


def test_items_of_a_batch_keep_their_own_contexts_and_faults(client: Client, key: str) -> None:
    items: list[tuple[bytes, dict[str, str] | None]] = [
        (b"blue", {"tenant": "blue"}),
        (b"", {"tenant": "blue"}),
        (b"none", None),
        (b"green", {"tenant": "green"}),
        (bytes(65_537), {"tenant": "green"}),
        (b"blue again", {"tenant": "blue"}),
    ]

    batch = client.batch_encrypt(key, items)

    told = [item.reason if isinstance(item, StrongroomError) else "" for item in batch.outcomes]
    assert told == ["", "FIELD_REQUIRED", "", "", "FIELD_TOO_LARGE", ""]
    for (plaintext, context), outcome in zip(items, batch.outcomes, strict=True):
        if not isinstance(outcome, StrongroomError):
            assert client.decrypt(outcome.ciphertext, context).plaintext == plaintext
            wrong = partial(client.decrypt, outcome.ciphertext, {"tenant": "red"})
            assert reason_of(wrong) == "CIPHERTEXT_INVALID"
    events = client.audit.events.list(resource=key, action="crypto:Encrypt")
    counts = {
        event.encryption_context.get("tenant", ""): (event.item_count, event.failed_item_count) for event in events
    }
    assert counts == {"blue": (3, 1), "": (1, 0), "green": (2, 1)}


@pytest.mark.parametrize(("items", "reason"), [(0, "FIELD_REQUIRED"), (1001, "FIELD_TOO_LARGE")])
def test_a_batch_has_limits(client: Client, key: str, items: int, reason: str) -> None:
    error = refusal(lambda: client.batch_encrypt(key, [b"x"] * items))
    assert (error.reason, error.field) == (reason, "items")


def test_random_bytes_differ(client: Client) -> None:
    first, second = client.generate_random(64), client.generate_random(64)
    assert len(first.data) == 64
    assert first.data != second.data


def test_an_hsm_key_works_in_the_token_and_never_in_software(client: Client, mesh: Mesh, name: str) -> None:
    if mesh.provider == "local":
        error = refusal(lambda: client.keys.create(name, protection_level="HSM"))
        assert error.reason == "UNSUPPORTED_IN_HSM"
        return
    key = client.keys.create(name, protection_level="HSM")
    sealed = client.encrypt(key.name, b"in the token", {"a": "b"})

    assert key.protection_level == "HSM"
    assert client.decrypt(sealed.ciphertext, {"a": "b"}).plaintext == b"in the token"
    assert refusal(lambda: client.decrypt(sealed.ciphertext, {"a": "c"})).reason == "CIPHERTEXT_INVALID"


def test_an_unknown_key_is_told(client: Client, name: str) -> None:
    assert refusal(lambda: client.encrypt(name, b"x")).reason == "KEY_NOT_FOUND"


def test_a_malformed_name_is_told(client: Client) -> None:
    error = refusal(lambda: client.encrypt("accounts/default/keys/Not A Name", b"x"))
    assert (error.reason, error.field) == ("NAME_MALFORMED", "key")


@pytest.mark.parametrize(("size", "reason"), [(0, "FIELD_REQUIRED"), (65_537, "FIELD_TOO_LARGE")])
def test_a_plaintext_has_limits(client: Client, key: str, size: int, reason: str) -> None:
    error = refusal(lambda: client.encrypt(key, bytes(size)))
    assert (error.reason, error.field) == (reason, "plaintext")


def test_the_largest_plaintext_is_encrypted(client: Client, key: str) -> None:
    assert client.decrypt(client.encrypt(key, b"\1" * 65_536).ciphertext).plaintext == b"\1" * 65_536


def test_an_oversized_context_is_told(client: Client, key: str) -> None:
    error = refusal(lambda: client.encrypt(key, b"x", {"a": "b" * 8192}))
    assert (error.reason, error.field) == ("FIELD_TOO_LARGE", "encryption_context")


@pytest.mark.parametrize("where", ["cut", "header", "uid", "tag", "garbage"])
def test_a_damaged_ciphertext_is_refused(client: Client, key: str, where: str) -> None:
    whole = client.encrypt(key, b"x").ciphertext
    damaged = {
        "cut": whole[:-1],
        "header": b"\xff" + whole[1:],
        "uid": whole[:2] + bytes([whole[2] ^ 1]) + whole[3:],
        "tag": whole[:-1] + bytes([whole[-1] ^ 1]),
        "garbage": base64.b64encode(whole),
    }[where]

    error = refusal(lambda: client.decrypt(damaged))

    # Also where the uid is of no key that there is: which uids there are must not be told.
    assert error.reason == "CIPHERTEXT_INVALID"


def test_the_wrong_context_is_refused_without_telling_why(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"x", {"a": "b"})
    altered = sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1])
    wrong = refusal(lambda: client.decrypt(sealed.ciphertext, {"a": "c"}))
    tag = refusal(lambda: client.decrypt(altered, {"a": "b"}))
    assert (wrong.reason, str(wrong.message)) == (tag.reason, str(tag.message))


def test_another_account_is_refused(client: Client) -> None:
    assert refusal(lambda: client.encrypt("accounts/other/keys/payments", b"x")).reason == "PERMISSION_DENIED"
    assert refusal(lambda: client.keys.get("accounts/other/keys/payments")).reason == "PERMISSION_DENIED"


def test_a_batch_of_which_no_item_comes_to_a_key_has_an_outcome_for_each(client: Client, key: str) -> None:
    decrypting = pb.BatchDecryptRequest(items=[pb.DecryptItem(), pb.DecryptItem(ciphertext=b"none")])
    opened = client._crypto.call(client._crypto.stub.BatchDecrypt, decrypting, 5).response
    assert [outcome.error.reason for outcome in opened.outcomes] == ["FIELD_REQUIRED", "CIPHERTEXT_INVALID"]
    context = {f"{number}": "x" * 1_000 for number in range(20)}
    encrypting = pb.BatchEncryptRequest(key=key, items=[pb.EncryptItem(plaintext=b"x", encryption_context=context)])
    sealed = client._crypto.call(client._crypto.stub.BatchEncrypt, encrypting, 5).response
    assert [bool(outcome.error.reason) for outcome in sealed.outcomes] == [True]
