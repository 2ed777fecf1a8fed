"""Which of the mesh's two ways to encrypt a key is for, as a door finds out whatever its caller may do."""

from __future__ import annotations

import pytest

from services.doors.vault.transit.engine import Transit
from services.runtime.errors import Reason
from strongroom.crypto.v1 import crypto_pb2 as pb
from tests.unit.doors.meshes import AnsweringMesh, asked

VERSION = "accounts/shop/keys/k/versions/1"
DENIED, UNFIT = Reason.PERMISSION_DENIED, Reason.KEY_USAGE_INVALID
ENCRYPTED = pb.AsymmetricEncryptResponse(ciphertext=b"c", key_version=VERSION)
PLAIN = {"plaintext": "YQ=="}


def test_who_may_do_it_in_the_asymmetric_way_alone_may_do_it_at_any_door() -> None:
    mesh = AnsweringMesh({"AsymmetricEncrypt": ENCRYPTED})
    transit = Transit(mesh.mesh)
    for body in (PLAIN, PLAIN, {"batch_input": [PLAIN, PLAIN]}):
        assert asked(transit, "encrypt/k", body=body)[0] == 200
    # Another door has not seen the key, nor has this one when it begins.
    status, said = asked(Transit(mesh.mesh), "encrypt/k", body={"batch_input": [PLAIN]})
    assert (status, said["data"]["batch_results"][0]["key_version"]) == (200, 1)


@pytest.mark.parametrize("body", [PLAIN, {"batch_input": [PLAIN, PLAIN]}], ids=["one", "batch"])
@pytest.mark.parametrize("second", [DENIED, UNFIT])
def test_who_may_do_it_in_no_way_is_told_of_the_first_refusal(body: object, second: Reason) -> None:
    mesh = AnsweringMesh({"AsymmetricEncrypt": second})
    status, said = asked(Transit(mesh.mesh), "encrypt/k", body=body)
    assert status == 403
    assert said["errors"][-1] in ("PERMISSION_DENIED: Encrypt is refused", "PERMISSION_DENIED: BatchEncrypt is refused")


def test_no_refused_caller_makes_a_door_take_a_key_for_an_asymmetric_one() -> None:
    mesh = AnsweringMesh({"Decrypt": Reason.CIPHERTEXT_INVALID})
    transit = Transit(mesh.mesh)
    asked(transit, "decrypt/k", body={"batch_input": [{"ciphertext": "vault:v1:AAAA"}]})
    mesh.answers["Encrypt"] = pb.EncryptResponse(ciphertext=b"c", key_version=VERSION)
    assert asked(transit, "encrypt/k", body=PLAIN)[0] == 200


def test_what_cannot_be_rewrapped_is_told_as_the_mesh_does() -> None:
    body = {"ciphertext": "vault:v1:AAAA"}
    for reason, status in ((DENIED, 403), (Reason.CIPHERTEXT_INVALID, 400)):
        answer = asked(Transit(AnsweringMesh({"ReEncrypt": reason}).mesh), "rewrap/k", body=body)
        assert answer[0] == status
        assert str(reason) in answer[1]["errors"][-1]
