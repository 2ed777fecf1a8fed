"""The values of secrets: put, and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from sqlalchemy import Engine

from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName, parse
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable, reused
from services.secrets.core import store
from services.secrets.core.editing import REQUEST_IDS, SecretEditor, add_version, require_no_rotation, write
from services.secrets.core.model import CURRENT, SealedVersion, Secret, Version
from services.secrets.core.pairs import destination, own_pair
from services.secrets.core.stages import moves
from services.secrets.core.states import SecretEvent, VersionEvent, next_state, next_version_state, no_version
from services.secrets.values import json_fields
from services.secrets.values.data_keys import encryption_context
from services.secrets.values.readable import Readable
from services.secrets.values.sealing import NewValue, Sealer
from services.secrets.values.shapes import check_shape
from strongroom.audit.v1.event_pb2 import OUTCOME_DENIED, OUTCOME_FAILED, OUTCOME_UNSPECIFIED, Event
from strongroom.secrets.v1.secret_pb2 import SECRET_VERSION_ORIGIN_PUT, VALUE_FORMAT_TEXT, ValueFormat

ATTEMPTS = 16
"""How often work is done again because another call was quicker."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a caller wants to read."""

    name: ResourceName
    """A secret or one of its versions."""
    stage: str
    """Empty for Current, or for a version wherever it is."""
    field: str
    """Empty for the whole value."""


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """A version, and the stages that it is at."""

    version: Version
    stages: Sequence[str]


@dataclass(frozen=True, slots=True)
class OpenedVersion(StagedVersion):
    """A version with its stages and its value in the clear, or the field of the value that was asked for."""

    value: SensitiveBytes
    format: ValueFormat.ValueType
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a caller may read, still sealed."""

    reading: Reading
    secret: Secret
    sealed: SealedVersion

    def opened(self, value: SensitiveBytes) -> OpenedVersion:
        version = self.sealed.version
        field, text = self.reading.field, version.format
        if field:
            value, text = json_fields.field_of(value, field), VALUE_FORMAT_TEXT
        return OpenedVersion(version, self.secret.stages_of(version.name.version), value, text, self.secret.tags)


class Vault:
    """The values of an account's secrets. Every method first asks whether the caller may, and records that in the
    call's events. No database transaction is open while crypto is asked for anything."""

    def __init__(
        self, engine: Engine, readable: Readable, sealer: Sealer, editor: SecretEditor, outbox: Outbox, clock: Clock
    ) -> None:
        self._engine = engine
        self._readable = readable
        self._sealer = sealer
        self._editor = editor
        self._outbox = outbox
        self._clock = clock

    def put(
        self,
        call: Call,
        name: ResourceName,
        value: NewValue,
        stages: Sequence[str],
        repeatable: Repeatable | None = None,
        current: int | None = None,
        permit_choice: Callable[[Call, Secret], None] | None = None,
    ) -> StagedVersion:
        """A new version at `stages`, where Current is at the version `current` (0: at none) if that is given.
        `permit_choice` is asked whether the caller may choose a value of this secret, as it is. Raises what that does,
        SECRET_NOT_FOUND, FIELD_INVALID for a value that is not of the secret's type, STAGE_CONFLICT, ROTATION_ACTIVE,
        REQUEST_ID_REUSED, LIMIT_EXCEEDED, and what crypto raises."""
        action = "secrets:PutSecretValue"
        event, secret = self._editor.permitted(call, action, name)
        asked: tuple[object, ...] = ()
        for _ in range(ATTEMPTS):
            known, present = before(self._engine, name, repeatable, self._now_us())
            secret = present or secret
            if known is not None:
                made = self.require_same(call, known, value)
                if made is None:
                    raise reused()
                return StagedVersion(made.version, secret.stages_of(known.version))
            _require_puttable(secret, current)
            check_shape(secret.type, value.value)
            if permit_choice is not None and _sent(secret) != asked:
                permit_choice(call, secret)
                asked = _sent(secret)
            added = secret.version_name(secret.latest_version + 1)
            sealed = self._sealer.seal(call, added, secret.key, value, SECRET_VERSION_ORIGIN_PUT)
            event.encryption_context.update(encryption_context(added))
            event.secret_version = str(added)
            if self._added(call, sealed, stages, repeatable, current, secret):
                return StagedVersion(sealed.version, stages)
        raise too_many(name)

    def open(self, call: Call, wanted: Reading) -> OpenedVersion:
        """The value of a version, or of the one at a stage. Raises SECRET_NOT_FOUND, SECRET_PENDING_DELETION,
        SECRET_VERSION_NOT_FOUND, STAGE_NOT_FOUND, SECRET_VERSION_DISABLED, SECRET_VERSION_DESTROYED,
        SECRET_VALUE_REFUSED, SECRET_FIELD_NOT_FOUND, and what crypto raises."""
        found = self._found(call, wanted)
        return found.opened(self._sealer.open(call, found.sealed))

    def open_many(self, call: Call, wanted: Sequence[Reading]) -> list[OpenedVersion | StrongroomError]:
        """The values that many readings want, with an error in the place of a value that cannot be had. Raises only
        what concerns the whole call."""
        found: list[_Found | StrongroomError] = []
        events: list[Sequence[Event]] = []
        for each in wanted:
            already = len(call.events)
            try:
                found.append(self._found(call, each))
            except StrongroomError as error:
                found.append(_of_one(error))
            events.append(call.events[already:])
        there = [item for item in found if isinstance(item, _Found)]
        opened = iter(self._sealer.open_many(call, [item.sealed for item in there]) if there else [])
        outcomes = [item if isinstance(item, StrongroomError) else _opened(item, next(opened)) for item in found]
        for outcome, of_item in zip(outcomes, events, strict=True):
            if isinstance(outcome, StrongroomError):
                _conclude(of_item, outcome)
        return outcomes

    def require_same(self, call: Call, name: ResourceName, value: NewValue | None) -> SealedVersion | None:
        """The version of this name that an earlier call with the same request id made, if it made one. Raises
        REQUEST_ID_REUSED unless both brought the same value, which is found out by opening what is stored."""
        if not name.version:
            return None
        with reading(self._engine) as connection:
            secret = store.secret(connection, name.without_version)
            made = store.sealed_version(connection, secret, name.version) if secret is not None else None
        if made is None:
            raise no_version(name)
        if value is None or not compare_digest(self._sealer.open(call, made).reveal(), value.value.reveal()):
            raise reused()
        return made

    def _found(self, call: Call, wanted: Reading) -> _Found:
        name, stage = wanted.name, wanted.stage or CURRENT

        def number_in(secret: Secret) -> int:
            return name.version or secret.stages.get(stage, 0)

        event, secret = self._permitted(call, name.without_version, number_in)
        number = number_in(secret)
        self._editor.permit_reading(call, secret, number, event)
        if number == 0 or (wanted.stage and secret.stages.get(wanted.stage) != number):
            raise StrongroomError(Reason.STAGE_NOT_FOUND, f"{name} has nothing at {stage}", field="stage", stage=stage)
        sealed = self._readable.sealed(secret, number)
        if sealed is None:
            raise no_version(name)
        next_version_state(sealed.version, VersionEvent.READ)
        event.encryption_context.update(encryption_context(sealed.version.name))
        event.secret_version = str(sealed.version.name)
        return _Found(wanted, secret, sealed)

    def _permitted(self, call: Call, name: ResourceName, wanted: Callable[[Secret], int]) -> tuple[Event, Secret]:
        """The event of reading a secret's value, and the secret, with the version that is `wanted` at hand."""
        action, elsewhere = "secrets:GetSecretValue", call.principal.account not in ("", name.account)
        remembered = elsewhere and self._readable.remembers(name)
        present = self._editor.found(
            call, action, name, lambda: self._readable.secret(name, _no_version if elsewhere else wanted)
        )
        try:
            return self._editor.permit(call, action, name, present)
        except StrongroomError:
            if remembered:
                # Another account's secret that is absent is asked for each time: one that is there must not be refused
                # sooner.
                self._readable.look_in_vain()
            raise

    def _added(
        self,
        call: Call,
        added: SealedVersion,
        stages: Sequence[str],
        repeatable: Repeatable | None,
        current: int | None,
        seen: Secret,
    ) -> bool:
        """Commits a new version with its event; False when another call took its number or the request id, or changed
        where the secret's values go since it was `seen`."""
        version, now_us = added.version.name, self._now_us()
        with transaction(self._engine) as connection:
            present = store.secret(connection, version.without_version, lock=True)
            if REQUEST_IDS.made_before(connection, version.account, repeatable, now_us) is not None:
                return False
            if present is None or present.latest_version + 1 != version.version or _sent(present) != _sent(seen):
                return False
            _require_puttable(present, current)
            moved = moves(present, version.version, stages)
            REQUEST_IDS.remember(connection, version.account, repeatable, str(version), now_us)
            self._outbox.put(connection, call)
            wanted = add_version(connection, present, added, moved, now_us)
            # Whoever puts a value knows it.
            write(connection, present, wanted, now_us, own_pair(wanted, version.version))
        return True

    def _now_us(self) -> int:
        return self._clock.now_us()


def before(
    engine: Engine, name: ResourceName, repeatable: Repeatable | None, now_us: int
) -> tuple[ResourceName | None, Secret | None]:
    """The secret or version that the same call made before, and the secret of this name as it is. Raises
    REQUEST_ID_REUSED."""
    with reading(engine) as connection:
        made = REQUEST_IDS.made_before(connection, name.account, repeatable, now_us)
        known = parse(made, "request_id", "secrets", versioned=None) if made is not None else None
        return known, store.secret(connection, name)


def too_many(name: ResourceName) -> StrongroomError:
    """Others were quicker each time."""
    return StrongroomError(Reason.OVERLOADED, f"too many calls change {name} at once", retry_after_seconds=0.2)


def _sent(secret: Secret) -> tuple[object, ...]:
    """Where a secret's values go, and which of them."""
    return destination(secret), secret.stages.get(CURRENT, 0)


def _no_version(_secret: Secret) -> int:
    return 0


def _require_puttable(secret: Secret, current: int | None) -> None:
    next_state(secret, SecretEvent.CHANGE)
    require_no_rotation(secret)
    at = secret.stages.get(CURRENT, 0)
    if current not in (None, at):
        where = f"at version {at}" if at else "at no version"
        raise StrongroomError(Reason.STAGE_CONFLICT, f"{CURRENT} is {where}", stage=CURRENT)


def _opened(found: _Found, value: SensitiveBytes | StrongroomError) -> OpenedVersion | StrongroomError:
    if isinstance(value, StrongroomError):
        return value
    try:
        return found.opened(value)
    except StrongroomError as error:
        return error


def _of_one(error: StrongroomError) -> StrongroomError:
    """An error of one item; raises one that concerns the whole call."""
    if error.is_unavailable:
        raise error
    return error


def _conclude(events: Sequence[Event], error: StrongroomError) -> None:
    outcome = OUTCOME_DENIED if error.reason is Reason.PERMISSION_DENIED else OUTCOME_FAILED
    for event in events:
        if event.outcome == OUTCOME_UNSPECIFIED:
            event.outcome = outcome
            event.reason = error.reason
