"""Client keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.calls.base import Part, mask_of, new_request_id, pages
from strongroom.convert import moment, timestamp
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that a client without a certificate authenticates with.

    `last_use_time` is exact to the minute. `rotated_by` is the full name of the secret whose rotation made the client
    key; it is empty for others. `event_id` is the id of the audit event of the call that answered it; it is empty in
    lists.
    """

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
    """A new client key, and its secret, which is shown here alone and is not in the `repr`."""

    client_key: ClientKey
    secret: str = field(repr=False)
    event_id: str = ""


class ClientKeys(Part[AccessServiceStub]):
    """Keeps client keys. `client_key` is an id or a full name."""

    def create(
        self,
        principal: str,
        *,
        description: str = "",
        expire_time: datetime | None = None,
        timeout: float | None = None,
    ) -> CreatedClientKey:
        """Makes a client key of a user or workload: `users/{id}` or `workloads/{id}`.

        It ends at `expire_time`, within 366 days; by default after 90. Raises PRINCIPAL_NOT_FOUND, and LIMIT_EXCEEDED
        where the principal has two that are neither disabled nor expired.
        """
        name = self._names.principal(principal)
        wanted = principal_pb2.ClientKey(principal=name, description=description)
        if expire_time is not None:
            wanted.expire_time.CopyFrom(timestamp(expire_time, "expire_time"))
        parent = self._names.parts(name, "principal")[0]
        request = pb.CreateClientKeyRequest(parent=parent, client_key=wanted, request_id=new_request_id())
        answer = self._service.call(self._service.stub.CreateClientKey, request, timeout)
        return CreatedClientKey(_client_key(answer.response.client_key), answer.response.secret, answer.event_id)

    def get(self, client_key: str, *, timeout: float | None = None) -> ClientKey:
        """Answers a client key, without its secret. Raises CLIENT_KEY_NOT_FOUND."""
        request = pb.GetClientKeyRequest(name=self._names.client_key(client_key))
        return _answered(self._service.call(self._service.stub.GetClientKey, request, timeout))

    def list(
        self, principal: str = "", *, limit: int | None = None, timeout: float | None = None
    ) -> Iterator[ClientKey]:
        """Lists the account's client keys by name, or those of one principal.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """
        condition = f'principal = "{self._names.principal(principal)}"' if principal else ""

        def fetch(token: str, size: int) -> tuple[list[ClientKey], str]:
            request = pb.ListClientKeysRequest(
                parent=self._names.account, page_size=size, page_token=token, filter=condition
            )
            answer = self._service.call(self._service.stub.ListClientKeys, request, timeout).response
            return [_client_key(key) for key in answer.client_keys], answer.next_page_token

        return pages(fetch, limit)

    def update(
        self,
        client_key: str,
        *,
        description: str | None = None,
        disabled: bool | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> ClientKey:
        """Changes what is given of a client key: `None` leaves a field as it is.

        Sessions that a disabled one began stop within one second, and go on when it is enabled. With an `etag`, it is
        changed only if that is still current: ETAG_MISMATCH. Raises LIMIT_EXCEEDED where enabling would make it the
        principal's third.
        """
        wanted = principal_pb2.ClientKey(
            name=self._names.client_key(client_key), description=description or "", disabled=bool(disabled), etag=etag
        )
        given = {"description": description, "disabled": disabled}
        request = pb.UpdateClientKeyRequest(client_key=wanted, update_mask=mask_of(given))
        return _answered(self._service.call(self._service.stub.UpdateClientKey, request, timeout))

    def delete(self, client_key: str, *, etag: str = "", timeout: float | None = None) -> str:
        """Deletes a client key, and ends the sessions that it began within one second; answers the event id."""
        request = pb.DeleteClientKeyRequest(name=self._names.client_key(client_key), etag=etag)
        return self._service.call(self._service.stub.DeleteClientKey, request, timeout).event_id


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
