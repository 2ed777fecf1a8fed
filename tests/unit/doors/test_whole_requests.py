"""One request of a client's is several calls to the mesh. Where a later one fails, the client comes again with all of
it, and what stands from the first time is not done twice."""

from __future__ import annotations

import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.doors.listening.exchange import Head, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.repeats import Repeats
from services.doors.mesh.sessions import Caller, Session
from services.doors.vault.door import Engine, VaultDoor
from services.doors.vault.kv.store import KvSecrets
from services.doors.vault.kv.v2 import KvVersion2
from services.doors.vault.transit import keys
from services.doors.vault.transit.engine import Transit
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1.crypto_pb2 import AsymmetricDecryptResponse
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as keystore
from strongroom.secrets.v1 import secret_pb2
from strongroom.secrets.v1 import secret_service_pb2 as secrets

CALLER = Caller(Session("t", "accounts/shop/users/u", "shop", 0), "10.0.0.1")
ENABLED, PENDING = key_pb2.KEY_STATE_ENABLED, key_pb2.KEY_STATE_PENDING_IMPORT


@pytest.fixture(scope="module")
def import_key() -> bytes:
    public = rsa.generate_private_key(65537, 2048).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class Services:
    """Keystore and secrets with one key and one secret, which know requests again by their ids, and of which a method
    fails when it is called next."""

    def __init__(self, import_key: bytes) -> None:
        self.import_key = import_key
        self.key: key_pb2.Key | None = None
        self.versions: list[str] = []
        self.values: list[bytes] = []
        self.fails = ""
        self._made: dict[str, Any] = {}

    def answer(self, method: str, request: Any) -> Any:
        if method == self.fails:
            self.fails = ""
            raise StrongroomError(Reason.KEYSTORE_UNREACHABLE, "it is away")
        request_id = getattr(request, "request_id", "")
        if request_id in self._made:
            return self._made[request_id]
        made = getattr(self, re.sub(r"(?<!^)([A-Z])", r"_\1", method).lower())(request)
        if request_id:
            self._made[request_id] = made
        return made

    def create_key(self, request: keystore.CreateKeyRequest) -> key_pb2.Key:
        if self.key is not None:
            raise StrongroomError(Reason.ALREADY_EXISTS, "there")
        self.key = key_pb2.Key()
        self.key.CopyFrom(request.key)
        self.key.name = f"{request.parent}/keys/{request.key_id}"
        self.key.state = PENDING if request.key.origin == key_pb2.KEY_ORIGIN_EXTERNAL else ENABLED
        self.versions.append("waits" if self.key.state == PENDING else "made")
        return self.key

    def create_key_version(self, request: keystore.CreateKeyVersionRequest) -> key_pb2.KeyVersion:
        assert self.key is not None
        if "waits" in self.versions:
            raise StrongroomError(Reason.KEY_STATE_INVALID, "one waits", state="PENDING_IMPORT")
        self.versions.append("waits" if self.key.origin == key_pb2.KEY_ORIGIN_EXTERNAL else "made")
        return key_pb2.KeyVersion(name=f"{request.parent}/versions/{len(self.versions)}")

    def get_key(self, request: keystore.GetKeyRequest) -> key_pb2.Key:
        assert self.key is not None
        return self.key

    def list_key_versions(self, request: keystore.ListKeyVersionsRequest) -> keystore.ListKeyVersionsResponse:
        names = [f"{request.parent}/versions/{number}" for number in range(1, len(self.versions) + 1)]
        return keystore.ListKeyVersionsResponse(key_versions=[key_pb2.KeyVersion(name=name) for name in names])

    def asymmetric_decrypt(self, _request: Any) -> AsymmetricDecryptResponse:
        return AsymmetricDecryptResponse(plaintext=bytes(32))

    def get_parameters_for_import(self, request: Any) -> keystore.GetParametersForImportResponse:
        name = request.name if "/versions/" in request.name else f"{request.name}/versions/{len(self.versions)}"
        return keystore.GetParametersForImportResponse(name=name, public_key=self.import_key)

    def import_key_material(self, request: keystore.ImportKeyMaterialRequest) -> key_pb2.KeyVersion:
        assert self.key is not None
        self.versions[int(request.name.rpartition("/")[2]) - 1] = "imported"
        self.key.state = ENABLED
        return key_pb2.KeyVersion(name=request.name)

    def set_primary_key_version(self, request: keystore.SetPrimaryKeyVersionRequest) -> key_pb2.Key:
        assert self.key is not None
        self.key.primary_version = int(request.name.rpartition("/")[2])
        return self.key

    def get_secret_value(self, request: secrets.GetSecretValueRequest) -> secret_pb2.SecretValue:
        name = f"{request.name}/versions/{len(self.values)}"
        return secret_pb2.SecretValue(name=name, value=self.values[-1], format=secret_pb2.VALUE_FORMAT_TEXT)

    def create_secret(self, request: secrets.CreateSecretRequest) -> secret_pb2.Secret:
        if self.values:
            raise StrongroomError(Reason.ALREADY_EXISTS, "there")
        self.values.append(request.value)
        return secret_pb2.Secret(name=f"{request.parent}/secrets/{request.secret_id}", stages={"Current": 1})

    def put_secret_value(self, request: secrets.PutSecretValueRequest) -> secret_pb2.SecretVersion:
        if not self.values:
            raise StrongroomError(Reason.SECRET_NOT_FOUND, "none")
        if request.HasField("current_version") and request.current_version != len(self.values):
            raise StrongroomError(Reason.STAGE_CONFLICT, "another")
        self.values.append(request.value)
        return secret_pb2.SecretVersion(name=f"{request.name}/versions/{len(self.values)}")


class Door:
    """The door before the services; a wrapped answer cannot be kept the first time."""

    def __init__(self, services: Services) -> None:
        repeats = Repeats(0.05)

        def ask(caller: Caller, method: str, request: Any) -> Any:
            principal = caller.session.principal
            return repeats.answer(principal, request, lambda asked, _: services.answer(method, asked))

        mesh = cast(
            Mesh,
            SimpleNamespace(
                ask=ask,
                pages=lambda caller, method, request: iter([ask(caller, method, request)]),
                whole=repeats.whole,
                is_undecided=lambda caller, request: repeats.is_left(caller.session.principal, request),
            ),
        )
        callers = SimpleNamespace(of=lambda _: CALLER, has_token=lambda _: True)
        self.wraps: list[StrongroomError | None] = []
        wrapping = SimpleNamespace(asked=lambda _: int(bool(self.wraps)), wrap=self._wrap)
        trace = SimpleNamespace(trace_id="")
        telemetry = SimpleNamespace(start_call=lambda *_: trace, end_call=lambda *_: None)
        mounts: dict[str, Engine] = {"transit": Transit(mesh), "secret": KvVersion2(KvSecrets(mesh, ""))}
        self._door = VaultDoor(
            cast(Any, callers),
            cast(Any, None),
            cast(Any, None),
            cast(Any, wrapping),
            mounts,
            mesh,
            cast(Any, telemetry),
        )

    def _wrap(self, _caller: Caller, _head: Head, answer: Response, _seconds: int) -> Response:
        if error := self.wraps.pop(0):
            raise error
        return answer

    def asked(self, path: str, method: str = "POST", **body: Any) -> tuple[int, Any]:
        head = Head(method, tuple(path.split("/")), False, {}, {}, "10.0.0.1")
        answer = self._door.answer(head, json.dumps(body).encode() if body else b"")
        return answer.status, json.loads(answer.body or b"{}")


@pytest.fixture
def services(import_key: bytes) -> Iterator[Services]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_SEEN_SECONDS", 0)
        yield Services(import_key)


@pytest.fixture
def door(services: Services) -> Door:
    return Door(services)


def wrapped() -> str:
    return b64encode(os.urandom(552)).decode()


@pytest.mark.parametrize("fails", ["GetKey", "ListKeyVersions"])
def test_a_key_is_rotated_once_though_it_could_not_be_shown(services: Services, door: Door, fails: str) -> None:
    assert door.asked("v1/transit/keys/k")[0] == 200
    services.fails = fails
    assert door.asked("v1/transit/keys/k/rotate")[0] == 503
    assert door.asked("v1/transit/keys/k/rotate")[0] == 200
    assert len(services.versions) == 2
    # Whoever asks again after a good answer wants another.
    assert door.asked("v1/transit/keys/k/rotate")[0] == 200
    assert len(services.versions) == 3


@pytest.mark.parametrize("another_door", [False, True])
@pytest.mark.parametrize("fails", ["GetParametersForImport", "ImportKeyMaterial"])
def test_an_import_that_was_cut_short_goes_on(services: Services, fails: str, another_door: bool) -> None:
    door, ciphertext = Door(services), wrapped()
    services.fails = fails
    assert door.asked("v1/transit/keys/k/import", ciphertext=ciphertext)[0] == 503
    assert services.versions == ["waits"]
    door = Door(services) if another_door else door
    assert door.asked("v1/transit/keys/k/import", ciphertext=ciphertext)[0] == 204
    assert services.versions == ["imported"]
    # A key that has its material is not imported again, nor is one of another kind.
    status, said = Door(services).asked("v1/transit/keys/k/import", ciphertext=ciphertext)
    assert (status, "ALREADY_EXISTS" in said["errors"][0]) == (400, True)


def test_a_key_of_another_kind_is_not_imported_into(services: Services, door: Door) -> None:
    services.fails = "ImportKeyMaterial"
    assert door.asked("v1/transit/keys/k/import", ciphertext=wrapped())[0] == 503
    assert door.asked("v1/transit/keys/k/import", ciphertext=wrapped(), type="ed25519")[0] == 400
    assert services.versions == ["waits"]


@pytest.mark.parametrize("another_door", [False, True])
@pytest.mark.parametrize("fails", ["GetParametersForImport", "ImportKeyMaterial", "SetPrimaryKeyVersion"])
def test_so_does_the_import_of_another_version(services: Services, fails: str, another_door: bool) -> None:
    door, ciphertext = Door(services), wrapped()
    assert door.asked("v1/transit/keys/k/import", ciphertext=ciphertext)[0] == 204
    services.fails = fails
    assert door.asked("v1/transit/keys/k/import_version", ciphertext=ciphertext)[0] == 503
    door = Door(services) if another_door and "waits" in services.versions else door
    assert door.asked("v1/transit/keys/k/import_version", ciphertext=ciphertext)[0] == 204
    assert services.versions == ["imported"] * 2
    assert services.key is not None
    assert services.key.primary_version == 2


@pytest.mark.parametrize("options", [{}, {"cas": 1}], ids=["", "cas"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_value_is_written_once_though_its_answer_could_not_be_wrapped(
    services: Services, door: Door, method: str, options: dict[str, int]
) -> None:
    assert door.asked("v1/secret/data/s", data={"a": 1, "b": 2})[0] == 200
    away = StrongroomError(Reason.SECRETS_UNREACHABLE, "it is away")
    door.wraps = [away.renewed(), away.renewed(), None]
    write = {"data": {"a": 3}, "options": options}
    assert [door.asked("v1/secret/data/s", method, **write)[0] for _ in range(2)] == [503] * 2
    status, answer = door.asked("v1/secret/data/s", method, **write)
    assert (status, answer["data"]["version"], len(services.values)) == (200, 2, 2)


def test_a_new_path_gets_one_version_though_its_answer_could_not_be_wrapped(services: Services, door: Door) -> None:
    door.wraps = [StrongroomError(Reason.SECRETS_UNREACHABLE, "it is away"), None]
    assert door.asked("v1/secret/data/s", data={"a": 1})[0] == 503
    status, answer = door.asked("v1/secret/data/s", data={"a": 1})
    assert (status, answer["data"]["version"], len(services.values)) == (200, 1, 1)
