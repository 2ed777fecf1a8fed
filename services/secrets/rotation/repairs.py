"""Repair: which credential logs in, and what puts secret and target back in step.

For a target that was restored from a backup or changed by hand, and for a rotation that cannot go on.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.secrets.core import store
from services.secrets.core.editing import SecretEditor, write
from services.secrets.core.model import CURRENT, PENDING, PREVIOUS, Rotation, Secret
from services.secrets.core.states import SecretEvent, next_state, no_secret
from services.secrets.kinds.known import declaration_of
from services.secrets.own_calls import unrecorded_call
from services.secrets.rotation import transitions
from services.secrets.rotation.requests import Rotations
from services.secrets.rotation.rotators.failures import is_of_the_mesh
from services.secrets.rotation.rotators.rotator import Credential, Rotator
from services.secrets.rotation.states import RotationEvent
from services.secrets.rotation.targets.access import Credentials, Step, TargetAccess, without_credentials
from strongroom.secrets.v1.secret_service_pb2 import (
    REPAIR_ACTION_IMPOSSIBLE,
    REPAIR_ACTION_NONE,
    REPAIR_ACTION_PROMOTE_PENDING,
    REPAIR_ACTION_RETURN_TO_PREVIOUS,
    REPAIR_ACTION_SET_CURRENT,
    RepairAction,
)

MASTER = "master"


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one credential logs in."""

    credential: str
    """`Pending`, `Current`, `Previous` or `master`."""
    version: str
    accepted: bool
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found, and what was done or would be."""

    secret: Secret
    checks: list[Check]
    action: RepairAction.ValueType


class Repairs:
    """Repairs of secrets with a target."""

    def __init__(
        self,
        engine: Engine,
        editor: SecretEditor,
        access: TargetAccess,
        rotations: Rotations,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._editor = editor
        self._access = access
        self._rotations = rotations
        self._outbox = outbox
        self._clock = clock

    def repair(self, call: Call, name: ResourceName, *, dry_run: bool) -> Repair:
        """Tries every credential, and then does what helps. Raises ROTATION_UNSUPPORTED, TARGET_UNREACHABLE,
        REPAIR_IMPOSSIBLE, and what the target says."""
        _, secret = self._editor.permitted(call, "secrets:RepairSecret", name)
        next_state(secret, SecretEvent.CHANGE)
        if declaration_of(secret).target is None:
            raise StrongroomError(Reason.ROTATION_UNSUPPORTED, f"{name} has no target")
        with self._access.asked_by(call, secret) as until:
            return self._repair(call, secret, until, dry_run=dry_run)

    def _repair(self, call: Call, secret: Secret, until: float | None, *, dry_run: bool) -> Repair:
        name, rotator = secret.name, self._access.rotator(secret.type)
        fenced = None
        if secret.active_rotation and not dry_run:
            secret, fenced = self._rotations.fence(name, RotationEvent.ABANDON)
        known = self._access.credentials(
            unrecorded_call("RepairSecret"),
            secret,
            Step(fencing_token=fenced.fencing_token if fenced else 0, until=until),
            pending=secret.stages.get(PENDING, 0),
            current=secret.stages.get(CURRENT, 0),
            previous=secret.stages.get(PREVIOUS, 0),
        )
        checks = _checks(rotator, known)
        action = _action(checks)
        if dry_run:
            return Repair(secret, checks, action)
        if action == REPAIR_ACTION_IMPOSSIBLE:
            raise StrongroomError(Reason.REPAIR_IMPOSSIBLE, f"no credential of {name} logs in")
        with without_credentials(known):
            _put_target_in_step(rotator, known, action)
        return Repair(self._put_secret_in_step(call, secret, fenced, action), checks, action)

    def _put_secret_in_step(
        self, call: Call, seen: Secret, fenced: Rotation | None, action: RepairAction.ValueType
    ) -> Secret:
        with transaction(self._engine) as connection:
            present = store.secret(connection, seen.name, lock=True)
            if present is None:
                raise no_secret(seen.name)
            if present.stages != seen.stages or present.active_rotation != seen.active_rotation:
                raise StrongroomError(Reason.STAGE_CONFLICT, f"{seen.name} changed while it was repaired")
            now_us = self._clock.now_us()
            wanted = present
            if action == REPAIR_ACTION_PROMOTE_PENDING:
                wanted = transitions.promote(present, present.stages[PENDING])
            elif action == REPAIR_ACTION_RETURN_TO_PREVIOUS:
                wanted = transitions.promote(present, present.stages[PREVIOUS])
            if fenced is not None and action == REPAIR_ACTION_PROMOTE_PENDING:
                rotation = transitions.active(connection, wanted)
                wanted = transitions.end(connection, wanted, rotation, RotationEvent.REPAIR, now_us)
            else:
                wanted = transitions.abandon(connection, wanted, now_us)
            self._outbox.put(connection, call)
            if wanted is not present:
                write(connection, present, wanted, now_us)
        with reading(self._engine) as connection:
            return store.secret(connection, seen.name) or seen


def _checks(rotator: Rotator, known: Credentials) -> list[Check]:
    checks = [
        _check(rotator, known, stage, credential)
        for stage, credential in ((PENDING, known.pending), (CURRENT, known.current), (PREVIOUS, known.previous))
        if credential is not None
    ]
    if known.context.master is not None:
        checks.append(_check(rotator, known, MASTER, known.context.master))
    for check in checks:
        if check.reason in (Reason.TARGET_UNREACHABLE, Reason.TARGET_TIMEOUT):
            # Who was not asked may be the one that logs in.
            raise StrongroomError(Reason(check.reason), check.detail)
    return checks


def _check(rotator: Rotator, known: Credentials, name: str, credential: Credential) -> Check:
    try:
        with without_credentials(known):
            if name == MASTER:
                rotator.check(known.context, None)
            else:
                rotator.test(known.context, credential)
    except StrongroomError as error:
        if is_of_the_mesh(error):
            # A part of the mesh that is away says nothing of the credential.
            raise
        # A login whose rights the master was to compare was let in, when it is the master that was not.
        accepted = error.reason is Reason.MASTER_LOGIN_REFUSED and name != MASTER
        return Check(name, credential.version, accepted, error.reason, error.message)
    return Check(name, credential.version, accepted=True)


def _action(checks: list[Check]) -> RepairAction.ValueType:
    accepted = {check.credential for check in checks if check.accepted}
    logs_in = {check.credential for check in checks if check.reason == Reason.TARGET_RIGHTS_MISSING}
    if CURRENT in logs_in:
        # It is not to be given up for what it lacks: the master gives it that.
        return REPAIR_ACTION_SET_CURRENT if MASTER in accepted else REPAIR_ACTION_NONE
    for credential, action in (
        (CURRENT, REPAIR_ACTION_NONE),
        (PENDING, REPAIR_ACTION_PROMOTE_PENDING),
        (PREVIOUS, REPAIR_ACTION_RETURN_TO_PREVIOUS),
        (MASTER, REPAIR_ACTION_SET_CURRENT),
    ):
        if credential in accepted:
            return action
    return REPAIR_ACTION_IMPOSSIBLE


def _put_target_in_step(rotator: Rotator, known: Credentials, action: RepairAction.ValueType) -> None:
    context, current = known.context, known.current
    if current is None:
        return
    if action == REPAIR_ACTION_SET_CURRENT:
        rotator.set(context, current, None, known.previous)
        rotator.test(context, current)
    if action in (REPAIR_ACTION_NONE, REPAIR_ACTION_SET_CURRENT) and known.pending is not None:
        # Its value is about to be destroyed.
        rotator.finish(context, current, known.pending)
