"""What falls due of secrets, and how it is done, for `DueWork`: rotations and deletions."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import Engine

from services.runtime.clock import Clock
from services.runtime.database import reading, transaction
from services.runtime.errors import Reason, StrongroomError
from services.runtime.names import ResourceName
from services.runtime.outbox import Outbox
from services.runtime.schedule import Claim
from services.runtime.telemetry import Telemetry
from services.secrets import changes, rotation_store, store
from services.secrets.lifecycle import Lifecycle
from services.secrets.own_calls import own_call
from services.secrets.rotation_work import RotationWork
from strongroom.audit.v1.event_pb2 import OUTCOME_FAILED

_ROTATE = "rotate"
_DELETE = "delete"
_FILL_LIMIT = 20_000
_DAY_US = 86_400_000_000
_ROTATIONS_KEPT_US = 400 * _DAY_US
_CHANGES_KEPT_US = _DAY_US
_FORGET_LIMIT = 1_000
_TELL_SECONDS = 3600.0
_SERVICE, _METHOD = "strongroom.secrets.v1.SecretService", "Rotation"


def rotation_item(secret: ResourceName) -> str:
    """What the schedule calls the rotation of a secret."""
    return f"{_ROTATE}:{secret.account}/{secret.id}"


class DueSecrets:
    """Rotations that fall due or go on, and secrets to be destroyed."""

    def __init__(
        self,
        engine: Engine,
        rotation: RotationWork,
        lifecycle: Lifecycle,
        outbox: Outbox,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._rotation = rotation
        self._lifecycle = lifecycle
        self._outbox = outbox
        self._telemetry = telemetry
        self._clock = clock
        self._refused: dict[ResourceName, float] = {}

    def due(self, until_us: int) -> Mapping[str, int]:
        """Items by their due time, as the database says. Forgets what is kept no longer."""
        now_us = self._clock() // 1000
        with transaction(self._engine) as connection:
            changes.forget(connection, now_us - _CHANGES_KEPT_US)
            rotation_store.forget_rotations(connection, now_us - _ROTATIONS_KEPT_US, _FORGET_LIMIT)
        with reading(self._engine) as connection:
            deletions = store.deletions_due(connection, until_us, _FILL_LIMIT)
            begun = rotation_store.attempts_due(connection, until_us, _FILL_LIMIT)
            due = store.rotations_due(connection, until_us, _FILL_LIMIT)
        items = {f"{_DELETE}:{name.account}/{name.id}": at for name, at in deletions}
        return items | {rotation_item(name): at for name, at in (*begun, *due)}

    def handle(self, claim: Claim) -> float | None:
        """Does what an item stands for."""
        kind, _, rest = claim.item.partition(":")
        account, _, secret_id = rest.partition("/")
        name = ResourceName(account, "secrets", secret_id)
        try:
            if kind == _DELETE:
                self._lifecycle.destroy_due(own_call("DestroySecret", name), name)
                return None
            return self._rotated(name, claim.token)
        except StrongroomError as error:
            if error.reason is Reason.SECRET_RECORD_REFUSED:
                self._record_refusal(name)
            raise

    def _rotated(self, name: ResourceName, token: int) -> float | None:
        started = time.perf_counter()
        trace = self._telemetry.start_call(_SERVICE, _METHOD, "")
        outcome = "OK"
        try:
            return self._rotation.work(name, token, trace.trace_id if trace.sampled else "")
        except StrongroomError as error:
            outcome = error.reason
            raise
        finally:
            self._telemetry.end_call(trace, _SERVICE, _METHOD, outcome, started)

    def _record_refusal(self, name: ResourceName) -> None:
        """An event for what somebody else wrote, now and then: it falls due until it is put right."""
        now = time.monotonic()
        if now - self._refused.get(name, -_TELL_SECONDS) < _TELL_SECONDS:
            return
        if len(self._refused) >= _FILL_LIMIT:
            self._refused.clear()
        self._refused[name] = now
        call = own_call("RotateSecret", name)
        call.conclude(OUTCOME_FAILED, Reason.SECRET_RECORD_REFUSED)
        with transaction(self._engine) as connection:
            self._outbox.put(connection, call)
