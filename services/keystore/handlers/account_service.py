"""Handlers of accounts."""

from __future__ import annotations

from services.keystore.access.accounts.accounts import PREFIXES, Accounts, MadeAccount, NewAccount
from services.keystore.access.accounts.identities import SpiffeIds
from services.keystore.access.records import filters
from services.keystore.access.records.resources import Account, id_of
from services.keystore.handlers.client_key_service import client_key_message
from services.keystore.handlers.principal_service import principal_message
from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import required
from services.runtime.requests import names
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.requests.paging import Page
from services.runtime.requests.tags import check_tags
from services.runtime.storage.request_ids import repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2

_MAX_DISPLAY_NAME = 256
_ADMINISTRATOR = "admin"
_PATHS = ("display_name", "tags")
# For the mesh's administrators: a mask that says nothing does not mean it.
_GIVEN = "spiffe_id_prefixes"


class AccountHandlers:
    """The methods of AccessService about accounts."""

    def __init__(self, accounts: Accounts, spiffe_ids: SpiffeIds) -> None:
        self._accounts = accounts
        self._spiffe_ids = spiffe_ids

    def CreateAccount(self, request: pb.CreateAccountRequest, call: Call) -> pb.CreateAccountResponse:
        """A new account, and the way into it."""
        return _made_message(self._accounts.create(call, self._new_account(request), repeatable(request, call)))

    def GetAccount(self, request: pb.GetAccountRequest, call: Call) -> principal_pb2.Account:
        """An account."""
        return account_message(self._accounts.get(call, _name(request.name, "name")))

    def ListAccounts(self, request: pb.ListAccountsRequest, call: Call) -> pb.ListAccountsResponse:
        """A page of accounts, by id."""
        conditions = filters.of_accounts(request.filter)
        page = Page.of(request, f"accounts?{request.filter}")
        found = self._accounts.page(call, page.after, page.limit, conditions)
        accounts, token = page.fill(found, account_message, lambda account: id_of(account.name))
        return pb.ListAccountsResponse(accounts=accounts, next_page_token=token)

    def UpdateAccount(self, request: pb.UpdateAccountRequest, call: Call) -> principal_pb2.Account:
        """Another display name, other tags, other SPIFFE ids that its principals may be known by."""
        asked = request.account
        name = _name(asked.name, "account.name")
        paths = changed_paths(request.update_mask, (*_PATHS, _GIVEN)) if request.update_mask.paths else _PATHS
        display_name = check_text(asked.display_name, "account.display_name", _MAX_DISPLAY_NAME)
        tags = check_tags(asked.tags, "account.tags")
        prefixes = self._spiffe_ids.checked_prefixes(asked.spiffe_id_prefixes, PREFIXES)
        changed = self._accounts.update(
            call,
            name,
            display_name if "display_name" in paths else None,
            tags if "tags" in paths else None,
            prefixes if _GIVEN in paths else None,
            asked.etag,
        )
        return account_message(changed)

    def DisableAccount(self, request: pb.DisableAccountRequest, call: Call) -> principal_pb2.Account:
        """Refuses everything in an account."""
        return account_message(self._accounts.disable(call, _name(request.name, "name")))

    def EnableAccount(self, request: pb.EnableAccountRequest, call: Call) -> principal_pb2.Account:
        """Ends what DisableAccount began."""
        return account_message(self._accounts.enable(call, _name(request.name, "name")))

    def _new_account(self, request: pb.CreateAccountRequest) -> NewAccount:
        if not request.account_id:
            raise required("account_id")
        account_id = names.check_id(request.account_id, "accounts", "account_id")
        administrator = request.administrator_id or _ADMINISTRATOR
        account = Account(
            f"accounts/{account_id}",
            check_text(request.account.display_name, "account.display_name", _MAX_DISPLAY_NAME),
            check_tags(request.account.tags, "account.tags"),
            spiffe_id_prefixes=self._spiffe_ids.checked_prefixes(request.account.spiffe_id_prefixes, PREFIXES),
        )
        return NewAccount(
            account,
            names.check_id(administrator, "users", "administrator_id"),
            self._spiffe_ids.checked(request.administrator_spiffe_ids, "administrator_spiffe_ids"),
        )


def account_message(account: Account) -> principal_pb2.Account:
    """An account as callers see it."""
    return principal_pb2.Account(
        name=account.name,
        display_name=account.display_name,
        tags=account.tags,
        disabled=account.disabled,
        create_time=clock.from_microseconds(account.created_us),
        update_time=clock.from_microseconds(account.updated_us),
        etag=str(account.revision),
        spiffe_id_prefixes=account.spiffe_id_prefixes,
    )


def _made_message(made: MadeAccount) -> pb.CreateAccountResponse:
    return pb.CreateAccountResponse(
        account=account_message(made.account),
        administrator=principal_message(made.administrator),
        client_key=client_key_message(made.client_key) if made.client_key else None,
        client_key_secret=made.secret.reveal().decode() if made.secret else "",
    )


def _name(name: str, field: str) -> str:
    return f"accounts/{names.parse_account(name, field)}"
