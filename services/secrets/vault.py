"""What callers do with secrets: create them, put values, get them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from services.runtime.authorization import Authorizer, Resource, account_resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.database import reading, transaction
from services.runtime.errors import Reason, StrongroomError
from services.runtime.names import ResourceName
from services.runtime.outbox import Outbox
from services.runtime.repeats import REPEATABLE_US, Repeatable, reused
from services.runtime.sensitive import SensitiveBytes
from services.secrets import store, values
from services.secrets.data_keys import DataKeys, encryption_context
from services.secrets.records import CURRENT, Request, SealedVersion, Secret, Version
from services.secrets.stages import moves, outlived
from strongroom.audit.v1.event_pb2 import Event
from strongroom.secrets.v1.secret_pb2 import (
    SECRET_STATE_ENABLED,
    SECRET_VERSION_ORIGIN_PUT,
    SECRET_VERSION_STATE_DESTROYED,
    SECRET_VERSION_STATE_DISABLED,
    SECRET_VERSION_STATE_ENABLED,
    SecretType,
    ValueFormat,
)

# How often a value is sealed again because another call took the version number first.
_ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What a caller asks a new secret to be."""

    name: ResourceName
    type: SecretType.ValueType
    key: str
    description: str
    tags: Mapping[str, str]
    retained_versions: int


@dataclass(frozen=True, slots=True)
class NewValue:
    """A value to be stored, and how its bytes are meant."""

    value: SensitiveBytes
    format: ValueFormat.ValueType


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """A version, and the stages that it is at."""

    version: Version
    stages: Sequence[str]


@dataclass(frozen=True, slots=True)
class OpenedVersion(StagedVersion):
    """The same with its value in the clear."""

    value: SensitiveBytes


class Vault:
    """An account's secrets. Every method first asks whether the caller may, and records that in the call's events.

    No database transaction is open while crypto is asked for anything.
    """

    def __init__(
        self, engine: Engine, data_keys: DataKeys, authorizer: Authorizer, outbox: Outbox, clock: Clock
    ) -> None:
        self._engine = engine
        self._data_keys = data_keys
        self._authorizer = authorizer
        self._outbox = outbox
        self._clock = clock

    def create(
        self,
        call: Call,
        new: NewSecret,
        value: NewValue | None,
        repeatable: Repeatable | None = None,
        *,
        dry_run: bool = False,
    ) -> Secret:
        """A new secret, with `value` as its version 1 at Current. Raises ALREADY_EXISTS, REQUEST_ID_REUSED, and what
        crypto raises. A dry run finds out the same and stores nothing."""
        self._permit_creation(call, new)
        for _ in range(_ATTEMPTS):
            known, present = self._before(new.name, repeatable)
            if repeatable is not None and known is not None:
                self._require_same(call, known, repeatable, value)
                return self._present(ResourceName(known.account, "secrets", known.secret_id))
            if present is not None:
                raise StrongroomError(Reason.ALREADY_EXISTS, f"{new.name} exists already", field="secret_id")
            created = _created(new, has_value=value is not None, now_us=self._now_us())
            first = self._seal(call, created.version_name(1), created.key, value) if value is not None else None
            if dry_run:
                return created
            if self._stored(call, created, first, repeatable):
                return created
        raise _too_many(new.name)

    def put(
        self,
        call: Call,
        name: ResourceName,
        value: NewValue,
        stages: Sequence[str],
        repeatable: Repeatable | None = None,
    ) -> StagedVersion:
        """A new version at `stages`. Raises SECRET_NOT_FOUND, REQUEST_ID_REUSED, LIMIT_EXCEEDED, and what crypto
        raises."""
        known, present = self._before(name, repeatable)
        event, secret = self._permitted(call, "secrets:PutSecretValue", name, present)
        for _ in range(_ATTEMPTS):
            if repeatable is not None and known is not None:
                made = self._require_same(call, known, repeatable, value)
                if made is None:
                    raise reused()
                return StagedVersion(made.version, secret.stages_of(known.version))
            added = secret.version_name(secret.latest_version + 1)
            moved = moves(secret, added.version, stages)
            sealed = self._seal(call, added, secret.key, value)
            event.encryption_context.update(encryption_context(added))
            if self._added(call, secret, sealed, moved, repeatable):
                return StagedVersion(sealed.version, stages)
            known, present = self._before(name, repeatable)
            secret = present or secret
        raise _too_many(name)

    def open(self, call: Call, name: ResourceName, stage: str) -> OpenedVersion:
        """The value of a version, or of the one at `stage` where `name` is a secret's; the default is Current.

        Raises SECRET_NOT_FOUND, SECRET_VERSION_NOT_FOUND, STAGE_NOT_FOUND, SECRET_VERSION_DISABLED,
        SECRET_VERSION_DESTROYED, SECRET_VALUE_REFUSED, and what crypto raises.
        """
        wanted = stage or CURRENT
        with reading(self._engine) as connection:
            present = store.secret(connection, name.without_version)
            number = name.version or (present.stages.get(wanted, 0) if present else 0)
            found = store.sealed_version(connection, present.version_name(number)) if present and number else None
        event, secret = self._permitted(call, "secrets:GetSecretValue", name.without_version, present)
        if number == 0 or (stage and secret.stages.get(stage) != number):
            raise StrongroomError(
                Reason.STAGE_NOT_FOUND, f"{name} has nothing at {wanted}", field="stage", stage=wanted
            )
        if found is None:
            raise StrongroomError(Reason.SECRET_VERSION_NOT_FOUND, f"there is no {name}", field="name")
        event.encryption_context.update(encryption_context(found.version.name))
        return OpenedVersion(found.version, secret.stages_of(number), self._unseal(call, found))

    def get(self, call: Call, name: ResourceName) -> Secret:
        """A secret without its value. Raises SECRET_NOT_FOUND."""
        with reading(self._engine) as connection:
            secret = store.secret(connection, name)
        return self._permitted(call, "secrets:GetSecret", name, secret)[1]

    def secrets_page(self, call: Call, account: str, after: str, limit: int) -> list[Secret]:
        """An account's secrets in the order of their ids, from the first behind `after`."""
        self._authorizer.authorize(call, "secrets:ListSecrets", account_resource(account))
        with reading(self._engine) as connection:
            return store.secrets_page(connection, account, after, limit)

    def versions_page(self, call: Call, name: ResourceName, before: int, limit: int) -> tuple[Secret, list[Version]]:
        """A secret and its versions, newest first, from the first below `before`. Raises SECRET_NOT_FOUND."""
        with reading(self._engine) as connection:
            secret = store.secret(connection, name)
            found = store.versions_page(connection, name, before, limit)
        return self._permitted(call, "secrets:ListSecretVersions", name, secret)[1], found

    def _before(self, name: ResourceName, repeatable: Repeatable | None) -> tuple[Request | None, Secret | None]:
        """What the same call did before, and the secret as it is."""
        with reading(self._engine) as connection:
            secret = store.secret(connection, name)
            if repeatable is None:
                return None, secret
            since_us = self._now_us() - REPEATABLE_US
            return store.request(connection, name.account, repeatable.request_id, since_us), secret

    def _present(self, name: ResourceName) -> Secret:
        with reading(self._engine) as connection:
            secret = store.secret(connection, name)
        if secret is None:
            raise _no_secret(name)
        return secret

    def _permit_creation(self, call: Call, new: NewSecret) -> None:
        account = account_resource(new.name.account)
        actions = ("secrets:CreateSecret", "secrets:TagSecret") if new.tags else ("secrets:CreateSecret",)
        for action in actions:
            # Permitted on the account; the event says which secret it was for.
            self._authorizer.authorize(call, action, account).resource = str(new.name)

    def _permitted(self, call: Call, action: str, name: ResourceName, secret: Secret | None) -> tuple[Event, Secret]:
        # Whoever may not use it must not learn that it does not exist: permission comes first.
        resource = secret.resource if secret else Resource("Secret", str(name), name.account)
        event = self._authorizer.authorize(call, action, resource)
        if secret is None:
            raise _no_secret(name)
        return event, secret

    def _seal(self, call: Call, name: ResourceName, key: str, new: NewValue) -> SealedVersion:
        data_key = self._data_keys.generate(call, key, name)
        version = Version(
            name,
            SECRET_VERSION_STATE_ENABLED,
            SECRET_VERSION_ORIGIN_PUT,
            data_key.key_version,
            new.format,
            len(new.value),
            self._now_us(),
        )
        return SealedVersion(version, data_key.ciphertext, values.seal(new.value, data_key.plaintext, name))

    def _unseal(self, call: Call, found: SealedVersion) -> SensitiveBytes:
        version = found.version
        if version.state == SECRET_VERSION_STATE_DISABLED:
            raise StrongroomError(Reason.SECRET_VERSION_DISABLED, f"{version.name} is disabled")
        if version.state == SECRET_VERSION_STATE_DESTROYED:
            raise StrongroomError(Reason.SECRET_VERSION_DESTROYED, f"the value of {version.name} is destroyed")
        try:
            data_key = self._data_keys.open(call, found.data_key, version.name)
        except StrongroomError as error:
            if error.reason is not Reason.CIPHERTEXT_INVALID:
                raise
            # The caller sent no ciphertext: it is the database that holds something else.
            raise values.refused(version.name) from error
        return values.unseal(found.sealed, data_key, version.name)

    def _require_same(
        self, call: Call, known: Request, repeatable: Repeatable, value: NewValue | None
    ) -> SealedVersion | None:
        """The version that the first call made, if it made one. Raises REQUEST_ID_REUSED unless both asked for the
        same, which for the value is found out by opening what is stored."""
        if known.digest != repeatable.digest:
            raise reused()
        if known.version == 0:
            return None
        made = self._version(ResourceName(known.account, "secrets", known.secret_id, known.version))
        if value is None or not compare_digest(self._unseal(call, made).reveal(), value.value.reveal()):
            raise reused()
        return made

    def _version(self, name: ResourceName) -> SealedVersion:
        with reading(self._engine) as connection:
            found = store.sealed_version(connection, name)
        if found is None:
            raise StrongroomError(Reason.SECRET_VERSION_NOT_FOUND, f"there is no {name}", field="name")
        return found

    def _stored(self, call: Call, created: Secret, first: SealedVersion | None, repeatable: Repeatable | None) -> bool:
        """Commits a new secret with its event; False when another call took the name or the request id."""
        try:
            with transaction(self._engine) as connection:
                store.insert_secret(connection, created)
                if first is not None:
                    store.insert_version(connection, first)
                    store.set_stages(connection, created.name, created.stages)
                self._remember(connection, created.version_name(created.latest_version), repeatable)
                self._outbox.put(connection, call)
        except IntegrityError:
            return False
        return True

    def _added(
        self,
        call: Call,
        secret: Secret,
        added: SealedVersion,
        moved: Mapping[str, int],
        repeatable: Repeatable | None,
    ) -> bool:
        """Commits a new version with its event; False when the secret is not as it was read any more, or another call
        took the request id."""
        name, version, now_us = secret.name, added.version.name, self._now_us()
        try:
            with transaction(self._engine) as connection:
                if not store.advance(connection, name, secret.revision, version.version, now_us):
                    return False
                store.insert_version(connection, added)
                store.set_stages(connection, name, moved)
                kept = store.versions_with_value(connection, name)
                destroyed = outlived(kept, {**secret.stages, **moved}, secret.retained_versions)
                store.destroy_values(connection, name, destroyed, SECRET_VERSION_STATE_DESTROYED, now_us)
                self._remember(connection, version, repeatable)
                self._outbox.put(connection, call)
        except IntegrityError:
            return False
        return True

    def _remember(self, connection: Connection, version: ResourceName, repeatable: Repeatable | None) -> None:
        if repeatable is not None:
            now_us = self._now_us()
            done = Request(
                version.account, repeatable.request_id, repeatable.digest, version.id, version.version, now_us
            )
            store.insert_request(connection, done, now_us - REPEATABLE_US)

    def _now_us(self) -> int:
        return self._clock() // 1000


def _created(new: NewSecret, *, has_value: bool, now_us: int) -> Secret:
    return Secret(
        new.name,
        new.type,
        SECRET_STATE_ENABLED,
        new.key,
        new.description,
        new.tags,
        new.retained_versions,
        latest_version=1 if has_value else 0,
        revision=1,
        created_us=now_us,
        updated_us=now_us,
        stages={CURRENT: 1} if has_value else {},
    )


def _no_secret(name: ResourceName) -> StrongroomError:
    return StrongroomError(Reason.SECRET_NOT_FOUND, f"there is no {name}", field="name")


def _too_many(name: ResourceName) -> StrongroomError:
    return StrongroomError(Reason.OVERLOADED, f"too many calls change {name} at once", retry_after_seconds=0.2)
