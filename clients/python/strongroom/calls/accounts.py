"""Accounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Calls, mask_of, new_request_id, pages
from strongroom.convert import moment
from strongroom.transport import Answer, Endpoint


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant. `event_id` is the audit event of the call that answered it; empty in lists."""

    name: str
    display_name: str
    tags: Mapping[str, str]
    disabled: bool
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class CreatedAccount:
    """A new account, its administrator by name, and the administrator's client key where one was made: it ends after
    24 hours, and its secret is shown here alone."""

    account: Account
    administrator: str
    client_key: str
    client_key_secret: str = field(repr=False)
    event_id: str = ""


class AccountCalls(Calls):
    """Methods that keep accounts. `account` is an id or a full name; by default it is the client's own.

    Each takes `timeout` in seconds and raises StrongroomError; the contract names the reasons
    (`protos/strongroom/access/v1/access_service.proto`).
    """

    @cached_property
    def _access(self) -> Endpoint[AccessServiceStub]:
        return self._transport.endpoint("keystore", AccessServiceStub)

    def create_account(
        self,
        account_id: str,
        *,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        administrator_id: str = "",
        administrator_spiffe_ids: Sequence[str] = (),
        timeout: float | None = None,
    ) -> CreatedAccount:
        """Makes an account, its administrator (`admin` by default) and its default policies, for administrators of the
        mesh, who get no access to what it holds. Without SPIFFE ids a client key is made. Raises ALREADY_EXISTS.
        """
        request = pb.CreateAccountRequest(
            account_id=account_id,
            account=principal_pb2.Account(display_name=display_name, tags=tags or {}),
            administrator_id=administrator_id,
            administrator_spiffe_ids=administrator_spiffe_ids,
            request_id=new_request_id(),
        )
        answer = self._access.call(self._access.stub.CreateAccount, request, timeout)
        made = answer.response
        return CreatedAccount(
            account=_account(made.account),
            administrator=made.administrator.name,
            client_key=made.client_key.name,
            client_key_secret=made.client_key_secret,
            event_id=answer.event_id,
        )

    def get_account(self, account: str = "", *, timeout: float | None = None) -> Account:
        """The account. Raises ACCOUNT_NOT_FOUND."""
        request = pb.GetAccountRequest(name=self.names.other_account(account))
        return _answered(self._access.call(self._access.stub.GetAccount, request, timeout))

    def list_accounts(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Account]:
        """The accounts of the mesh by name; pages are fetched as they are needed. `filter` is `id_prefix = value`."""

        def fetch(token: str, size: int) -> tuple[list[Account], str]:
            request = pb.ListAccountsRequest(page_size=size, page_token=token, filter=filter)
            answer = self._access.call(self._access.stub.ListAccounts, request, timeout).response
            return [_account(account) for account in answer.accounts], answer.next_page_token

        return pages(fetch, limit)

    def update_account(
        self,
        account: str = "",
        *,
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Account:
        """Changes what is given; with an etag, only if it is still current: ETAG_MISMATCH."""
        wanted = principal_pb2.Account(
            name=self.names.other_account(account), display_name=display_name or "", tags=tags or {}, etag=etag
        )
        given = {"display_name": display_name, "tags": tags}
        request = pb.UpdateAccountRequest(account=wanted, update_mask=mask_of(given))
        return _answered(self._access.call(self._access.stub.UpdateAccount, request, timeout))

    def disable_account(self, account: str, *, timeout: float | None = None) -> Account:
        """Refuses everything in an account until it is enabled."""
        request = pb.DisableAccountRequest(name=self.names.other_account(account))
        return _answered(self._access.call(self._access.stub.DisableAccount, request, timeout))

    def enable_account(self, account: str, *, timeout: float | None = None) -> Account:
        """Ends what `disable_account` began."""
        request = pb.EnableAccountRequest(name=self.names.other_account(account))
        return _answered(self._access.call(self._access.stub.EnableAccount, request, timeout))


def _answered(answer: Answer[principal_pb2.Account]) -> Account:
    return _account(answer.response, answer.event_id)


def _account(account: principal_pb2.Account, event_id: str = "") -> Account:
    return Account(
        name=account.name,
        display_name=account.display_name,
        tags=dict(account.tags),
        disabled=account.disabled,
        create_time=moment(account.create_time),
        update_time=moment(account.update_time),
        etag=account.etag,
        event_id=event_id,
    )
