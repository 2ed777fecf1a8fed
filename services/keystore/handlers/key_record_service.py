"""`KeyRecordService`: what the mesh reads of keys, each answer as of one revision."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, Engine

from services.keystore.access.records import store as access_store
from services.keystore.keys import message_limit
from services.keystore.keys.editing import not_found
from services.keystore.keys.key_versions import found_version
from services.keystore.store import changes, store
from services.keystore.store.destroyed import Destroyed, ids_of
from services.keystore.store.model import Key, Version
from services.runtime.call import Call
from services.runtime.changes import LATEST, Change, Changes
from services.runtime.clock import Clock, from_microseconds
from services.runtime.errors import Reason, StrongroomError, invalid, required, too_large
from services.runtime.requests import names
from services.runtime.storage.database import reading, transaction
from strongroom.access.v1.access_record_service_pb2 import PolicyRecord
from strongroom.keystore.v1 import key_record_service_pb2 as pb
from strongroom.keystore.v1.key_pb2 import KEY_VERSION_STATE_DESTROYED

log = logging.getLogger(__name__)

_UID_BYTES = 16
_DEFAULT_LIMIT = 1_000
_LARGEST_LIMIT = 10_000
_MAX_USAGES = 1_000
_MAX_MESSAGES = 1 << 20
_OF_NO_KEY = [(store.NO_UID, 0)]


class KeyRecordService:
    """Handlers of the internal service."""

    def __init__(self, engine: Engine, destroyed: Destroyed, clock: Clock) -> None:
        self._engine = engine
        self._destroyed = destroyed
        self._clock = clock

    def GetKeyRecord(self, request: pb.GetKeyRecordRequest, call: Call) -> pb.KeyRecordResponse:
        """Everything that is needed to use a key. One that there is not takes as long: who may not use it learns no
        more by it."""
        del call
        if not request.WhichOneof("lookup"):
            raise required("lookup")
        by_uid = request.WhichOneof("lookup") == "uid"
        if by_uid and len(request.uid) != _UID_BYTES:
            raise invalid("uid", f"is not {_UID_BYTES} bytes")
        name = None if by_uid else names.parse(request.name, "name", "keys", "aliases")
        with reading(self._engine) as connection:
            as_of_revision = changes.current(connection)
            key = store.key_by_uid(connection, request.uid) if name is None else store.key(connection, name)
            found = store.versions(connection, key.uid if key is not None else store.NO_UID)
            policies = access_store.resource_policies(connection, str(key.name) if key is not None else "")
        versions = self._not_put_back(key, found)
        if key is None:
            raise _unknown_uid() if name is None else not_found(name)
        return pb.KeyRecordResponse(record=_record(key, versions, policies), as_of_revision=as_of_revision)

    def ReportUsage(self, request: pb.ReportUsageRequest, call: Call) -> pb.ReportUsageResponse:
        """Messages that a worker may encrypt, counted before it does."""
        del call
        if not request.usages:
            raise required("usages")
        if len(request.usages) > _MAX_USAGES:
            raise too_large("usages", _MAX_USAGES, "entries")
        with transaction(self._engine) as connection:
            return pb.ReportUsageResponse(allowances=[self._granted(connection, usage) for usage in request.usages])

    def ListChanges(self, request: pb.ListChangesRequest, call: Call) -> pb.ListChangesResponse:
        """What changed since a revision."""
        del call
        if request.since < LATEST:
            raise invalid("since", "is less than -1")
        if not 0 <= request.limit <= _LARGEST_LIMIT:
            raise invalid("limit", f"is not between 0 and {_LARGEST_LIMIT}")
        told = self._since(request.since, request.limit or _DEFAULT_LIMIT)
        return pb.ListChangesResponse(
            changes=map(_change, told.changes), revision=told.revision, more=told.more, start_over=told.start_over
        )

    def changes(self, since: int, /, *, timeout: float) -> Changes:
        """What changed since a revision, for this process's own change feed; reading the database has a time limit of
        its own."""
        del timeout
        return self._since(since, _DEFAULT_LIMIT)

    def _since(self, since: int, limit: int) -> Changes:
        return changes.since(self._engine, since, limit)

    def _not_put_back(self, key: Key | None, versions: Sequence[Version]) -> list[Version]:
        """The versions; those that were destroyed as such, whatever the database has of them."""
        gone = set(self._destroyed.among(ids_of(version for version in versions if version.wrapped) or _OF_NO_KEY))
        for uid, number in gone:
            said = {"key": str(key.name) if key is not None else "", "uid": uid.hex(), "version": number}
            log.warning(
                "a key version that was destroyed is in the database again; it stays destroyed", extra={"fields": said}
            )
        return [
            version.destroyed(KEY_VERSION_STATE_DESTROYED, 0) if (version.uid, version.version) in gone else version
            for version in versions
        ]

    def _granted(self, connection: Connection, usage: pb.VersionUsage) -> pb.VersionAllowance:
        if not 0 < usage.message_count <= _MAX_MESSAGES:
            raise invalid("usages.message_count", f"is not between 1 and {_MAX_MESSAGES}")
        key = store.key_by_uid(connection, usage.key_uid)
        if key is None:
            raise _unknown_uid()
        version = found_version(connection, key, usage.version, lock=True)
        granted = message_limit.reserve(connection, key, version, usage.message_count, self._clock.now_us())
        return pb.VersionAllowance(key_uid=key.uid, version=version.version, granted_count=granted)


def _unknown_uid() -> StrongroomError:
    return StrongroomError(Reason.KEY_NOT_FOUND, "there is no key of this uid", field="uid")


def _moment(us: int | None) -> Timestamp | None:
    return None if us is None else from_microseconds(us)


def _record(key: Key, versions: Iterable[Version], policies: Iterable[PolicyRecord]) -> pb.KeyRecord:
    return pb.KeyRecord(
        uid=key.uid,
        name=str(key.name),
        account=key.name.account,
        spec=key.spec,
        usage=key.usage,
        protection_level=key.protection_level,
        state=key.state,
        primary_version=key.primary_version,
        versions=[
            pb.VersionRecord(
                version=version.version,
                state=version.state,
                wrapped_material=version.wrapped,
                public_key=version.public_key,
                expire_time=_moment(version.expires_us),
                retire_time=_moment(version.retired_us),
            )
            for version in versions
        ],
        tags=key.tags,
        resource_policies=policies,
        revision=key.revision,
    )


def _change(change: Change) -> pb.Change:
    return pb.Change(
        revision=change.revision,
        resource=change.resource,
        kind=pb.ChangeKind.ValueType(change.kind),
        account=change.account,
        key_uid=change.key_uid,
    )
