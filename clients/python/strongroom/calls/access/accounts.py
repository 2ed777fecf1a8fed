"""Accounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, mask_of, new_request_id, pages
from strongroom.convert import moment
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant of the mesh.

    `event_id` is the id of the audit event of the call that answered it; it is empty in lists.
    """

    name: str
    display_name: str
    tags: Mapping[str, str]
    disabled: bool
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""
    spiffe_id_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreatedAccount:
    """A new account and its administrator, by full name.

    Where the administrator was given no SPIFFE id, `client_key` is the full name of a client key that was made for it:
    it ends after 24 hours, and its secret is shown here alone.
    """

    account: Account
    administrator: str
    client_key: str
    client_key_secret: str = field(repr=False)
    event_id: str = ""


class Accounts(Part[AccessServiceStub]):
    """Keeps accounts. `account` is an id or a full name; by default it is the client's own."""

    def create(
        self,
        account_id: str,
        *,
        display_name: str = "",
        tags: Mapping[str, str] | None = None,
        administrator_id: str = "",
        administrator_spiffe_ids: Sequence[str] = (),
        spiffe_id_prefixes: Sequence[str] = (),
        timeout: float | None = None,
    ) -> CreatedAccount:
        """Makes an account, its administrator and its default policies.

        This is for administrators of the mesh, who get no access to what the account holds. The administrator is
        `users/admin` unless `administrator_id` names another; without `administrator_spiffe_ids` a client key is made
        for it. Its principals may be known by SPIFFE ids that are, or are below, one of `spiffe_id_prefixes` that ends
        with `/`. Raises ALREADY_EXISTS.
        """
        request = pb.CreateAccountRequest(
            account_id=account_id,
            account=principal_pb2.Account(
                display_name=display_name, tags=tags or {}, spiffe_id_prefixes=spiffe_id_prefixes
            ),
            administrator_id=administrator_id,
            administrator_spiffe_ids=administrator_spiffe_ids,
            request_id=new_request_id(),
        )
        answer = self._service.call(self._service.stub.CreateAccount, request, timeout)
        made = answer.response
        return CreatedAccount(
            account=_account(made.account),
            administrator=made.administrator.name,
            client_key=made.client_key.name,
            client_key_secret=made.client_key_secret,
            event_id=answer.event_id,
        )

    def get(self, account: str = "", *, timeout: float | None = None) -> Account:
        """Answers an account. Raises ACCOUNT_NOT_FOUND."""
        request = pb.GetAccountRequest(name=self._names.other_account(account))
        return _answered(self._service.call(self._service.stub.GetAccount, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Account]:
        """Lists the accounts of the mesh by name; `filter` is such as `id_prefix = acme`.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[list[Account], str]:
            request = pb.ListAccountsRequest(page_size=size, page_token=token, filter=filter)
            answer = self._service.call(self._service.stub.ListAccounts, request, timeout).response
            return [_account(account) for account in answer.accounts], answer.next_page_token

        return pages(fetch, limit)

    def update(
        self,
        account: str = "",
        *,
        display_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        spiffe_id_prefixes: Sequence[str] | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Account:
        """Changes what is given of an account: `None` leaves a field as it is.

        `spiffe_id_prefixes` are for administrators of the mesh: the SPIFFE ids that the account's principals may be
        known by. With an `etag`, the account is changed only if that is still current. Raises ETAG_MISMATCH,
        ALREADY_EXISTS.
        """
        wanted = principal_pb2.Account(
            name=self._names.other_account(account),
            display_name=display_name or "",
            tags=tags or {},
            spiffe_id_prefixes=spiffe_id_prefixes or (),
            etag=etag,
        )
        given = {"display_name": display_name, "tags": tags, "spiffe_id_prefixes": spiffe_id_prefixes}
        request = pb.UpdateAccountRequest(account=wanted, update_mask=mask_of(given))
        return _answered(self._service.call(self._service.stub.UpdateAccount, request, timeout))

    def disable(self, account: str, *, timeout: float | None = None) -> Account:
        """Refuses everything in an account until it is enabled."""
        request = pb.DisableAccountRequest(name=self._names.other_account(account))
        return _answered(self._service.call(self._service.stub.DisableAccount, request, timeout))

    def enable(self, account: str, *, timeout: float | None = None) -> Account:
        """Lets a disabled account be used again."""
        request = pb.EnableAccountRequest(name=self._names.other_account(account))
        return _answered(self._service.call(self._service.stub.EnableAccount, request, timeout))


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
        spiffe_id_prefixes=tuple(account.spiffe_id_prefixes),
    )
