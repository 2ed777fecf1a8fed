"""One client key of a principal in the place of another, for rotations of secrets.

Who asks is the secrets service, with the account's permission; and it can only replace what it holds: it shows a client
key of the same principal that is valid now, with its secret. The new client key's id and secret are its own choice, so
that it has kept both before anybody could use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.keystore.access.credentials.client_keys import is_secret_of, require_room, require_valid
from services.keystore.access.editing import kinds, plans
from services.keystore.access.editing.editing import AccessEditor, already_exists, insert
from services.keystore.access.records import client_key_store
from services.keystore.access.records.resources import ClientKey, account_of
from services.keystore.store import changes
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError

# Attributes of events.
_SECRET = "secret"  # noqa: S105  # its name
_DRY_RUN = "validate_only"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A client key as who holds it shows it."""

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Whose client keys a rotation replaces, and what it holds of them."""

    principal: str
    rotated_by: str
    """The secret that rotates."""
    current: HeldKey
    """What stays."""
    replaced: HeldKey | None
    """What may go, beside what the secret's rotations made."""


class ClientKeyRotations:
    """Replaces client keys. Every method raises PERMISSION_DENIED, and CREDENTIAL_INVALID unless `current` is a valid
    client key of the principal."""

    def __init__(self, editor: AccessEditor) -> None:
        self._editor = editor

    def install(self, call: Call, wanted: Replacement, new: ClientKey, *, dry_run: bool = False) -> ClientKey:
        """Adds a client key, once; where there is no room, what the secret's rotations made before goes first. Raises
        PRINCIPAL_NOT_FOUND, LIMIT_EXCEEDED, ALREADY_EXISTS for another's id."""
        self._editor.permitted(
            call,
            "access:CreateClientKey",
            kinds.PRINCIPAL,
            wanted.principal,
            about=new.name,
            field="client_key.principal",
        )
        call.events[-1].attributes[_SECRET] = wanted.rotated_by
        if dry_run:
            call.events[-1].attributes[_DRY_RUN] = "true"
        with self._editor.reading() as connection:
            self._require_current(connection, wanted)
            present = client_key_store.client_key(connection, new.name)
            going = [] if present is not None else self._to_make_room(connection, wanted)
            if dry_run:
                besides = [key.name for key in going]
                require_room(connection, wanted.principal, self._editor.now_us(), besides)
                return new
        self._permit_deletion(call, wanted, going)
        if present is None:
            with self._editor.reading() as connection:
                plans.require_room_for_successor(connection, new.name)
        try:
            with self._editor.changing(account_of(new.name)) as connection:
                installed = self._installed(connection, wanted, new, going)
                self._editor.record(connection, call)
        except IntegrityError:
            # One that was deleted is remembered for a while.
            raise already_exists(new.name, "client_key.name") from None
        return installed

    def retire(self, call: Call, wanted: Replacement) -> list[str]:
        """Deletes what `current` has taken the place of, and answers which client keys that were."""
        with self._editor.reading() as connection:
            self._require_current(connection, wanted)
            going = self._replaceable(connection, wanted)
        if not going:
            self._editor.require_standing(call)
            call.record(call.action, wanted.principal, account_of(wanted.principal))
            return []
        self._permit_deletion(call, wanted, going)
        with self._editor.changing(account_of(wanted.principal)) as connection:
            self._delete(connection, going)
            self._editor.record(connection, call)
        return [key.name for key in going]

    def _installed(
        self, connection: Connection, wanted: Replacement, new: ClientKey, going: Sequence[ClientKey]
    ) -> ClientKey:
        present = client_key_store.client_key(connection, new.name)
        if present is not None:
            same = (present.principal, present.rotated_by) == (new.principal, new.rotated_by)
            if not same or present.secret_sha256 != new.secret_sha256:
                raise already_exists(new.name, "client_key.name")
            return present
        kinds.PRINCIPAL.require(connection, wanted.principal, "client_key.principal")
        self._require_current(connection, wanted)
        self._delete(connection, going)
        require_room(connection, wanted.principal, self._editor.now_us())
        return insert(connection, kinds.CLIENT_KEY, new, self._editor.now_us())

    def _require_current(self, connection: Connection, wanted: Replacement) -> None:
        found = client_key_store.client_key(connection, wanted.current.name)
        valid = require_valid(found, wanted.current.secret, self._editor.now_us())
        if valid.principal != wanted.principal:
            raise StrongroomError(
                Reason.CREDENTIAL_INVALID, f"{valid.name} is not a client key of {wanted.principal}", field="current"
            )

    def _to_make_room(self, connection: Connection, wanted: Replacement) -> list[ClientKey]:
        try:
            require_room(connection, wanted.principal, self._editor.now_us())
        except StrongroomError:
            return self._replaceable(connection, wanted)
        return []

    def _replaceable(self, connection: Connection, wanted: Replacement) -> list[ClientKey]:
        found = client_key_store.client_keys_rotated_by(connection, wanted.principal, wanted.rotated_by)
        if wanted.replaced is not None:
            shown = client_key_store.client_key(connection, wanted.replaced.name)
            if shown is not None and is_secret_of(wanted.replaced.secret, shown) and shown not in found:
                found.append(shown)
        return [key for key in found if key.principal == wanted.principal and key.name != wanted.current.name]

    def _permit_deletion(self, call: Call, wanted: Replacement, going: Sequence[ClientKey]) -> None:
        for key in going:
            self._editor.authorize(call, "access:DeleteClientKey", key.resource)
            call.events[-1].attributes[_SECRET] = wanted.rotated_by

    def _delete(self, connection: Connection, going: Sequence[ClientKey]) -> None:
        for key in going:
            if client_key_store.client_key(connection, key.name) is not None:
                client_key_store.delete_client_key(connection, key.name, self._editor.now_us())
                changes.note(connection, kinds.CLIENT_KEY.change, key.name, account_of(key.name))
