"""Handlers of client keys."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from services.keystore.access.credentials.client_keys import ClientKeys
from services.keystore.access.records import filters
from services.keystore.access.records.resources import PRINCIPALS, ClientKey, id_of
from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import invalid
from services.runtime.requests import names
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.requests.paging import Page
from services.runtime.storage.request_ids import repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import principal_pb2

_DAY_US = 24 * 3600 * 1_000_000
_DEFAULT_LIFETIME_US = 90 * _DAY_US
LONGEST_LIFETIME_US = 366 * _DAY_US
"""Of a client key, from its creation."""
_PATHS = ("description", "disabled")


class ClientKeyHandlers:
    """The methods of AccessService about client keys."""

    def __init__(self, client_keys: ClientKeys, clock: clock.Clock) -> None:
        self._client_keys = client_keys
        self._clock = clock

    def CreateClientKey(self, request: pb.CreateClientKeyRequest, call: Call) -> pb.CreateClientKeyResponse:
        """A new client key, and its secret."""
        account = names.parse_account(request.parent, "parent")
        asked = request.client_key
        principal = names.parse(asked.principal, "client_key.principal", *PRINCIPALS)
        description = check_text(asked.description, "client_key.description")
        created, secret = self._client_keys.create(
            call, account, str(principal), description, self._expiry(asked), repeatable(request, call)
        )
        return pb.CreateClientKeyResponse(client_key=client_key_message(created), secret=secret.reveal().decode())

    def GetClientKey(self, request: pb.GetClientKeyRequest, call: Call) -> principal_pb2.ClientKey:
        """A client key."""
        return client_key_message(self._client_keys.get(call, _name(request.name, "name")))

    def ListClientKeys(self, request: pb.ListClientKeysRequest, call: Call) -> pb.ListClientKeysResponse:
        """A page of an account's client keys, by id."""
        account = names.parse_account(request.parent, "parent")
        conditions = filters.of_client_keys(request.filter)
        page = Page.of(request, f"{request.parent}/clientKeys?{request.filter}")
        found = self._client_keys.page(call, account, page.after, page.limit, conditions)
        keys, token = page.fill(found, client_key_message, lambda key: id_of(key.name))
        return pb.ListClientKeysResponse(client_keys=keys, next_page_token=token)

    def UpdateClientKey(self, request: pb.UpdateClientKeyRequest, call: Call) -> principal_pb2.ClientKey:
        """Another description; disabled, or enabled again."""
        asked = request.client_key
        name = _name(asked.name, "client_key.name")
        paths = changed_paths(request.update_mask, _PATHS)
        description = check_text(asked.description, "client_key.description")
        changed = self._client_keys.update(
            call,
            name,
            description if "description" in paths else None,
            asked.disabled if "disabled" in paths else None,
            asked.etag,
        )
        return client_key_message(changed)

    def DeleteClientKey(self, request: pb.DeleteClientKeyRequest, call: Call) -> Empty:
        """Ends a client key, and the sessions that it began."""
        self._client_keys.delete(call, _name(request.name, "name"), request.etag)
        return Empty()

    def _expiry(self, asked: principal_pb2.ClientKey) -> int:
        now_us = self._clock.now_us()
        if not asked.HasField("expire_time"):
            return now_us + _DEFAULT_LIFETIME_US
        expires_us = clock.microseconds(asked.expire_time)
        if not now_us < expires_us <= now_us + LONGEST_LIFETIME_US:
            raise invalid("client_key.expire_time", "is not within the next 366 days")
        return expires_us


def client_key_message(key: ClientKey) -> principal_pb2.ClientKey:
    """A client key as callers see it: without its secret."""
    return principal_pb2.ClientKey(
        name=key.name,
        principal=key.principal,
        description=key.description,
        disabled=key.disabled,
        expire_time=clock.from_microseconds(key.expires_us),
        last_use_time=clock.from_microseconds(key.used_us) if key.used_us is not None else None,
        create_time=clock.from_microseconds(key.created_us),
        etag=str(key.revision),
        rotated_by=key.rotated_by,
    )


def _name(name: str, field: str) -> str:
    return str(names.parse(name, field, "clientKeys"))
