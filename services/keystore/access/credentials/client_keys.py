"""Client keys: what a client without a certificate authenticates with. Secrets are shown once, and kept as hashes."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.editing.plans import Needs
from services.keystore.access.records import client_key_store
from services.keystore.access.records.resources import ROLES, ClientKey, account_of, collection_of
from services.runtime import identifiers
from services.runtime.access.client_key_secrets import SHA256_BYTES, new_secret, secret_of, secret_sha256
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import row_seals
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.sql_filters import Condition

MAX_ACTIVE = 2
"""So many client keys of a principal are neither disabled nor expired: the old one and the next."""
# In place of the hash of a client key that is not there, so that it takes as long.
_NO_HASH = bytes(SHA256_BYTES)
_SECRET = "client key secret"  # noqa: S105  # what it is called


def made(principal: str, description: str, expires_us: int) -> tuple[ClientKey, SensitiveBytes]:
    """A new client key of a principal, and its secret."""
    secret = new_secret()
    name = f"accounts/{account_of(principal)}/clientKeys/{identifiers.resource_id('ck')}"
    return ClientKey(name, principal, secret_sha256(secret.reveal().decode()), description, expires_us), secret


def made_by(
    connection: Connection, repeatable: Repeatable | None, principal: str, description: str, expires_us: int
) -> tuple[ClientKey, SensitiveBytes]:
    """A new client key, and its secret: one that can be `shown_again` where the request may come again."""
    key, secret = made(principal, description, expires_us)
    if repeatable is None:
        return key, secret
    secret = _secret_of(connection, key.name, repeatable)
    return replace(key, secret_sha256=secret_sha256(secret.reveal().decode())), secret


def shown_again(connection: Connection, found: ClientKey, repeatable: Repeatable | None) -> SensitiveBytes | None:
    """The secret of a client key, for the request that made it: the answer to that may have been lost, and with it the
    only credential that there is. None once it was used, as somebody has it then.

    It is the same one, not another: of two answers to one request, the caller cannot tell which is the newer.
    """
    if repeatable is None or found.used_us is not None:
        return None
    secret = _secret_of(connection, found.name, repeatable)
    return secret if is_secret_of(secret.reveal().decode(), found) else None


def _secret_of(connection: Connection, name: str, repeatable: Repeatable) -> SensitiveBytes:
    random = row_seals.of(connection).derived(_SECRET, name.encode(), repeatable.witness)
    return SensitiveBytes(secret_of(random).encode())


def is_secret_of(secret: str, found: ClientKey | None) -> bool:
    """Whether a secret is that of a client key; that there is none takes as long."""
    return hmac.compare_digest(secret_sha256(secret), found.secret_sha256 if found else _NO_HASH) and found is not None


def require_valid(found: ClientKey | None, secret: str, now_us: int) -> ClientKey:
    """The client key, once it is there, has this secret, and is neither disabled nor expired. Raises
    CREDENTIAL_INVALID, and does not tell why."""
    if not is_secret_of(secret, found) or found is None or found.disabled or found.expires_us <= now_us:
        raise StrongroomError(Reason.CREDENTIAL_INVALID, "the client key or its secret is not valid")
    return found


def require_room(connection: Connection, principal: str, now_us: int, besides: Collection[str] = ()) -> None:
    """Raises LIMIT_EXCEEDED where a principal has as many client keys as it may, besides some that do not count."""
    if client_key_store.count_active(connection, principal, now_us, besides) >= MAX_ACTIVE:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"{principal} has {MAX_ACTIVE} client keys that are neither disabled nor expired",
            limit=str(MAX_ACTIVE),
        )


class ClientKeys:
    """The client keys of all accounts."""

    def __init__(self, editor: AccessEditor) -> None:
        self._editor = editor

    def create(
        self,
        call: Call,
        account: str,
        principal: str,
        description: str,
        expires_us: int,
        repeatable: Repeatable | None,
    ) -> tuple[ClientKey, SensitiveBytes]:
        """Adds a client key, and answers it with its secret; the same for a repeated request. Raises
        PRINCIPAL_NOT_FOUND, FIELD_INVALID for a role or another account's principal, LIMIT_EXCEEDED, REQUEST_ID_REUSED,
        and SECRET_SHOWN for a repeated request once the client key was used."""
        field = "client_key.principal"
        if account_of(principal) != account:
            raise invalid(field, "is not of this account")
        with self._editor.reading() as connection:
            key, secret = made_by(connection, repeatable, principal, description, expires_us)
        self._editor.permitted(
            call, "access:CreateClientKey", kinds.PRINCIPAL, key.principal, about=key.name, field=field
        )
        if collection_of(key.principal) == ROLES:
            raise invalid(field, "is a role, which has no credentials of its own")

        def check(connection: Connection, _new: ClientKey) -> None:
            kinds.PRINCIPAL.require(connection, key.principal, field)
            require_room(connection, key.principal, self._editor.now_us())

        needs = Needs(room=True)
        created = self._editor.create(call, kinds.CLIENT_KEY, key, "client_key", repeatable, check=check, needs=needs)
        if created.name == key.name:
            return created, secret
        call.events[-1].resource = created.name
        with self._editor.reading() as connection:
            again = shown_again(connection, created, repeatable)
        if again is None:
            raise StrongroomError(
                Reason.SECRET_SHOWN,
                f"{created.name} was made by this request, and its secret was used, already: go on with that, or "
                "delete it and create another",
                field="request_id",
                client_key=created.name,
            )
        return created, again

    def get(self, call: Call, name: str) -> ClientKey:
        """A client key. Raises CLIENT_KEY_NOT_FOUND."""
        return self._editor.permitted(call, "access:GetClientKey", kinds.CLIENT_KEY, name)

    def page(
        self, call: Call, account: str, after: str, limit: int, conditions: Sequence[Condition]
    ) -> list[ClientKey]:
        """An account's client keys that meet the conditions, by name, from the first behind the id `after`."""
        self._editor.permitted(call, "access:ListClientKeys", kinds.ACCOUNT, f"accounts/{account}", field="parent")
        with self._editor.reading() as connection:
            return client_key_store.client_keys_page(connection, account, after, limit, conditions)

    def update(self, call: Call, name: str, description: str | None, disabled: bool | None, etag: str) -> ClientKey:
        """Changes what is not None. Raises CLIENT_KEY_NOT_FOUND, ETAG_MISMATCH, and LIMIT_EXCEEDED where enabling would
        make it the third."""
        self._editor.permitted(call, "access:UpdateClientKey", kinds.CLIENT_KEY, name)

        def change(connection: Connection, present: ClientKey) -> ClientKey:
            wanted = replace(
                present,
                description=present.description if description is None else description,
                disabled=present.disabled if disabled is None else disabled,
            )
            now_us = self._editor.now_us()
            if present.disabled and not wanted.disabled and present.expires_us > now_us:
                require_room(connection, present.principal, now_us)
            return wanted

        return self._editor.edit(call, kinds.CLIENT_KEY, name, change, etag=etag, removes=bool(disabled))

    def delete(self, call: Call, name: str, etag: str) -> None:
        """Deletes a client key. Raises CLIENT_KEY_NOT_FOUND, ETAG_MISMATCH."""
        self._editor.permitted(call, "access:DeleteClientKey", kinds.CLIENT_KEY, name)

        def remove(connection: Connection, present: ClientKey) -> None:
            client_key_store.delete_client_key(connection, present.name, self._editor.now_us())

        self._editor.delete(call, kinds.CLIENT_KEY, name, etag, remove)
