"""Changes of secrets: permitted, made under the secret's lock, told to watchers, and recorded in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine

from services.runtime.access.authorization import Authorizer, Resource
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import names
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading
from services.runtime.storage.editing import Edits, Unchanged, permitted
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import RequestIds
from services.secrets.core import changes, store
from services.secrets.core.model import CURRENT, PENDING, SealedVersion, Secret
from services.secrets.core.pairs import NONE, Permitted, require_permitted
from services.secrets.core.stages import outlived
from services.secrets.core.states import SecretEvent, next_state, no_secret
from services.secrets.core.tables import requests
from strongroom.audit.v1.event_pb2 import Event
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED
from strongroom.secrets.v1.secret_service_pb2 import (
    SECRET_CHANGE_DELETED,
    SECRET_CHANGE_RESTORED,
    SECRET_CHANGE_STAGE,
)

REQUEST_IDS = RequestIds(requests)
"""What calls with a request id did to secrets."""

Change = Callable[[Connection, Secret, int], Secret | Unchanged]
"""Gets the secret as it is and the time in microseconds; answers it as it is to be, or UNCHANGED. It may write to
versions and rotations, and answers the secret where it did."""


T = TypeVar("T")


class SecretEditor:
    """Finds secrets for callers, and changes them."""

    def __init__(self, engine: Engine, authorizer: Authorizer, outbox: Outbox, clock: Clock) -> None:
        self._engine = engine
        self._authorizer = authorizer
        self._edits = Edits(engine, outbox, clock)

    def permitted(self, call: Call, action: str, name: ResourceName) -> tuple[Event, Secret]:
        """The secret of this name and the event of its use, once the caller may. Raises PERMISSION_DENIED,
        SECRET_NOT_FOUND."""

        def read() -> Secret | None:
            with reading(self._engine) as connection:
                return store.secret(connection, name)

        return self.permit(call, action, name, self.found(call, action, name, read))

    def found(self, call: Call, action: str, name: ResourceName, read: Callable[[], T]) -> T:
        """What `read` finds of the secret of this name. Of a record that is refused hears who would be permitted
        without it, nobody else."""
        try:
            return read()
        except StrongroomError as error:
            if error.reason is Reason.SECRET_RECORD_REFUSED:
                self._authorizer.authorize(call, action, Resource("Secret", str(name), name.account))
            raise

    def permit(self, call: Call, action: str, name: ResourceName, secret: Secret | None) -> tuple[Event, Secret]:
        """The event and the secret, which was looked for before, once the caller may. Raises PERMISSION_DENIED,
        SECRET_NOT_FOUND."""
        absent = Resource("Secret", str(name), name.account)
        return permitted(secret, absent, partial(self._authorizer.authorize, call, action), lambda: no_secret(name))

    def permit_reading(self, call: Call, secret: Secret, number: int, permitted: Event | None = None) -> Event:
        """The event of reading a version's value, once the caller may, as far as access goes; `permitted` is that event
        where it was asked for before. Raises PERMISSION_DENIED, SECRET_PENDING_DELETION."""
        event = permitted or self.permit(call, "secrets:GetSecretValue", secret.name, secret)[0]
        if number and secret.stages.get(PENDING) == number:
            self.permit(call, "secrets:GetPendingSecretValue", secret.name, secret)
        next_state(secret, SecretEvent.READ)
        return event

    def permit_client_keys(self, call: Call, principal: str) -> None:
        """Raises PERMISSION_DENIED unless the caller may make client keys of the principal, as rotations will."""
        self._authorizer.authorize(call, "access:CreateClientKey", self._authorizer.principal_resource(principal))

    def permit_replacement(self, call: Call, client_key: str) -> None:
        """Raises PERMISSION_DENIED unless the caller may delete the client key that the first rotation will."""
        name = names.parse(client_key, "value.client_key", "clientKeys")
        self._authorizer.authorize(call, "access:DeleteClientKey", Resource("ClientKey", str(name), name.account))

    def reading(self) -> AbstractContextManager[Connection]:
        """The database, to be read."""
        return reading(self._engine)

    def is_master(self, secret: Secret) -> bool:
        """Whether the secret is, or was, the master of another."""
        with reading(self._engine) as connection:
            return secret.lent or bool(store.users_of_master(connection, secret.name))

    def permitted_edit(self, call: Call, action: str, name: ResourceName, change: Change) -> Secret:
        """Changes a secret once the caller may. Raises as `permitted`, and what `change` does."""
        self.permitted(call, action, name)
        return self.edit(call, name, change)

    def edit(self, call: Call, name: ResourceName, change: Change, pairs: Permitted = NONE) -> Secret:
        """Changes a secret for a call that was permitted before, with the new pairs of value and destination that it
        may make. Raises SECRET_NOT_FOUND, what `change` does, and STAGE_CONFLICT for any other pair."""

        def lock(connection: Connection) -> Secret:
            present = store.secret(connection, name, lock=True)
            if present is None:
                raise no_secret(name)
            return present

        return self._edits.edit(call, lock, change, partial(write, permitted=pairs))


def add_version(
    connection: Connection, secret: Secret, added: SealedVersion, moved: Mapping[str, int], now_us: int
) -> Secret:
    """Adds a version and moves stages, to be followed by `write`. The oldest versions beyond what is retained lose
    their values; LIMIT_EXCEEDED when all of those are at a stage."""
    store.insert_version(connection, added)
    at, number = {**secret.stages, **moved}, added.version.name.version
    grown = replace(
        secret, latest_version=number, stages=at, standing={**secret.standing, number: added.version.revision}
    )
    return store.destroy_values(
        connection, grown, outlived(sorted(grown.standing), at, secret.retained_versions), now_us
    )


def require_no_rotation(secret: Secret) -> None:
    """Raises ROTATION_ACTIVE while a rotation of the secret is not ended."""
    if secret.active_rotation:
        raise StrongroomError(
            Reason.ROTATION_ACTIVE,
            f"{secret.name}/rotations/{secret.active_rotation} is not ended",
            rotation=str(secret.active_rotation),
        )


def write(connection: Connection, before: Secret, wanted: Secret, now_us: int, permitted: Permitted = NONE) -> Secret:
    """Writes what changed of a secret, and notes what matters to who watches or reads it; the secret as it then is.
    Every change of a record goes through here. Raises STAGE_CONFLICT for one that would have a value sent where nobody
    was asked whether it may."""
    require_permitted(connection, before, wanted, permitted)
    changed = replace(wanted, revision=before.revision + 1, updated_us=now_us)
    store.update_secret(connection, changed)
    store.set_stages(connection, changed.name, changed.stages, before.stages)
    if changed.state != before.state:
        kind = SECRET_CHANGE_RESTORED if changed.state == SECRET_STATE_ENABLED else SECRET_CHANGE_DELETED
        changes.note(connection, changed.name, kind, 0, changed.stages, now_us)
    elif changed.stages != before.stages:
        changes.note(connection, changed.name, SECRET_CHANGE_STAGE, _moved(before, changed), changed.stages, now_us)
    elif (changed.tags, changed.retained_versions) != (before.tags, before.retained_versions):
        # Access may depend on tags, and with fewer versions retained values are destroyed.
        changes.note(connection, changed.name, changes.UNTOLD, 0, changed.stages, now_us)
    return changed


def _moved(before: Secret, after: Secret) -> int:
    """The version that a stage moved to, Current's before any other's; 0 where stages were only removed."""
    moved = {stage: at for stage, at in after.stages.items() if before.stages.get(stage) != at}
    return moved.get(CURRENT, max(moved.values(), default=0))
