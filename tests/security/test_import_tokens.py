"""An import token is authenticated to its last bit: whoever holds one cannot make another of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.crypto.handlers.material_service import MaterialService
from services.crypto.keys.imports import Imports
from services.crypto.providers import local
from services.crypto.providers.local import LocalProvider
from services.keystore.keys.material import CryptoMaterial, read_token
from services.keystore.store.model import Key
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel
from services.runtime.requests.names import ResourceName
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.wrapping import wrap_for_import
from tests.support.clocks import StillClock

METHOD = k.IMPORT_METHOD_RSA_AES_KEY_WRAP_3072_SHA256
EXPIRE_US = 3_600_000_000


@dataclass(frozen=True)
class OneKey:
    """As much of a key as its material is bound to."""

    name: ResourceName = ResourceName("acme", "keys", "payments")  # noqa: RUF009  # frozen itself
    uid: bytes = bytes(range(16))
    spec: int = k.KEY_SPEC_AES_256
    usage: int = k.KEY_USAGE_ENCRYPT_DECRYPT
    protection_level: int = k.PROTECTION_LEVEL_SOFTWARE


class InProcess:
    """A channel to crypto's service, in the same process."""

    def __init__(self, service: MaterialService) -> None:
        self._service = service

    def method(self, _stub: object, name: str) -> Any:
        call = Call("strongroom.crypto.v1.MaterialService", name, f"crypto:{name}")
        return lambda request, **_options: getattr(self._service, name)(request, call)


class Importing:
    """An import that was begun."""

    def __init__(self, directory: Path) -> None:
        local.initialize(directory / "root.key")
        provider = LocalProvider(directory / "root.key")
        service = MaterialService(provider, Imports(provider, StillClock()), StillClock())
        self.key = cast(Key, OneKey())
        self.material = CryptoMaterial(cast(MeshChannel, InProcess(service)))
        parameters = self.material.begin_import(self.key, 1, METHOD, EXPIRE_US)
        self.token = parameters.token
        self.wrapped = wrap_for_import(bytes(32), parameters.public_key, "RSA_AES_KEY_WRAP_3072_SHA256")

    def finish(self, token: bytes) -> None:
        self.material.finish_import(self.key, read_token(token), self.wrapped, b"")

    def refuses(self, token: bytes) -> bool:
        try:
            self.finish(token)
        except StrongroomError as refusal:
            return refusal.reason is Reason.IMPORT_TOKEN_INVALID
        return False


@pytest.fixture(scope="module")
def importing(tmp_path_factory: pytest.TempPathFactory) -> Importing:
    return Importing(tmp_path_factory.mktemp("import"))


def test_the_token_itself_is_taken(importing: Importing) -> None:
    importing.finish(importing.token)


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_can_be_changed(importing: Importing, bit: int) -> None:
    token = importing.token
    taken = [
        at
        for at in range(len(token))
        if not importing.refuses(token[:at] + bytes((token[at] ^ 1 << bit,)) + token[at + 1 :])
    ]
    assert taken == []


def test_nothing_can_be_added_or_left_out(importing: Importing) -> None:
    token = importing.token
    assert all(importing.refuses(token[:end]) for end in range(0, len(token), 7))
    for more in (
        b"\x00",
        b"\xa8\x01\x01",
        b"\x10\x03",
        pb.ImportMaterialRequest(encrypted_material=b"x").SerializeToString(),
    ):
        assert importing.refuses(token + more)
        assert importing.refuses(more + token)


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**62, 0), (-(2**62), 0), (-1, 0), (0, 0), (3600, 1), (3600, -1), (3601, 0)]
)
def test_another_end_is_refused(importing: Importing, seconds: int, nanos: int) -> None:
    changed = pb.ImportMaterialRequest.FromString(importing.token)
    changed.expire_time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    assert importing.refuses(changed.SerializeToString(deterministic=True))


@pytest.mark.parametrize("field", ["public_key", "wrapped_private_key", "seal"])
@pytest.mark.parametrize("content", [b"", b"x", bytes(100_000)])
def test_other_parts_are_refused(importing: Importing, field: str, content: bytes) -> None:
    changed = pb.ImportMaterialRequest.FromString(importing.token)
    setattr(changed, field, content)
    assert importing.refuses(changed.SerializeToString(deterministic=True))
