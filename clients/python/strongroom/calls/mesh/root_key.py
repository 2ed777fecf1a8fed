"""The root key of the mesh, for its administrators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from strongroom.calls.base import Part, new_request_id
from strongroom.convert import enum_text, moment
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1 import root_key_pb2
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.names import Names
from strongroom.transport import Answer, Transport


@dataclass(frozen=True, slots=True)
class RootKeyVersion:
    """One version of the root key. `state` is CURRENT, UNWRAP_ONLY or RETIRED."""

    version: int
    state: str
    blob_count: int
    create_time: datetime | None
    retire_time: datetime | None


@dataclass(frozen=True, slots=True)
class RootKeyRotation:
    """A rotation that runs, or the last one. `state` is RUNNING, STALLED or DONE."""

    target_version: int
    state: str
    total_count: int
    done_count: int
    failed_count: int
    last_error_reason: str
    last_error_detail: str
    start_time: datetime | None
    progress_time: datetime | None
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class RootKeyStatus:
    """The root key: who holds it, its versions, oldest first, and its rotation, None where there was none."""

    provider: str
    current_version: int
    versions: Sequence[RootKeyVersion]
    rotation: RootKeyRotation | None
    event_id: str = ""


class RootKey(Part[KeyServiceStub]):
    """The root key, for administrators of the mesh. Its calls raise CRYPTO_UNREACHABLE, AUDIT_UNREACHABLE."""

    @classmethod
    def of(cls, transport: Transport, names: Names) -> Self:
        """The root key of the mesh that `transport` connects to."""
        return cls(transport.endpoint("keystore", KeyServiceStub), names)

    def rotate(self, *, timeout: float | None = None) -> RootKeyStatus:
        """Makes a new version and begins to wrap everything under it, in the background; resumes what is stalled."""
        request = pb.RotateRootKeyRequest(request_id=new_request_id())
        return _status(self._service.call(self._service.stub.RotateRootKey, request, timeout))

    def get_status(self, *, timeout: float | None = None) -> RootKeyStatus:
        """Answers the root key's versions, and how far its rotation is."""
        request = pb.GetRootKeyStatusRequest()
        return _status(self._service.call(self._service.stub.GetRootKeyStatus, request, timeout))


def _status(answer: Answer[root_key_pb2.RootKeyStatus]) -> RootKeyStatus:
    found = answer.response
    return RootKeyStatus(
        provider=found.provider,
        current_version=found.current_version,
        versions=[
            RootKeyVersion(
                version=version.version,
                state=enum_text(root_key_pb2.RootKeyVersionState, "ROOT_KEY_VERSION_STATE_", version.state),
                blob_count=version.blob_count,
                create_time=moment(version.create_time),
                retire_time=moment(version.retire_time),
            )
            for version in found.versions
        ],
        rotation=_rotation(found.rotation) if found.HasField("rotation") else None,
        event_id=answer.event_id,
    )


def _rotation(rotation: root_key_pb2.RootKeyRotation) -> RootKeyRotation:
    return RootKeyRotation(
        target_version=rotation.target_version,
        state=enum_text(root_key_pb2.RootKeyRotationState, "ROOT_KEY_ROTATION_STATE_", rotation.state),
        total_count=rotation.total_count,
        done_count=rotation.done_count,
        failed_count=rotation.failed_count,
        last_error_reason=rotation.last_error_reason,
        last_error_detail=rotation.last_error_detail,
        start_time=moment(rotation.start_time),
        progress_time=moment(rotation.progress_time),
        end_time=moment(rotation.end_time),
    )
