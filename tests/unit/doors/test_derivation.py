"""Derived keys do nothing without a context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.doors.listening.exchange import HttpError
from services.doors.mesh.sessions import Caller
from services.doors.vault.transit.derivation import Derivation
from services.doors.vault.transit.engine import Transit
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1 import crypto_pb2 as pb
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest, ListKeyVersionsResponse
from tests.unit.doors.meshes import CALLER, AnsweringMesh, asked

NAME = "accounts/shop/keys/k"
AES = key_pb2.KEY_SPEC_AES_256
DERIVED = key_pb2.Key(name=NAME, spec=AES, state=key_pb2.KEY_STATE_ENABLED, tags={"vault-derived": "true"})
PLAIN = key_pb2.Key(name=NAME, spec=AES, state=key_pb2.KEY_STATE_ENABLED)
ENCRYPTED = pb.EncryptResponse(ciphertext=b"c", key_version=f"{NAME}/versions/1")
DATA_KEY = pb.GenerateDataKeyResponse(plaintext=b"p", ciphertext=b"c", key_version=f"{NAME}/versions/1")


def encrypting(**answers: Any) -> AnsweringMesh:
    return AnsweringMesh({"Encrypt": ENCRYPTED, "GenerateDataKey": DATA_KEY, **answers})


def test_a_key_is_made_derived_and_shown_so() -> None:
    made: list[key_pb2.Key] = []

    def create(request: CreateKeyRequest) -> key_pb2.Key:
        made.append(request.key)
        key = key_pb2.Key(name=NAME, spec=request.key.spec)
        key.tags.update(request.key.tags)
        return key

    transit = Transit(AnsweringMesh({"CreateKey": create, "ListKeyVersions": ListKeyVersionsResponse()}).mesh)
    for given, derived in ((True, True), ("true", True), (False, False), (None, False)):
        status, said = asked(transit, "keys/k", body={"derived": given})
        assert (status, said["data"]["derived"], said["data"]["supports_derivation"]) == (200, derived, True)
    assert [dict(key.tags) for key in made] == [{"vault-derived": "true"}] * 2 + [{}] * 2
    for wrong in ({"derived": True, "type": "rsa-2048"}, {"derived": "perhaps"}):
        assert asked(transit, "keys/k", body=wrong)[0] == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("encrypt/k", {"plaintext": "YQ=="}),
        ("encrypt/k", {"plaintext": "YQ==", "context": "", "associated_data": "YQ=="}),
        ("decrypt/k", {"ciphertext": "vault:v1:AAAA"}),
        ("rewrap/k", {"ciphertext": "vault:v1:AAAA"}),
        ("datakey/plaintext/k", {}),
        ("encrypt/k", {"batch_input": [{"plaintext": "YQ=="}]}),
        ("rewrap/k", {"batch_input": [{"ciphertext": "vault:v1:AAAA"}]}),
    ],
)
def test_without_a_context_a_derived_key_does_nothing(path: str, body: dict[str, Any]) -> None:
    mesh = encrypting(GetKey=DERIVED)
    transit = Transit(mesh.mesh)
    asked(transit, "keys/k", "GET")
    mesh.asked.clear()
    status, said = asked(transit, path, body=body)
    told = said["data"]["batch_results"][0]["error"] if "batch_input" in body else said["errors"][0]
    assert (status, "missing 'context'" in told) == (400, True)
    assert mesh.asked == []


def test_with_a_context_nobody_looks_what_the_key_is() -> None:
    mesh = encrypting(GetKey=DERIVED)
    assert asked(Transit(mesh.mesh), "encrypt/k", body={"plaintext": "YQ==", "context": "YQ=="})[0] == 200
    assert mesh.asked == ["Encrypt"]


def test_of_a_batch_only_items_with_a_context_are_done() -> None:
    whole = pb.BatchEncryptResponse(outcomes=[pb.EncryptOutcome(ciphertext=b"c")], key_version=f"{NAME}/versions/1")
    mesh = encrypting(GetKey=DERIVED, BatchEncrypt=whole)
    items = [{"plaintext": "YQ=="}, {"plaintext": "YQ==", "context": "YQ=="}]
    body = {"batch_input": items, "partial_failure_response_code": 207}
    transit = Transit(mesh.mesh)
    asked(transit, "keys/other", "GET")
    status, said = asked(transit, "encrypt/k", body=body)
    first, second = said["data"]["batch_results"]
    assert (status, "missing" in first["error"], "ciphertext" in second) == (207, True, True)


def looking(mesh: AnsweringMesh, now: list[float]) -> Derivation:
    """Of a door that has shown the caller another key."""
    derivation = Derivation(mesh.mesh, lambda: now[0])
    derivation.shown(CALLER, key_pb2.Key(name=f"{NAME}-other"))
    return derivation


def test_another_key_needs_none_and_is_looked_at_once_in_a_while() -> None:
    mesh, now = encrypting(GetKey=PLAIN), [0.0]
    derivation = looking(mesh, now)
    for _ in range(3):
        derivation.require_context(CALLER, NAME, {})
    assert len(mesh.asked) == 1
    mesh.answers["GetKey"] = DERIVED
    now[0] += 61
    with pytest.raises(HttpError):
        derivation.require_context(CALLER, NAME, {})


def test_who_only_encrypts_is_not_looked_after() -> None:
    mesh = encrypting()
    transit = Transit(mesh.mesh)
    # Whatever others have seen here.
    other = Caller(replace(CALLER.session, principal="accounts/shop/users/other"), CALLER.address)
    mesh.answers["GetKey"] = DERIVED
    asked(transit, "keys/k", "GET", caller=other)
    del mesh.answers["GetKey"]
    mesh.asked.clear()
    assert asked(transit, "encrypt/k", body={"plaintext": "YQ=="})[0] == 200
    assert mesh.asked == ["Encrypt"]


def test_who_may_see_other_keys_alone_is_denied_once_an_hour() -> None:
    mesh, now = encrypting(), [0.0]
    derivation = looking(mesh, now)
    for now[0] in range(0, 3601, 100):
        derivation.require_context(CALLER, NAME, {})
    assert len(mesh.asked) == 2


def test_a_key_that_cannot_be_looked_at_just_now_is_used_later() -> None:
    derivation = looking(encrypting(GetKey=Reason.KEYSTORE_UNREACHABLE), [0.0])
    with pytest.raises(StrongroomError):
        derivation.require_context(CALLER, NAME, {})
    looking(encrypting(GetKey=Reason.KEY_NOT_FOUND), [0.0]).require_context(CALLER, NAME, {})
