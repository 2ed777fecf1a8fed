"""Rotation of the root key: a new version, every blob wrapped under it, and the old versions retired.

The rotation is one row of the database, sealed. Every batch of blobs moves in one transaction with the row's cursor, so
it goes on where it was after any interruption, on whichever replica.

An old version is retired only after a pass over every blob there should be, in which crypto opened each and found it
under the new one: what the database says of them is not asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine

from services.keystore.keys.editing import REQUEST_IDS
from services.keystore.keys.material import CryptoMaterial, Rewrapped
from services.keystore.mesh import mesh_resource
from services.keystore.root_key import store
from services.keystore.root_key.service_keys import ServiceKeys
from services.keystore.root_key.store import Rotation
from services.keystore.store import changes
from services.keystore.store.destroyed import Destroyed, ids_of
from services.keystore.store.model import Key, Version
from services.runtime.access.authorization import Authorizer
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from strongroom.crypto.v1.material_pb2 import GetRootStatusResponse
from strongroom.keystore.v1 import root_key_pb2 as pb
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY

_BATCH = 200
_MAX_DETAIL = 1_024
_PUT_BACK = Rewrapped(b"", reason=Reason.KEY_MATERIAL_REFUSED, message="it was destroyed, and put back")


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of the root key."""

    provider: GetRootStatusResponse
    retirements: Mapping[int, int | None]
    """Root versions that rotations know, with the times when they were retired."""
    blob_counts: Mapping[int, int]
    rotation: Rotation | None


class RootKey:
    """The root key of the mesh, which is the business of one account: the one that keystore was set up with.

    `settle_seconds`: how long after the last blob moved old versions are retired, so that every worker of crypto knows
    the new version, and nothing that is under an old one is on its way.
    """

    def __init__(
        self,
        engine: Engine,
        material: CryptoMaterial,
        service_keys: ServiceKeys,
        destroyed: Destroyed,
        authorizer: Authorizer,
        outbox: Outbox,
        account: str,
        settle_seconds: float,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._material = material
        self._service_keys = service_keys
        self._destroyed = destroyed
        self._authorizer = authorizer
        self._outbox = outbox
        self._resource = mesh_resource(account)
        self._settle_us = int(settle_seconds * 1_000_000)
        self._clock = clock

    def status(self, call: Call) -> Status:
        """How it stands. Raises PERMISSION_DENIED, CRYPTO_UNREACHABLE, AUDIT_UNREACHABLE."""
        self._authorizer.authorize(call, "keystore:GetRootKeyStatus", self._resource)
        return self._status()

    def rotate(self, call: Call, repeatable: Repeatable | None = None) -> Status:
        """Begins a rotation, or resumes one that is stalled; one that runs goes on. The same request again changes
        nothing, however the rotation has come on. Raises PERMISSION_DENIED, REQUEST_ID_REUSED, CRYPTO_UNREACHABLE,
        AUDIT_UNREACHABLE, PROVIDER_UNAVAILABLE."""
        self._authorizer.authorize(call, "keystore:RotateRootKey", self._resource)
        with reading(self._engine) as connection:
            made_before = self._made_before(connection, repeatable)
            rotation = store.rotation(connection)
        if made_before:
            return self._status()
        if rotation in (None, store.REFUSED) or rotation.state == pb.ROOT_KEY_ROTATION_STATE_DONE:
            self._begin(call, repeatable)
            return self._status()
        stalled = rotation.state == pb.ROOT_KEY_ROTATION_STATE_STALLED
        if stalled or repeatable is not None:
            with transaction(self._engine) as connection:
                if not self._made_before(connection, repeatable):
                    if stalled:
                        store.put_rotation(connection, self._resumed(rotation))
                    self._remember(connection, repeatable, rotation)
                    self._outbox.put(connection, call)
        return self._status()

    def is_rotating(self) -> bool:
        """Whether there is work for `work`."""
        with reading(self._engine) as connection:
            rotation = store.rotation(connection)
        return rotation is not None and rotation.state == pb.ROOT_KEY_ROTATION_STATE_RUNNING

    def is_overdue(self, before_us: int) -> bool:
        """Whether it runs and nothing came of it since then."""
        with reading(self._engine) as connection:
            rotation = store.rotation(connection)
        running = rotation is not None and rotation.state == pb.ROOT_KEY_ROTATION_STATE_RUNNING
        return rotation is not None and running and rotation.progressed_us < before_us

    def work(self, seconds: float) -> None:
        """Goes on with a rotation for about so long. Raises what is worth trying again, after noting it."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until and self._advance():
                pass
        except StrongroomError as error:
            self._note_error(error)
            raise

    def _made_before(self, connection: Connection, repeatable: Repeatable | None) -> bool:
        account, now_us = self._resource.account, self._clock.now_us()
        return REQUEST_IDS.made_before(connection, account, repeatable, now_us) is not None

    def _remember(self, connection: Connection, repeatable: Repeatable | None, rotation: Rotation) -> None:
        made = f"{self._resource.name}/rootKey/versions/{rotation.target_version}"
        REQUEST_IDS.remember(connection, self._resource.account, repeatable, made, self._clock.now_us())

    def _begin(self, call: Call, repeatable: Repeatable | None) -> None:
        versions = [version.version for version in self._material.root_status().versions]
        with transaction(self._engine) as connection:
            for version in versions:
                store.add_version(connection, version)
        target = self._material.rotate_root(versions[-1])
        service_keys = self._service_keys.count_below(target)
        with transaction(self._engine) as connection:
            if self._made_before(connection, repeatable):
                return
            now_us = self._clock.now_us()
            total = service_keys + sum(
                count for version, count in store.blob_counts(connection).items() if version < target
            )
            store.add_version(connection, target)
            begun = Rotation(target, pb.ROOT_KEY_ROTATION_STATE_RUNNING, total, now_us, now_us, pass_us=now_us)
            store.put_rotation(connection, begun)
            self._remember(connection, repeatable, begun)
            self._outbox.put(connection, call)

    def _advance(self) -> bool:
        """One step. False when there is nothing to do for now."""
        with reading(self._engine) as connection:
            rotation = store.rotation(connection)
            if rotation is None or rotation.state != pb.ROOT_KEY_ROTATION_STATE_RUNNING:
                return False
            found = store.blobs_after(connection, rotation, _BATCH)
            if not found:
                store.require_versions(connection)
        if found:
            self._move(found, rotation)
            return True
        moved = self._service_keys.rewrap_below(rotation.target_version, _BATCH)
        if moved:
            self._progress(moved)
            return True
        if rotation.failed_count:
            return self._end_pass()
        settled_us = rotation.progressed_us + self._settle_us
        if self._clock.now_us() < settled_us:
            return False
        if rotation.pass_us < settled_us:
            self._begin_pass()
            return True
        return self._finish(rotation.target_version)

    def _move(self, found: list[tuple[Key, Version]], seen: Rotation) -> None:
        outcomes = self._rewrapped(found)
        with transaction(self._engine) as connection:
            rotation = _running(store.rotation(connection, lock=True))
            if _place(rotation) != _place(seen):
                # Another replica was quicker.
                return
            done = failed = late = 0
            moved: dict[bytes, Key] = {}
            for (key, version), outcome in zip(found, outcomes, strict=True):
                if not outcome.wrapped:
                    failed += 1
                    rotation = replace(
                        rotation,
                        error_reason=outcome.reason,
                        error_detail=f"{key.version_name(version.version)}: {outcome.message}"[:_MAX_DETAIL],
                    )
                elif outcome.root_version < rotation.target_version:
                    # By a worker that does not know of the new version yet: it is for the next pass.
                    late += 1
                elif (outcome.wrapped, outcome.root_version) != (version.wrapped, version.root_version):
                    done += 1
                    if store.replace_blob(connection, version, outcome.wrapped, outcome.root_version):
                        moved[key.uid] = key
            for key in moved.values():
                # Workers drop what they know of the key, the old blob with it.
                changes.note(connection, CHANGE_KIND_KEY, str(key.name), key.name.account, key.uid)
            last = found[-1][1]
            rotation = replace(
                rotation,
                done_count=rotation.done_count + done,
                failed_count=rotation.failed_count + failed,
                cursor_uid=last.uid,
                cursor_version=last.version,
                progressed_us=self._clock.now_us() if done or late else rotation.progressed_us,
            )
            store.put_rotation(connection, rotation)

    def _rewrapped(self, found: list[tuple[Key, Version]]) -> list[Rewrapped]:
        """What crypto makes of blobs; of one that was destroyed and put back, nothing."""
        gone = set(self._destroyed.among(ids_of(version for _, version in found)))
        kept = [(key, version) for key, version in found if (version.uid, version.version) not in gone]
        made = iter(self._material.rewrap(kept) if kept else ())
        return [_PUT_BACK if (version.uid, version.version) in gone else next(made) for _, version in found]

    def _end_pass(self) -> bool:
        """Begins another pass after one in which something was refused; stalls when nothing moved in it either."""
        with transaction(self._engine) as connection:
            rotation = _running(store.rotation(connection, lock=True))
            refused = rotation.progressed_us < rotation.pass_us
            stalled = replace(rotation, state=pb.ROOT_KEY_ROTATION_STATE_STALLED)
            store.put_rotation(connection, stalled if refused else self._new_pass(rotation))
        return not refused

    def _begin_pass(self) -> None:
        with transaction(self._engine) as connection:
            store.put_rotation(connection, self._new_pass(_running(store.rotation(connection, lock=True))))

    def _progress(self, moved: int) -> None:
        with transaction(self._engine) as connection:
            rotation = _running(store.rotation(connection, lock=True))
            now_us = self._clock.now_us()
            rotation = replace(rotation, done_count=rotation.done_count + moved, progressed_us=now_us)
            store.put_rotation(connection, rotation)

    def _finish(self, target: int) -> bool:
        with reading(self._engine) as connection:
            known = set(store.retirements(connection))
        # Those that crypto has, whatever stands here.
        known.update(version.version for version in self._material.root_status().versions)
        for version in sorted(version for version in known if version < target):
            try:
                with transaction(self._engine) as connection:
                    store.add_version(connection, version)
                    store.retire(connection, version, self._clock.now_us())
            except store.BlobsLeftError:
                # One came in after the pass had come by.
                self._begin_pass()
                return True
            self._material.retire_root(version)
        with transaction(self._engine) as connection:
            rotation = _running(store.rotation(connection, lock=True))
            done = replace(
                rotation,
                state=pb.ROOT_KEY_ROTATION_STATE_DONE,
                error_reason="",
                error_detail="",
                ended_us=self._clock.now_us(),
            )
            store.put_rotation(connection, done)
        return False

    def _note_error(self, error: StrongroomError) -> None:
        # What crypto does not open does not open by trying again.
        stalled = error.reason in (Reason.KEY_MATERIAL_REFUSED, Reason.AUDIT_RECORD_REFUSED)
        with transaction(self._engine) as connection:
            rotation = _running(store.rotation(connection, lock=True))
            rotation = replace(rotation, error_reason=error.reason, error_detail=error.message[:_MAX_DETAIL])
            if stalled:
                rotation = replace(rotation, state=pb.ROOT_KEY_ROTATION_STATE_STALLED)
            store.put_rotation(connection, rotation)

    def _new_pass(self, rotation: Rotation) -> Rotation:
        return replace(rotation, failed_count=0, cursor_uid=b"", cursor_version=0, pass_us=self._clock.now_us())

    def _resumed(self, rotation: Rotation) -> Rotation:
        running = replace(rotation, state=pb.ROOT_KEY_ROTATION_STATE_RUNNING, error_reason="", error_detail="")
        return self._new_pass(running)

    def _status(self) -> Status:
        provider = self._material.root_status()
        with reading(self._engine) as connection:
            retirements = store.retirements(connection)
            counts = dict(store.blob_counts(connection))
            rotation = store.rotation(connection)
        below = 0
        for version in provider.versions:
            up_to = self._service_keys.count_below(version.version + 1)
            counts[version.version] = counts.get(version.version, 0) + up_to - below
            below = up_to
        return Status(provider, retirements, counts, rotation)


def _running(rotation: Rotation | None) -> Rotation:
    if rotation is None or rotation.state != pb.ROOT_KEY_ROTATION_STATE_RUNNING:
        raise StrongroomError(Reason.ROOT_VERSION_CONFLICT, "the rotation of the root key does not run any more")
    return rotation


def _place(rotation: Rotation) -> tuple[int, bytes, int]:
    """Where a pass is."""
    return rotation.pass_us, rotation.cursor_uid, rotation.cursor_version
