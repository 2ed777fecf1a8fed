"""What callers do with rotations: begin, resume and cancel them, list them, and set the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Engine

from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.editing import UNCHANGED, Unchanged
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.sql_filters import Condition
from services.secrets.core import store
from services.secrets.core.editing import REQUEST_IDS, SecretEditor, require_no_rotation, write
from services.secrets.core.model import CURRENT, PREVIOUS, Attempt, Rotation, Secret
from services.secrets.core.states import SecretEvent, next_state, no_secret
from services.secrets.kinds.known import declaration_of
from services.secrets.own_calls import unrecorded_call
from services.secrets.rotation import store as rotation_store
from services.secrets.rotation import transitions
from services.secrets.rotation.policy import next_due_us, require_outlives
from services.secrets.rotation.states import RotationEvent, next_rotation_state
from services.secrets.rotation.targets.access import Step, TargetAccess, without_credentials
from strongroom.secrets.v1.rotation_pb2 import ROTATION_TRIGGER_MANUAL, RotationPolicy

Hasten = Callable[[ResourceName], None]
"""Has the schedule look at a secret's rotation now."""


class Rotations:
    """Rotations of secrets. Every method raises PERMISSION_DENIED, SECRET_NOT_FOUND, and but for `page`
    SECRET_PENDING_DELETION."""

    def __init__(
        self,
        engine: Engine,
        editor: SecretEditor,
        access: TargetAccess,
        outbox: Outbox,
        clock: Clock,
        hasten: Hasten,
    ) -> None:
        self._engine = engine
        self._editor = editor
        self._access = access
        self._outbox = outbox
        self._clock = clock
        self._hasten = hasten

    def rotate(self, call: Call, name: ResourceName, repeatable: Repeatable | None) -> Rotation:
        """Begins a rotation now. Raises ROTATION_ACTIVE, ROTATION_UNSUPPORTED, REQUEST_ID_REUSED."""
        _, secret = self._editor.permitted(call, "secrets:RotateSecret", name)
        with reading(self._engine) as connection:
            made = REQUEST_IDS.made_before(connection, name.account, repeatable, self._clock.now_us())
        if made is not None:
            return self._rotation(name, _number(made))
        self._require_rotatable(secret)
        begun: list[Rotation] = []

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret | Unchanged:
            made = REQUEST_IDS.made_before(connection, name.account, repeatable, now_us)
            if made is not None:
                begun.append(self._found(connection, name, _number(made)))
                return UNCHANGED
            next_state(secret, SecretEvent.CHANGE)
            require_no_rotation(secret)
            changed, rotation = transitions.begin(
                connection, secret, ROTATION_TRIGGER_MANUAL, call.principal.name, now_us, now_us
            )
            REQUEST_IDS.remember(connection, name.account, repeatable, rotation.name, now_us)
            begun.append(rotation)
            return changed

        self._editor.edit(call, name, change)
        self._hasten(name)
        return begun[-1]

    def resume(self, call: Call, name: ResourceName) -> Rotation:
        """Lets a rotation go on now, with its tries counted anew. Raises ROTATION_STATE_INVALID."""
        resumed: list[Rotation] = []

        def change(connection: Connection, secret: Secret, now_us: int) -> Secret:
            next_state(secret, SecretEvent.CHANGE)
            rotation = transitions.active(connection, secret)
            state = next_rotation_state(rotation, RotationEvent.RESUME)
            going_on = replace(rotation, state=state, failures=0, incurable_failures=0, next_attempt_us=now_us)
            rotation_store.update_rotation(connection, going_on)
            resumed.append(going_on)
            return secret

        self._editor.permitted_edit(call, "secrets:ResumeRotation", name, change)
        self._hasten(name)
        return resumed[-1]

    def cancel(self, call: Call, name: ResourceName) -> Rotation:
        """Gives a rotation up, once the target accepts Current. Raises ROTATION_STATE_INVALID, and what the target
        says."""
        _, seen = self._editor.permitted(call, "secrets:CancelRotation", name)
        with self._access.asked_by(call, seen) as until:
            secret, rotation = self.fence(name, RotationEvent.CANCEL)
            if rotation.version:
                self._return_target(secret, rotation, until)
        with transaction(self._engine) as connection:
            present = self._still(connection, rotation)
            now_us = self._clock.now_us()
            left = transitions.drop_pending(connection, present, rotation, now_us)
            left = transitions.end(connection, left, rotation, RotationEvent.CANCEL, now_us)
            self._outbox.put(connection, call)
            write(connection, present, left, now_us)
        return self._rotation(name, rotation.number)

    def plan(self, call: Call, name: ResourceName, policy: RotationPolicy | None) -> Secret:
        """Sets the rotation policy, or removes it. Raises ROTATION_UNSUPPORTED, FIELD_INVALID for a period that client
        keys do not outlive."""
        _, secret = self._editor.permitted(call, "secrets:UpdateRotationPolicy", name)
        if policy is not None:
            self._require_rotatable(secret)

        def change(_connection: Connection, secret: Secret, now_us: int) -> Secret:
            next_state(secret, SecretEvent.CHANGE)
            next_us = next_due_us(policy, secret.last_rotate_us or now_us)
            planned = replace(secret, rotation_policy=policy, next_rotate_us=next_us)
            require_outlives(planned)
            return planned

        changed = self._editor.edit(call, name, change)
        self._hasten(name)
        return changed

    def page(
        self, call: Call, name: ResourceName, before: int, limit: int, conditions: Sequence[Condition]
    ) -> list[tuple[Rotation, list[Attempt]]]:
        """A secret's rotations with what was tried, newest first, from the first below `before`."""
        self._editor.permitted(call, "secrets:ListRotations", name)
        with reading(self._engine) as connection:
            found = rotation_store.rotations_page(connection, name, before, limit, conditions)
            attempts = rotation_store.attempts_of(connection, found)
        return [(rotation, attempts.get(rotation.number, [])) for rotation in found]

    def with_attempts(self, rotation: Rotation) -> tuple[Rotation, list[Attempt]]:
        """A rotation with what was tried."""
        with reading(self._engine) as connection:
            return rotation, rotation_store.attempts_of(connection, [rotation]).get(rotation.number, [])

    def fence(self, name: ResourceName, event: RotationEvent) -> tuple[Secret, Rotation]:
        """Takes a rotation out of the hands of whoever works on it, for an event that will end it. Raises
        ROTATION_STATE_INVALID."""
        with transaction(self._engine) as connection:
            secret = store.secret(connection, name, lock=True)
            if secret is None:
                raise no_secret(name)
            next_state(secret, SecretEvent.CHANGE)
            rotation = transitions.active(connection, secret)
            next_rotation_state(rotation, event)
            if event is RotationEvent.CANCEL and rotation.promoted_us is not None:
                raise StrongroomError(
                    Reason.ROTATION_STATE_INVALID, f"{rotation.name} cannot be cancelled: Current has moved"
                )
            token = max(self._clock.now_us(), rotation.fencing_token + 1)
            fenced = replace(rotation, fencing_token=token)
            rotation_store.update_rotation(connection, fenced)
        return secret, fenced

    def _return_target(self, secret: Secret, rotation: Rotation, until: float | None) -> None:
        access = self._access
        if declaration_of(secret).target is None:
            return
        rotator = access.rotator(secret.type)
        known = access.credentials(
            unrecorded_call("CancelRotation"),
            secret,
            Step(rotation.name, 1, rotation.fencing_token, until),
            pending=rotation.version,
            current=secret.stages.get(CURRENT, 0),
            previous=secret.stages.get(PREVIOUS, 0),
        )
        if known.current is None:
            return
        with without_credentials(known):
            try:
                rotator.test(known.context, known.current)
            except StrongroomError as error:
                # Who logs in with less than it should have had that before the rotation, too.
                if error.reason is Reason.TARGET_LOGIN_REFUSED:
                    rotator.set(known.context, known.current, known.pending, known.previous)
                    rotator.test(known.context, known.current)
                elif error.reason is not Reason.TARGET_RIGHTS_MISSING:
                    raise
            rotator.finish(known.context, known.current, known.pending)

    def _still(self, connection: Connection, fenced: Rotation) -> Secret:
        """The secret, locked, once the rotation is as `fence` left it. Raises ROTATION_STATE_INVALID."""
        secret = store.secret(connection, fenced.secret, lock=True)
        rotation = rotation_store.rotation(connection, fenced.secret, fenced.number)
        if secret is None or rotation != fenced:
            raise StrongroomError(Reason.ROTATION_STATE_INVALID, f"{fenced.name} has gone on meanwhile")
        return secret

    def _require_rotatable(self, secret: Secret) -> None:
        """Raises ROTATION_UNSUPPORTED for a value that its rotator can make no other of."""
        next_state(secret, SecretEvent.CHANGE)
        if declaration_of(secret).target is not None:
            return
        current = secret.stages.get(CURRENT, 0)
        known = self._access.credentials(unrecorded_call("RotateSecret"), secret, Step(), current=current)
        self._access.rotator(secret.type).check(known.context, known.current)

    def _rotation(self, name: ResourceName, number: int) -> Rotation:
        with reading(self._engine) as connection:
            return self._found(connection, name, number)

    def _found(self, connection: Connection, name: ResourceName, number: int) -> Rotation:
        found = rotation_store.rotation(connection, name, number)
        if found is None:
            raise StrongroomError(Reason.ROTATION_STATE_INVALID, f"there is no {name}/rotations/{number} any more")
        return found


def _number(rotation: str) -> int:
    """A rotation's number, out of its name."""
    return int(rotation.rpartition("/")[2])
