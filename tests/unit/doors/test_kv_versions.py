"""What KV version 2 answers of versions that are gone, to who may know something of them and to who may not."""

from __future__ import annotations

from services.doors.vault.kv.store import KvSecrets
from services.doors.vault.kv.v2 import KvVersion2
from services.runtime.errors import Reason
from strongroom.secrets.v1 import secret_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2 import ListSecretVersionsResponse, UpdateSecretRequest
from tests.unit.doors.meshes import AnsweringMesh, asked

NAME = "accounts/shop/secrets/s"
SECRET = pb.Secret(name=NAME, state=pb.SECRET_STATE_ENABLED, stages={"Current": 1}, retained_versions=10)
WAITING = pb.Secret(name=NAME, state=pb.SECRET_STATE_PENDING_DELETION)
VERSION = pb.SecretVersion(name=f"{NAME}/versions/1", state=pb.SECRET_VERSION_STATE_DISABLED)
VERSIONS = ListSecretVersionsResponse(secret_versions=[VERSION])


def kv(**answers: object) -> KvVersion2:
    return KvVersion2(KvSecrets(AnsweringMesh(answers).mesh, ""))


def test_a_deleted_version_is_not_there_for_who_may_read_values_alone() -> None:
    gone = {"GetSecretValue": Reason.SECRET_VERSION_DISABLED}
    assert asked(kv(**gone), "data/s", "GET") == (404, {"errors": []})
    assert asked(kv(**gone, GetSecret=SECRET), "data/s", "GET") == (404, {"errors": []})
    status, said = asked(kv(**gone, GetSecret=SECRET, ListSecretVersions=VERSIONS), "data/s", "GET")
    assert (status, said["data"]["metadata"]["version"]) == (404, 1)
    away = kv(**gone, GetSecret=Reason.SECRETS_UNREACHABLE)
    assert asked(away, "data/s", "GET")[0] == 503


def test_what_is_not_there_is_deleted_undeleted_and_destroyed_already() -> None:
    for absent in ({"GetSecret": Reason.SECRET_NOT_FOUND}, {"GetSecret": WAITING}):
        assert asked(kv(**absent), "data/s", "DELETE")[0] == 204
    for path, method in (
        ("delete/s", "DisableSecretVersion"),
        ("undelete/s", "EnableSecretVersion"),
        ("destroy/s", "DestroySecretVersion"),
    ):
        absent = {method: Reason.SECRET_NOT_FOUND}
        assert asked(kv(**absent), path, body={"versions": [1]})[0] == 204
        # What waits for deletion has its values still.
        waits = {method: Reason.SECRET_PENDING_DELETION}
        assert asked(kv(**waits), path, body={"versions": [1]})[0] == 400
        assert asked(kv(), path, body={"versions": [1]})[0] == 403


def test_a_mount_keeps_as_many_versions_as_the_mesh_does() -> None:
    mount = kv(GetCallerIdentity=None)
    assert asked(mount, "config", "GET")[1]["data"]["max_versions"] == 10
    # hvac sends 10 unless it is told otherwise, others 0.
    for given, status in ((10, 204), (0, 204), ("10", 204), (None, 204), (7, 400), (-1, 400)):
        assert asked(mount, "config", body={"max_versions": given})[0] == status


def test_no_number_of_versions_is_the_usual_one() -> None:
    updated: list[UpdateSecretRequest] = []
    mount = kv(GetSecret=SECRET, UpdateSecret=updated.append)
    assert asked(mount, "metadata/s", body={"max_versions": 0})[0] == 204
    assert (updated[0].secret.retained_versions, list(updated[0].update_mask.paths)) == (0, ["retained_versions"])
    assert asked(mount, "metadata/s", body={"custom_metadata": {"a": "b"}})[0] == 204
    assert list(updated[1].update_mask.paths) == ["tags"]
