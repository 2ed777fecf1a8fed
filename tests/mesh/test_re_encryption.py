"""Re-encryption over a real mesh, and the symmetric specs beside AES_256."""

from __future__ import annotations

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.support.clients import refusal

SYMMETRIC = ("AES_256", "AES_128", "SM4")


@pytest.mark.parametrize("spec", SYMMETRIC)
@pytest.mark.parametrize("level", ["SOFTWARE", "HSM"])
def test_every_symmetric_spec_encrypts(client: Client, mesh: Mesh, name: str, spec: str, level: str) -> None:
    if level == "HSM" and (mesh.provider == "local" or spec == "SM4"):
        error = refusal(lambda: client.keys.create(name, spec=spec, protection_level=level))
        assert error.reason == "UNSUPPORTED_IN_HSM"
        return
    key = client.keys.create(name, spec=spec, protection_level=level).name
    sealed = client.batch_encrypt(key, [(b"one", {"a": "b"}), (b"two", None)]).results()

    assert client.decrypt(sealed[0].ciphertext, {"a": "b"}).plaintext == b"one"
    assert client.decrypt(sealed[1].ciphertext).plaintext == b"two"
    assert refusal(lambda: client.decrypt(sealed[0].ciphertext)).reason == "CIPHERTEXT_INVALID"
    altered = sealed[1].ciphertext[:-1] + bytes([sealed[1].ciphertext[-1] ^ 1])
    assert refusal(lambda: client.decrypt(altered)).reason == "CIPHERTEXT_INVALID"


def test_a_ciphertext_moves_to_another_key_and_context(client: Client, key: str, name: str) -> None:
    destination = client.keys.create(f"{name}-2", spec="AES_128").name
    sealed = client.encrypt(key, b"moving", {"tenant": "blue"})

    moved = client.re_encrypt(sealed.ciphertext, destination, {"tenant": "blue"}, {"tenant": "green"})

    assert moved.key == destination
    assert client.decrypt(moved.ciphertext, {"tenant": "green"}, key=destination).plaintext == b"moving"
    assert refusal(lambda: client.re_encrypt(sealed.ciphertext, destination)).reason == "CIPHERTEXT_INVALID"
    wrong = refusal(
        lambda: client.re_encrypt(sealed.ciphertext, destination, {"tenant": "blue"}, source_key=destination)
    )
    assert (wrong.reason, wrong.field) == ("KEY_MISMATCH", "source_key")
    actions = {event.action for event in client.audit.events.list(resource=key)}
    assert "crypto:ReEncryptFrom" in actions
    assert {event.action for event in client.audit.events.list(resource=destination)} >= {"crypto:ReEncryptTo"}


@pytest.mark.parametrize(("spec", "algorithm"), [("RSA_2048", "RSAES_OAEP_SHA_256"), ("X_WING", "HPKE_X_WING")])
def test_an_asymmetric_ciphertext_moves_to_a_symmetric_key(
    client: Client, key: str, name: str, spec: str, algorithm: str
) -> None:
    source = client.keys.create(f"{name}-2", spec=spec, usage="ENCRYPT_DECRYPT").name
    sealed = client.asymmetric.encrypt(source, b"moving")

    moved = client.re_encrypt(sealed.ciphertext, key, source_key=source, source_algorithm=algorithm)

    assert client.decrypt(moved.ciphertext, key=key).plaintext == b"moving"
    wrong = refusal(lambda: client.re_encrypt(sealed.ciphertext, key, source_key=key, source_algorithm=algorithm))
    assert wrong.reason == "KEY_USAGE_INVALID"
