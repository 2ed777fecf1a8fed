"""Accounts, which administrators of the mesh create, and which each account's own administrator describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.keystore.access.accounts import new_accounts
from services.keystore.access.accounts.identities import require_free_prefixes, require_free_spiffe_ids, settle
from services.keystore.access.credentials import client_keys
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor, already_exists, insert
from services.keystore.access.records import account_store, principal_store
from services.keystore.access.records.resources import Account, ClientKey, Principal, account_of
from services.keystore.mesh import mesh_resource
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.editing import UNCHANGED, Unchanged
from services.runtime.storage.request_ids import Repeatable
from services.runtime.storage.sql_filters import Condition

PREFIXES = "account.spiffe_id_prefixes"
_ADMINISTRATOR_IDS = "administrator_spiffe_ids"
_FIRST_CLIENT_KEY_US = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What a caller asks a new account to be."""

    account: Account
    administrator_id: str
    administrator_spiffe_ids: tuple[str, ...]
    """Without any, a client key is made."""


@dataclass(frozen=True, slots=True)
class MadeAccount:
    """A new account, and the way into it."""

    account: Account
    administrator: Principal
    client_key: ClientKey | None = None
    secret: SensitiveBytes | None = None
    """Of the client key; the same when the request is repeated, and not there any more once it was used."""


class Accounts:
    """The accounts of the mesh. `operator` is the id of the one that its administrators belong to."""

    def __init__(self, editor: AccessEditor, operator: str) -> None:
        self._editor = editor
        self._operator = operator
        self._mesh = mesh_resource(operator)

    def create(self, call: Call, new: NewAccount, repeatable: Repeatable | None) -> MadeAccount:
        """Adds an account with its administrator and default policies. Raises ALREADY_EXISTS, REQUEST_ID_REUSED."""
        name = new.account.name
        self._editor.authorize(call, "access:CreateAccount", self._mesh, name)
        try:
            with self._editor.changing(self._operator) as connection:
                before = self._editor.made_before(connection, self._operator, repeatable)
                if before is not None:
                    return self._made_before(connection, new, before, repeatable)
                now_us = self._editor.now_us()
                wanted = _with_given(connection, new)
                account, administrator = new_accounts.add(connection, wanted, new.administrator_id, (), now_us)
                settle(connection, account, self._operator, PREFIXES, now_us)
                made = self._with_credentials(connection, account, administrator, new, now_us, repeatable)
                first = made.client_key.name if made.client_key else name
                self._editor.remember(connection, self._operator, repeatable, first)
                self._editor.record(connection, call)
        except IntegrityError:
            raise already_exists(name, "account_id") from None
        return made

    def get(self, call: Call, name: str) -> Account:
        """An account. Raises ACCOUNT_NOT_FOUND."""
        return self._editor.permitted(call, "access:GetAccount", kinds.ACCOUNT, name)

    def page(self, call: Call, after: str, limit: int, conditions: Sequence[Condition]) -> list[Account]:
        """Accounts that meet the conditions, by id, from the first behind `after`."""
        self._editor.authorize(call, "access:ListAccounts", self._mesh)
        with self._editor.reading() as connection:
            return account_store.accounts_page(connection, after, limit, conditions)

    def update(
        self,
        call: Call,
        name: str,
        display_name: str | None,
        tags: Mapping[str, str] | None,
        prefixes: tuple[str, ...] | None,
        etag: str,
    ) -> Account:
        """Changes what is not None; which SPIFFE ids an account was given, administrators of the mesh alone. Raises
        ACCOUNT_NOT_FOUND, ETAG_MISMATCH, ALREADY_EXISTS."""
        if prefixes is not None:
            self._editor.authorize(call, "access:GiveSpiffeIds", self._mesh, name)
        if prefixes is None or display_name is not None or tags is not None:
            self._editor.permitted(call, "access:UpdateAccount", kinds.ACCOUNT, name)

        def change(connection: Connection, present: Account) -> Account:
            require_free_prefixes(connection, account_of(name), prefixes or (), PREFIXES)
            return replace(
                present,
                display_name=present.display_name if display_name is None else display_name,
                tags=present.tags if tags is None else tags,
                spiffe_id_prefixes=present.spiffe_id_prefixes if prefixes is None else prefixes,
            )

        def then(connection: Connection, changed: Account) -> None:
            if prefixes:
                settle(connection, changed, self._operator, PREFIXES, self._editor.now_us())

        try:
            return self._editor.edit(call, kinds.ACCOUNT, name, change, etag=etag, then=then)
        except IntegrityError:
            # Another call was quicker.
            raise already_exists("an account that one of the SPIFFE ids was given to", PREFIXES) from None

    def disable(self, call: Call, name: str) -> Account:
        """Refuses everything in an account. Raises ACCOUNT_NOT_FOUND; POLICY_LOCKOUT for the operator's own, which
        nobody could enable again."""
        self._editor.authorize(call, "access:DisableAccount", self._mesh, name)
        if name == f"accounts/{self._operator}":
            raise StrongroomError(
                Reason.POLICY_LOCKOUT,
                f"{name} is the account of the mesh's administrators: nobody could enable it again",
            )
        return self._set_disabled(call, name, disabled=True)

    def enable(self, call: Call, name: str) -> Account:
        """Ends what `disable` began. Raises ACCOUNT_NOT_FOUND."""
        self._editor.authorize(call, "access:EnableAccount", self._mesh, name)
        return self._set_disabled(call, name, disabled=False)

    def _set_disabled(self, call: Call, name: str, *, disabled: bool) -> Account:
        def change(_connection: Connection, present: Account) -> Account | Unchanged:
            return UNCHANGED if present.disabled == disabled else replace(present, disabled=disabled)

        return self._editor.edit(call, kinds.ACCOUNT, name, change, removes=disabled)

    def _with_credentials(
        self,
        connection: Connection,
        account: Account,
        administrator: Principal,
        new: NewAccount,
        now_us: int,
        repeatable: Repeatable | None,
    ) -> MadeAccount:
        """Gives the administrator of a new account its SPIFFE ids, or else a client key."""
        if new.administrator_spiffe_ids:
            administrator = replace(administrator, spiffe_ids=new.administrator_spiffe_ids)
            principal_store.update_principal(connection, administrator)
            return MadeAccount(account, administrator)
        ends_us = now_us + _FIRST_CLIENT_KEY_US
        key, secret = client_keys.made_by(connection, repeatable, administrator.name, "The first one", ends_us)
        return MadeAccount(account, administrator, insert(connection, kinds.CLIENT_KEY, key, now_us), secret)

    def _made_before(
        self, connection: Connection, new: NewAccount, made: str, repeatable: Repeatable | None
    ) -> MadeAccount:
        """What the request made: `made` is its client key, or the account where that has none."""
        name = new.account.name
        account = kinds.ACCOUNT.require(connection, name, "request_id")
        administrator = kinds.PRINCIPAL.require(connection, f"{name}/users/{new.administrator_id}", "request_id")
        key = kinds.CLIENT_KEY.find(connection, made) if made != name else None
        secret = client_keys.shown_again(connection, key, repeatable) if key else None
        return MadeAccount(account, administrator, key, secret)


def _with_given(connection: Connection, new: NewAccount) -> Account:
    """A new account, given the SPIFFE ids that its administrator is known by and what else it is to have. Raises
    ALREADY_EXISTS for what is another's."""
    account, ids = new.account, new.administrator_spiffe_ids
    administrator = f"{account.name}/users/{new.administrator_id}"
    require_free_prefixes(connection, account_of(account.name), account.spiffe_id_prefixes, PREFIXES)
    require_free_spiffe_ids(connection, administrator, ids, _ADMINISTRATOR_IDS, everywhere=True)
    return replace(account, spiffe_id_prefixes=tuple(sorted({*ids, *account.spiffe_id_prefixes})))
