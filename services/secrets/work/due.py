"""What falls due of secrets, and how it is done, for `DueWork`: rotations and deletions."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, Engine

from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import names
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.telemetry import Telemetry
from services.runtime.work import fair_choice
from services.runtime.work.due_work import FORWARD_AT_ONCE
from services.runtime.work.schedule import Claim
from services.runtime.work.tellings import Tellings
from services.secrets.core import changes, store
from services.secrets.kinds.known import declaration_of, is_outside
from services.secrets.life.lifecycle import Lifecycle
from services.secrets.own_calls import own_call
from services.secrets.rotation import store as rotation_store
from services.secrets.rotation.machine import RotationWork
from strongroom.audit.v1.event_pb2 import OUTCOME_FAILED

_ROTATE = "rotate"
_DELETE = "delete"
_FILL_LIMIT = 20_000
_DAY_US = 86_400_000_000
_ROTATIONS_KEPT_US = 400 * _DAY_US
_CHANGES_KEPT_US = _DAY_US
_FORGET_LIMIT = 1_000
# How many are looked at, and of one account.
_LOOK_LIMIT = 10_000
_LOOK_SHARE = 500
# A rotation that was taken up so lately may still be in work elsewhere.
_IN_WORK_US = 180_000_000
# Whoever takes a rotation up does its steps one after another, each once there is a place for it; no longer than this.
_STEPS, _PLACE_SECONDS, _LONGEST_US = 3, 30.0, 3_600_000_000
_SERVICE, _METHOD = "strongroom.secrets.v1.SecretService", "Rotation"


def rotation_item(secret: ResourceName) -> str:
    """What the schedule calls the rotation of a secret."""
    return f"{_ROTATE}:{secret.account}/{secret.id}"


def _deletion_item(secret: ResourceName) -> str:
    return f"{_DELETE}:{secret.account}/{secret.id}"


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
        *,
        step_seconds: float = 60.0,
    ) -> None:
        """`step_seconds` is the longest step at a target that says nothing else."""
        self._step_seconds = step_seconds
        self._engine = engine
        self._rotation = rotation
        self._lifecycle = lifecycle
        self._outbox = outbox
        self._telemetry = telemetry
        self._clock = clock
        self._tellings: Tellings[tuple[ResourceName, Reason]] = Tellings(_FILL_LIMIT)
        self._overdue = telemetry.meter.create_counter(
            "secrets.schedule.overdue", description="rotations and deletions that Redis kept back"
        )

    def due(self, until_us: int) -> Mapping[str, int]:
        """Items by their due time, as the database says. Forgets what is kept no longer."""
        now_us = self._clock.now_us()
        with transaction(self._engine) as connection:
            changes.forget(connection, now_us - _CHANGES_KEPT_US)
            rotation_store.forget_rotations(connection, now_us - _ROTATIONS_KEPT_US, _FORGET_LIMIT)
        with reading(self._engine) as connection:
            deletions = store.deletions_due(connection, until_us, _FILL_LIMIT)
            begun = rotation_store.attempts_due(connection, until_us, _FILL_LIMIT)
            due = store.rotations_due(connection, until_us, _FILL_LIMIT)
        items = {_deletion_item(name): at for name, at in deletions}
        return items | {rotation_item(name): at for name, at in (*begun, *due)}

    def account_of_target(self, item: str) -> str:
        """Whose target an item has to do with; empty for what is done without one."""
        kind, name = _parsed(item)
        if kind != _ROTATE or not names.is_name(name):
            return ""
        with reading(self._engine) as connection:
            found = store.secret_type(connection, name)
        return name.account if is_outside(found) else ""

    def overdue(
        self, before_us: int, limit: int = FORWARD_AT_ONCE, in_hand: Collection[str] = frozenset()
    ) -> list[Claim]:
        """Of what was due before then and nobody works on, as the database says, some besides what is in hand: claims
        of its own, told in the metric and in events."""
        limits = (_LOOK_LIMIT, _LOOK_SHARE)
        with reading(self._engine) as connection:
            deletions = store.deletions_due(connection, before_us, *limits)
            due = store.rotations_due(connection, before_us, *limits)
            left = rotation_store.attempts_overdue(connection, before_us, before_us - _IN_WORK_US, *limits)
            begun = [
                (name, seen)
                for name, seen, waits in left
                if waits or not self._may_be_in_work(connection, name, seen, before_us)
            ]
        now_us = self._clock.now_us()
        found = {_deletion_item(name): (name, Claim(_deletion_item(name), now_us)) for name, _ in deletions}
        for name, seen in (*((name, 0) for name, _ in due), *begun):
            found[rotation_item(name)] = name, Claim(rotation_item(name), now_us, seen)
        fresh = [(name.account, (name, claim)) for item, (name, claim) in found.items() if item not in in_hand]
        if fresh:
            self._overdue.add(len(fresh))
        # Some, and others the next time: what waits for a slow target keeps nothing else from being noticed.
        chosen = fair_choice.choose(fresh, limit)
        self._record([name for name, _ in chosen], Reason.SCHEDULE_OVERDUE)
        return [claim for _, claim in chosen]

    def _may_be_in_work(self, connection: Connection, name: ResourceName, taken_us: int, before_us: int) -> bool:
        """Whether one that was taken up then may still be in a step: those of a RotatorService may take minutes."""
        if not before_us - _LONGEST_US < taken_us <= before_us:
            return False
        try:
            secret = store.secret(connection, name)
        except StrongroomError:
            # Somebody else changed it: whoever works on it says so.
            return False
        target = declaration_of(secret).target if secret is not None else None
        if secret is None or target is None or target.place is None or secret.target is None:
            return False
        seconds = target.step_seconds(getattr(secret.target, target.member), self._step_seconds)
        return taken_us > before_us - int((_STEPS * (seconds + _PLACE_SECONDS)) * 1e6)

    def handle(self, claim: Claim) -> float | None:
        """Does what an item stands for; what stands for nothing is done with."""
        kind, name = _parsed(claim.item)
        if kind not in (_ROTATE, _DELETE) or not names.is_name(name):
            return None
        try:
            if kind == _DELETE:
                self._lifecycle.destroy_due(own_call("DestroySecret", name), name)
                return None
            return self._rotated(name, claim)
        except StrongroomError as error:
            if error.reason is Reason.SECRET_RECORD_REFUSED:
                self._record([name], error.reason)
            raise

    def _rotated(self, name: ResourceName, claim: Claim) -> float | None:
        started = time.perf_counter()
        trace = self._telemetry.start_call(_SERVICE, _METHOD, "")
        outcome = "OK"
        try:
            return self._rotation.work(name, claim.token, trace.trace_id if trace.sampled else "", claim.seen)
        except StrongroomError as error:
            outcome = error.reason
            raise
        finally:
            self._telemetry.end_call(trace, _SERVICE, _METHOD, outcome, started)

    def _record(self, secrets: Sequence[ResourceName], reason: Reason) -> None:
        """An event for each that somebody else wrote to, in the database or in Redis; now and then, for it stays so
        until it is put right."""
        untold = self._tellings.untold((name, reason) for name in secrets)
        if not untold:
            return
        with transaction(self._engine) as connection:
            for name, _ in untold:
                call = own_call("RotateSecret", name)
                call.conclude(OUTCOME_FAILED, reason)
                self._outbox.put(connection, call)


def _parsed(item: str) -> tuple[str, ResourceName]:
    kind, _, rest = item.partition(":")
    account, _, secret_id = rest.partition("/")
    return kind, ResourceName(account, "secrets", secret_id)
