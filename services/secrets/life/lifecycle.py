"""What callers change of secrets and versions: descriptions, stages, whether a value is served, and deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.requests.names import ResourceName
from services.runtime.storage.editing import UNCHANGED, Unchanged, require_current
from services.runtime.storage.request_ids import Repeatable
from services.secrets.core import changes, store
from services.secrets.core.editing import REQUEST_IDS, SecretEditor, require_no_rotation
from services.secrets.core.model import CURRENT, PREVIOUS, Secret, Version
from services.secrets.core.stages import OWN_STAGES, check_stage_count, outlived
from services.secrets.core.states import SecretEvent, VersionEvent, next_state, next_version_state, no_version
from services.secrets.kinds.known import declaration_of
from services.secrets.life.binding import PairPermissions
from services.secrets.rotation import transitions
from services.secrets.rotation.policy import next_due_us, require_outlives
from services.secrets.rotation.targets.access import TargetAccess
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.values.vault import StagedVersion
from strongroom.secrets.v1.secret_pb2 import SECRET_VERSION_STATE_DISABLED, SECRET_VERSION_STATE_ENABLED
from strongroom.secrets.v1.secret_service_pb2 import SECRET_CHANGE_VERSION_DISABLED, SECRET_CHANGE_VERSION_ENABLED

SECOND_US = 1_000_000
# Fields whose change is permitted by itself; UpdateSecret permits the others.
_OWN_ACTIONS = {"tags": "secrets:TagSecret", "allowed_destinations": "secrets:UpdateAllowedDestinations"}

Move = Callable[[Connection, Secret, Version, int], tuple[Version, Secret]]
"""Writes a version in its new state at a time in microseconds; the version and its secret as they are then."""


@dataclass(frozen=True, slots=True)
class SecretUpdate:
    """What a caller wants changed: fields of `Secret` by their names."""

    name: ResourceName
    fields: Mapping[str, Any]
    etag: str = ""


@dataclass(frozen=True, slots=True)
class StageMove:
    """Which stage goes where. Versions are numbers; 0 stands for none."""

    stage: str
    to_version: int
    from_version: int


class Lifecycle:
    """Changes of secrets. Every method raises PERMISSION_DENIED, SECRET_NOT_FOUND, and SECRET_PENDING_DELETION where
    the secret's state does not allow it (`states`)."""

    def __init__(self, editor: SecretEditor, access: TargetAccess, rules: TargetRules) -> None:
        self._editor = editor
        self._access = access
        self._rules = rules
        self._pairs = PairPermissions(editor, access)

    def update(self, call: Call, wanted: SecretUpdate, *, dry_run: bool = False, check_target: bool = True) -> Secret:
        """Changes fields of a secret. Raises ETAG_MISMATCH, FIELD_INVALID for a target of another kind,
        ROTATION_ACTIVE, LIMIT_EXCEEDED, and what the target says."""
        _, before = [self._editor.permitted(call, action, wanted.name) for action in _actions(wanted.fields)][-1]
        untags = _untags(before, wanted)
        if untags:
            self._editor.permitted(call, "secrets:UntagSecret", wanted.name)
        if "target" in wanted.fields:
            self._rules.check(before.type, wanted.fields["target"], wanted.name.account)
        changed = _updated(before, wanted)
        bound = self._pairs.permit(call, changed, before)
        if "target" in wanted.fields and check_target:
            self._check_target(call, changed)
        if dry_run:
            return changed

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret:
            updated = _updated(secret, wanted)
            if _untags(secret, wanted) and not untags:
                # Permission was asked for the tags that it had then.
                raise StrongroomError(Reason.OVERLOADED, f"{secret.name} was changed by another call: try again")
            oldest = outlived(sorted(updated.standing), updated.stages, updated.retained_versions)
            left = store.destroy_values(connection, updated, oldest, now_us)
            return replace(left, target_binding=bound.record) if bound.record is not None else left

        return self._editor.edit(call, wanted.name, change, bound.permitted)

    def move_stage(self, call: Call, name: ResourceName, move: StageMove) -> Secret:
        """Moves, adds or removes a stage. Raises STAGE_CONFLICT, ROTATION_ACTIVE, SECRET_VERSION_NOT_FOUND,
        SECRET_VERSION_DISABLED, SECRET_VERSION_DESTROYED, LIMIT_EXCEEDED."""

        def change(connection: Connection, secret: Secret, _now_us: int) -> Secret | Unchanged:
            moved = _moved(connection, secret, move)
            return UNCHANGED if moved.stages == secret.stages else moved

        _, before = self._editor.permitted(call, "secrets:UpdateSecretVersionStage", name)
        with self._editor.reading() as connection:
            wanted = _moved(connection, before, move)
        # A version that comes to be sent to the target, or lent to other secrets, is for who can read it.
        bound = self._pairs.permit(call, wanted, before)
        return self._editor.edit(call, name, change, bound.permitted)

    def permit_choice(self, call: Call, secret: Secret) -> None:
        """Raises as `PairPermissions.permit_choice`."""
        self._pairs.permit_choice(call, secret)

    def enable_version(self, call: Call, name: ResourceName) -> StagedVersion:
        """Serves a version's value again. Raises SECRET_VERSION_NOT_FOUND, SECRET_VERSION_DESTROYED."""
        return self._serve(call, "secrets:EnableSecretVersion", name, VersionEvent.ENABLE)

    def disable_version(self, call: Call, name: ResourceName, comment: str) -> StagedVersion:
        """Stops serving a version's value. Raises as `enable_version`."""
        return self._serve(call, "secrets:DisableSecretVersion", name, VersionEvent.DISABLE, comment)

    def destroy_version(self, call: Call, name: ResourceName, comment: str) -> StagedVersion:
        """Destroys a version's value for good. Raises SECRET_VERSION_NOT_FOUND, ROTATION_ACTIVE, RESOURCE_IN_USE."""

        def destroy(connection: Connection, secret: Secret, version: Version, now_us: int) -> tuple[Version, Secret]:
            if OWN_STAGES & set(secret.stages_of(name.version)):
                require_no_rotation(secret)
            if secret.stages.get(CURRENT) == name.version:
                _require_unused(connection, secret)
            left = store.destroy_values(connection, secret, [name.version], now_us)
            return replace(version, destroyed_us=now_us), left

        return self._move_version(
            call, "secrets:DestroySecretVersion", name, VersionEvent.DESTROY, destroy, comment=comment
        )

    def delete(
        self, call: Call, name: ResourceName, window_s: int, etag: str, repeatable: Repeatable | None = None
    ) -> Secret:
        """Stops every reading, ends a rotation, and plans the destruction. Raises ETAG_MISMATCH, RESOURCE_IN_USE,
        REQUEST_ID_REUSED."""

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret | Unchanged:
            if _done_before(connection, name, repeatable, now_us):
                return UNCHANGED
            _require_etag(secret, etag)
            state = next_state(secret, SecretEvent.DELETE)
            _require_unused(connection, secret)
            left = transitions.abandon(connection, secret, now_us)
            return replace(left, state=state, delete_us=now_us + window_s * SECOND_US, next_rotate_us=None)

        return self._editor.permitted_edit(call, "secrets:DeleteSecret", name, change)

    def force_delete(self, call: Call, name: ResourceName, etag: str, repeatable: Repeatable | None = None) -> Secret:
        """Destroys every value at once. Raises as `delete`."""

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret | Unchanged:
            if _done_before(connection, name, repeatable, now_us):
                return UNCHANGED
            _require_etag(secret, etag)
            _require_unused(connection, secret)
            return _destroyed(connection, secret, now_us)

        return self._editor.permitted_edit(call, "secrets:ForceDeleteSecret", name, change)

    def restore(self, call: Call, name: ResourceName) -> Secret:
        """Takes a planned deletion back. Raises SECRET_STATE_INVALID."""

        def change(_connection: Connection, secret: Secret, _now_us: int) -> Secret:
            state = next_state(secret, SecretEvent.RESTORE)
            last_us = secret.last_rotate_us or secret.created_us
            next_us = next_due_us(secret.rotation_policy, last_us)
            return replace(secret, state=state, delete_us=None, next_rotate_us=next_us)

        return self._editor.permitted_edit(call, "secrets:RestoreSecret", name, change)

    def destroy_due(self, call: Call, name: ResourceName) -> None:
        """Destroys every value when the secret's time has come; leaves it alone otherwise."""

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret | Unchanged:
            if secret.delete_us is None or secret.delete_us > now_us:
                return UNCHANGED
            return _destroyed(connection, secret, now_us)

        self._editor.edit(call, name, change)

    def _serve(
        self, call: Call, action: str, name: ResourceName, event: VersionEvent, comment: str = ""
    ) -> StagedVersion:
        def serve(connection: Connection, secret: Secret, version: Version, now_us: int) -> tuple[Version, Secret]:
            disabled = version.state == SECRET_VERSION_STATE_DISABLED
            changed = replace(version, disabled_us=now_us if disabled else None)
            return changed, store.update_version(connection, secret, changed)

        return self._move_version(call, action, name, event, serve, comment=comment)

    def _move_version(
        self, call: Call, action: str, name: ResourceName, event: VersionEvent, move: Move, *, comment: str
    ) -> StagedVersion:
        """Takes a version to the state that follows the event; `move` writes it where that is another one."""
        recorded, _ = self._editor.permitted(call, action, name.without_version)
        recorded.secret_version = str(name)
        if comment:
            recorded.attributes["comment"] = comment
        versions: list[Version] = []

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret | Unchanged:
            next_state(secret, SecretEvent.CHANGE)
            version = _version(connection, secret, name.version)
            state = next_version_state(version, event)
            if state == version.state:
                versions.append(version)
                return UNCHANGED
            moved, left = move(connection, secret, replace(version, state=state), now_us)
            versions.append(moved)
            enabled = state == SECRET_VERSION_STATE_ENABLED
            kind = SECRET_CHANGE_VERSION_ENABLED if enabled else SECRET_CHANGE_VERSION_DISABLED
            changes.note(connection, secret.name, kind, name.version, secret.stages, now_us)
            return left

        secret = self._editor.edit(call, name.without_version, change)
        return StagedVersion(versions[-1], secret.stages_of(name.version))

    def _check_target(self, call: Call, secret: Secret) -> None:
        if declaration_of(secret).target is not None:
            self._access.check_current(call, secret)


def _moved(connection: Connection, secret: Secret, move: StageMove) -> Secret:
    next_state(secret, SecretEvent.CHANGE)
    if move.stage in OWN_STAGES:
        require_no_rotation(secret)
    present = secret.stages.get(move.stage, 0)
    if present != move.from_version:
        where = f"is at version {present}" if present else "is at no version"
        raise StrongroomError(Reason.STAGE_CONFLICT, f"{move.stage} {where}", stage=move.stage)
    if move.to_version == present:
        return secret
    at = dict(secret.stages)
    if not move.to_version:
        del at[move.stage]
        return replace(secret, stages=at)
    next_version_state(_version(connection, secret, move.to_version), VersionEvent.STAGE)
    if move.stage == CURRENT and present:
        at[PREVIOUS] = present
    at[move.stage] = move.to_version
    check_stage_count(at)
    return replace(secret, stages=at)


def _actions(fields: Mapping[str, Any]) -> list[str]:
    actions = [action for field, action in _OWN_ACTIONS.items() if field in fields]
    if fields.keys() - _OWN_ACTIONS.keys() or not actions:
        actions.append("secrets:UpdateSecret")
    return actions


def _untags(secret: Secret, wanted: SecretUpdate) -> bool:
    """Whether it takes a tag away."""
    return bool(secret.tags.keys() - wanted.fields.get("tags", secret.tags).keys())


def _updated(secret: Secret, wanted: SecretUpdate) -> Secret:
    _require_etag(secret, wanted.etag)
    next_state(secret, SecretEvent.CHANGE)
    if wanted.fields.keys() & {"target", "password_rule"}:
        require_no_rotation(secret)
    target = wanted.fields.get("target")
    if target is not None and secret.target is not None:
        if target.WhichOneof("kind") != secret.target.WhichOneof("kind"):
            raise invalid("secret.target", "cannot become of another kind")
        if target.database.strategy != secret.target.database.strategy:
            raise invalid("secret.target.database.strategy", "cannot be changed")
    updated = replace(secret, **wanted.fields)
    if wanted.fields.keys() & {"target", "grace_period_s"}:
        require_outlives(updated)
    return updated


def _done_before(connection: Connection, name: ResourceName, repeatable: Repeatable | None, now_us: int) -> bool:
    """Whether the same request did it already; else it is remembered."""
    if REQUEST_IDS.made_before(connection, name.account, repeatable, now_us) is not None:
        return True
    REQUEST_IDS.remember(connection, name.account, repeatable, str(name), now_us)
    return False


def _require_etag(secret: Secret, etag: str) -> None:
    require_current(secret.name, secret.revision, etag)


def _require_unused(connection: Connection, secret: Secret) -> None:
    users = [other for other in store.users_of_master(connection, secret.name) if other != secret.name.id]
    if users:
        raise StrongroomError(
            Reason.RESOURCE_IN_USE, f"{secret.name} is the master secret of {', '.join(users)}", field="name"
        )


def _destroyed(connection: Connection, secret: Secret, now_us: int) -> Secret:
    state = next_state(secret, SecretEvent.FORCE_DELETE)
    left = transitions.abandon(connection, secret, now_us)
    left = store.destroy_values(connection, left, left.standing, now_us)
    return replace(left, state=state, delete_us=None, next_rotate_us=None, stages={})


def _version(connection: Connection, secret: Secret, number: int) -> Version:
    found = store.version(connection, secret, number)
    if found is None:
        raise no_version(secret.version_name(number))
    return found
