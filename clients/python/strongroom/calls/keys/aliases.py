"""Second names of keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.calls.base import Part, new_request_id, pages
from strongroom.convert import moment
from strongroom.keystore.v1 import key_pb2
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name for the key `key`.

    `event_id` is the id of the audit event of the call that answered it; it is empty in lists.
    """

    name: str
    key: str
    description: str
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""


class Aliases(Part[KeyServiceStub]):
    """Makes second names of keys and moves them. `alias` is an id, `alias/{alias}`, or a full name."""

    def create(self, alias_id: str, key: str, *, description: str = "", timeout: float | None = None) -> Alias:
        """Makes an alias for a key, not for another alias. Raises ALREADY_EXISTS, KEY_NOT_FOUND, LIMIT_EXCEEDED."""
        request = pb.CreateAliasRequest(
            parent=self._names.account,
            alias_id=self._names.id("aliases", alias_id.removeprefix("alias/")),
            alias=key_pb2.Alias(key=self._names.key(key), description=description),
            request_id=new_request_id(),
        )
        return _answered_alias(self._service.call(self._service.stub.CreateAlias, request, timeout))

    def get(self, alias: str, *, timeout: float | None = None) -> Alias:
        """Answers an alias. Raises ALIAS_NOT_FOUND."""
        request = pb.GetAliasRequest(name=self._names.alias(alias))
        return _answered_alias(self._service.call(self._service.stub.GetAlias, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the name in the contract
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Alias]:
        """Lists the account's aliases by name; `filter` may ask for `key` and `id_prefix`.

        Pages are fetched as they are needed, `limit` items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[list[Alias], str]:
            request = pb.ListAliasesRequest(parent=self._names.account, page_size=size, page_token=token, filter=filter)
            answer = self._service.call(self._service.stub.ListAliases, request, timeout).response
            return [_alias(alias) for alias in answer.aliases], answer.next_page_token

        return pages(fetch, limit)

    def move(self, alias: str, key: str, *, timeout: float | None = None) -> Alias:
        """Makes the alias stand for another key, in one step. Raises ALIAS_NOT_FOUND, FIELD_INVALID."""
        request = pb.UpdateAliasRequest(
            alias=key_pb2.Alias(name=self._names.alias(alias), key=self._names.key(key)),
            update_mask=FieldMask(paths=["key"]),
        )
        return _answered_alias(self._service.call(self._service.stub.UpdateAlias, request, timeout))

    def delete(self, alias: str, *, timeout: float | None = None) -> str:
        """Deletes the alias, and nothing of its key; answers the event id. Raises ALIAS_NOT_FOUND."""
        request = pb.DeleteAliasRequest(name=self._names.alias(alias))
        return self._service.call(self._service.stub.DeleteAlias, request, timeout).event_id


def _answered_alias(answer: Answer[key_pb2.Alias]) -> Alias:
    return _alias(answer.response, answer.event_id)


def _alias(alias: key_pb2.Alias, event_id: str = "") -> Alias:
    return Alias(
        name=alias.name,
        key=alias.key,
        description=alias.description,
        create_time=moment(alias.create_time),
        update_time=moment(alias.update_time),
        etag=alias.etag,
        event_id=event_id,
    )
