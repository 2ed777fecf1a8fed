"""What is told of a change of a key to who may make it and may not look at the key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.doors.vault.transit import keys
from services.doors.vault.transit.engine import Transit
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1.crypto_pb2 import PublicKey
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1.key_service_pb2 import CreateKeyRequest, ListKeyVersionsResponse
from tests.unit.doors.meshes import AnsweringMesh, asked

NAME = "accounts/shop/keys/k"
KEY = key_pb2.Key(name=NAME, state=key_pb2.KEY_STATE_ENABLED, spec=key_pb2.KEY_SPEC_AES_256, primary_version=1)
VERSION = key_pb2.KeyVersion(name=f"{NAME}/versions/1")


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_SEEN_SECONDS", 0)
        yield


@pytest.mark.parametrize(
    ("path", "method", "body", "needs"),
    [
        ("keys/k", "CreateKey", {}, {"CreateKey": KEY}),
        ("keys/k/rotate", "CreateKeyVersion", None, {"CreateKeyVersion": VERSION}),
        ("keys/k/rotate", "CreateKeyVersion", None, {"CreateKeyVersion": VERSION, "GetKey": KEY}),
        (
            "keys/k/config",
            "SetDeletionProtection",
            {"deletion_allowed": True},
            {"GetKey": KEY, "SetDeletionProtection": KEY},
        ),
        (
            "keys/k/trim",
            "ListKeyVersions",
            {"min_available_version": 1},
            {"ListKeyVersions": ListKeyVersionsResponse()},
        ),
    ],
)
def test_a_change_that_was_made_is_no_refusal_to_who_may_not_look(
    path: str, method: str, body: object, needs: dict[str, object]
) -> None:
    mesh = AnsweringMesh(needs)
    assert asked(Transit(mesh.mesh), path, body=body) == (204, {})
    assert mesh.asked.count(method) == 1


def test_who_may_not_change_a_key_is_refused() -> None:
    for path, body in (
        ("keys/k", {}),
        ("keys/k/rotate", None),
        ("keys/k/config", {}),
        ("keys/k/trim", {"min_available_version": 1}),
    ):
        assert asked(Transit(AnsweringMesh({}).mesh), path, body=body)[0] == 403


def test_a_key_that_is_there_and_may_not_be_seen_is_said_to_be_there() -> None:
    status, said = asked(Transit(AnsweringMesh({"CreateKey": Reason.ALREADY_EXISTS}).mesh), "keys/k", body={})
    assert (status, "ALREADY_EXISTS" in said["errors"][0]) == (400, True)


@pytest.mark.parametrize("state", [key_pb2.KEY_STATE_PENDING_DELETION, key_pb2.KEY_STATE_DESTROYED])
def test_a_name_of_a_deleted_key_is_never_used_again(state: key_pb2.KeyState.ValueType) -> None:
    deleted = key_pb2.Key(name=NAME, state=state)
    mesh = AnsweringMesh({"CreateKey": Reason.ALREADY_EXISTS, "GetKey": deleted})
    status, said = asked(Transit(mesh.mesh), "keys/k", body={})
    assert (status, "never used again" in said["errors"][0]) == (400, True)


class Made:
    """The account's wrapping key, which somebody else makes at the same moment."""

    def __init__(self) -> None:
        self.is_there = False
        self.wanted: list[key_pb2.Key] = []

    def made(self, request: CreateKeyRequest) -> key_pb2.Key:
        self.is_there = True
        self.wanted.append(request.key)
        raise StrongroomError(Reason.ALREADY_EXISTS, "another was quicker")

    def shown(self, _request: object) -> PublicKey:
        if not self.is_there:
            raise StrongroomError(Reason.KEY_NOT_FOUND, "not yet")
        return PublicKey(pem="public")


def test_two_who_ask_first_for_the_wrapping_key_are_both_answered() -> None:
    key = Made()
    mesh = AnsweringMesh({"CreateKey": key.made, "GetPublicKey": key.shown})
    status, said = asked(Transit(mesh.mesh), "wrapping_key", "GET")
    assert (status, said["data"]["public_key"]) == (200, "public")
    # What was wrapped for it can be opened as long as nobody ends its protection.
    assert key.wanted[0].deletion_protection
