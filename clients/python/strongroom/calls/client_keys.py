"""Client keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.calls.accounts import AccountCalls
from strongroom.calls.base import mask_of, new_request_id, pages
from strongroom.convert import moment, timestamp
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that a client without a certificate authenticates with. `last_use_time` is exact to the minute.
    `rotated_by` is the full name of the secret whose rotation made it; empty for others. `event_id` is the audit event
    of the call that answered it; empty in lists."""

    name: str
    principal: str
    description: str
    disabled: bool
    expire_time: datetime | None
    last_use_time: datetime | None
    create_time: datetime | None
    etag: str
    rotated_by: str = ""
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class CreatedClientKey:
    """A new client key, and its secret, which is shown here alone."""

    client_key: ClientKey
    secret: str = field(repr=False)
    event_id: str = ""


class ClientKeyCalls(AccountCalls):
    """Methods that keep client keys. `client_key` is an id or a full name."""

    def create_client_key(
        self,
        principal: str,
        *,
        description: str = "",
        expire_time: datetime | None = None,
        timeout: float | None = None,
    ) -> CreatedClientKey:
        """Makes a client key of a user or workload (`users/{id}`, `workloads/{id}`), which ends after 90 days unless
        another time within 366 days is given. Raises LIMIT_EXCEEDED where two are neither disabled nor expired.
        """
        name = self.names.principal(principal)
        wanted = principal_pb2.ClientKey(principal=name, description=description)
        if expire_time is not None:
            wanted.expire_time.CopyFrom(timestamp(expire_time, "expire_time"))
        parent = self.names.parts(name, "principal")[0]
        request = pb.CreateClientKeyRequest(parent=parent, client_key=wanted, request_id=new_request_id())
        answer = self._access.call(self._access.stub.CreateClientKey, request, timeout)
        return CreatedClientKey(_client_key(answer.response.client_key), answer.response.secret, answer.event_id)

    def get_client_key(self, client_key: str, *, timeout: float | None = None) -> ClientKey:
        """The client key, without its secret. Raises CLIENT_KEY_NOT_FOUND."""
        request = pb.GetClientKeyRequest(name=self.names.client_key(client_key))
        return _answered(self._access.call(self._access.stub.GetClientKey, request, timeout))

    def list_client_keys(
        self, principal: str = "", *, limit: int | None = None, timeout: float | None = None
    ) -> Iterator[ClientKey]:
        """The account's client keys by name, or those of one principal; pages are fetched as they are needed."""
        condition = f'principal = "{self.names.principal(principal)}"' if principal else ""

        def fetch(token: str, size: int) -> tuple[list[ClientKey], str]:
            request = pb.ListClientKeysRequest(
                parent=self.names.account, page_size=size, page_token=token, filter=condition
            )
            answer = self._access.call(self._access.stub.ListClientKeys, request, timeout).response
            return [_client_key(key) for key in answer.client_keys], answer.next_page_token

        return pages(fetch, limit)

    def update_client_key(
        self,
        client_key: str,
        *,
        description: str | None = None,
        disabled: bool | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> ClientKey:
        """Changes what is given; with an etag, only if it is still current: ETAG_MISMATCH. Sessions that a disabled one
        began stop within one second. Raises LIMIT_EXCEEDED where enabling would make it the third."""
        wanted = principal_pb2.ClientKey(
            name=self.names.client_key(client_key), description=description or "", disabled=bool(disabled), etag=etag
        )
        given = {"description": description, "disabled": disabled}
        request = pb.UpdateClientKeyRequest(client_key=wanted, update_mask=mask_of(given))
        return _answered(self._access.call(self._access.stub.UpdateClientKey, request, timeout))

    def delete_client_key(self, client_key: str, *, etag: str = "", timeout: float | None = None) -> str:
        """Deletes a client key, and ends the sessions that it began within one second; answers the event id."""
        request = pb.DeleteClientKeyRequest(name=self.names.client_key(client_key), etag=etag)
        return self._access.call(self._access.stub.DeleteClientKey, request, timeout).event_id


def _answered(answer: Answer[principal_pb2.ClientKey]) -> ClientKey:
    return _client_key(answer.response, answer.event_id)


def _client_key(key: principal_pb2.ClientKey, event_id: str = "") -> ClientKey:
    return ClientKey(
        name=key.name,
        principal=key.principal,
        description=key.description,
        disabled=key.disabled,
        expire_time=moment(key.expire_time),
        last_use_time=moment(key.last_use_time),
        create_time=moment(key.create_time),
        etag=key.etag,
        rotated_by=key.rotated_by,
        event_id=event_id,
    )
