"""Handlers of grants."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.empty_pb2 import Empty

from services.keystore.access.policies.grants import Grants, NewGrant, Wanted
from services.keystore.access.records.grant_store import Grant
from services.runtime import clock, encryption_context
from services.runtime.access.grants import CREATE_GRANT, RETIRE_GRANT
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import invalid, required, too_large
from services.runtime.requests import names
from services.runtime.requests.fields import check_text
from services.runtime.requests.names import ResourceName
from services.runtime.requests.paging import Page
from services.runtime.rpc.pipeline import action_of
from services.runtime.storage.request_ids import repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import grant_pb2
from strongroom.crypto.v1 import crypto_pb2

_MAX_OPERATIONS = 32
_MAX_DESCRIPTION = 256
_ANY_ACCOUNT = "accounts/-"
_PRINCIPALS = ("users", "workloads", "roles")
_SERVICE = "services/"

# Those of CryptoService that are on a key; re-encryption is two, one for each of its keys.
_NOT_ON_ONE_KEY = {"crypto:GenerateRandom", "crypto:ReEncrypt"}
_OPERATIONS = {
    *map(action_of, crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"].methods),
    "crypto:ReEncryptFrom",
    "crypto:ReEncryptTo",
    "keystore:GetKey",
    CREATE_GRANT,
    RETIRE_GRANT,
} - _NOT_ON_ONE_KEY


class GrantHandlers:
    """The methods of AccessService about grants."""

    def __init__(self, grants: Grants, clock: Clock) -> None:
        self._grants = grants
        self._clock = clock

    def CreateGrant(self, request: pb.CreateGrantRequest, call: Call) -> grant_pb2.Grant:
        """A new grant."""
        return grant_message(self._grants.create(call, self._new_grant(request), repeatable(request, call)))

    def GetGrant(self, request: pb.GetGrantRequest, call: Call) -> grant_pb2.Grant:
        """A grant."""
        return grant_message(self._grants.get(call, _name(request.name)))

    def ListGrants(self, request: pb.ListGrantsRequest, call: Call) -> pb.ListGrantsResponse:
        """A page of grants, by name."""
        wanted = _wanted(request)
        page = Page.of(request, f"grants?{request.parent}?{request.key}?{request.grantee}?{request.retiring_principal}")
        account, _, grant_id = page.after.partition("/")
        found = self._grants.page(call, wanted, (account, grant_id), page.limit)
        grants, token = page.fill(found, grant_message, lambda grant: f"{grant.name.account}/{grant.name.id}")
        return pb.ListGrantsResponse(grants=grants, next_page_token=token)

    def RevokeGrant(self, request: pb.RevokeGrantRequest, call: Call) -> Empty:
        """The end of a grant, on the part of the key's owner."""
        self._grants.revoke(call, _name(request.name))
        return Empty()

    def RetireGrant(self, request: pb.RetireGrantRequest, call: Call) -> Empty:
        """The end of a grant, on the part of those it serves."""
        self._grants.retire(call, _name(request.name))
        return Empty()

    def _new_grant(self, request: pb.CreateGrantRequest) -> NewGrant:
        asked = request.grant
        account = names.parse_account(request.parent, "parent")
        key = names.parse(asked.key, "grant.key", "keys")
        if key.account != account:
            raise invalid("grant.key", f"is not of {request.parent}")
        expires_us = clock.microseconds(asked.expire_time) if asked.HasField("expire_time") else None
        if expires_us is not None and expires_us <= self._clock.now_us():
            raise invalid("grant.expire_time", "is not in the future")
        if asked.retiring_principal:
            _check_principal(asked.retiring_principal, "grant.retiring_principal")
        return NewGrant(
            account,
            key,
            _check_principal(asked.grantee, "grant.grantee"),
            _operations(asked.operations),
            asked.constraint,
            _constraint_context(asked.constraint),
            asked.retiring_principal,
            check_text(asked.description, "grant.description", _MAX_DESCRIPTION),
            expires_us,
        )


def grant_message(grant: Grant) -> grant_pb2.Grant:
    """A grant as callers see it."""
    return grant_pb2.Grant(
        name=str(grant.name),
        key=str(grant.key),
        grantee=grant.grantee,
        operations=grant.operations,
        constraint=grant.constraint if grant.constraint.WhichOneof("kind") else None,
        retiring_principal=grant.retiring_principal,
        expire_time=None if grant.expires_us is None else clock.from_microseconds(grant.expires_us),
        description=grant.description,
        creator=grant.creator,
        create_time=clock.from_microseconds(grant.created_us),
    )


def _name(name: str) -> ResourceName:
    return names.parse(name, "name", "grants")


def _wanted(request: pb.ListGrantsRequest) -> Wanted:
    anywhere = request.parent == _ANY_ACCOUNT
    account = "" if anywhere else names.parse_account(request.parent, "parent")
    if anywhere and not (request.grantee or request.retiring_principal):
        raise required("grantee")
    key = names.parse(request.key, "key", "keys") if request.key else None
    if key is not None and key.account != account:
        raise invalid("key", f"is not of {request.parent}")
    for field in ("grantee", "retiring_principal"):
        if getattr(request, field):
            _check_principal(getattr(request, field), field)
    return Wanted(account, key, request.grantee, request.retiring_principal)


def _check_principal(name: str, field: str) -> str:
    if not name.startswith(_SERVICE):
        names.parse(name, field, *_PRINCIPALS)
    return name


def _operations(asked: Sequence[str]) -> tuple[str, ...]:
    if not asked:
        raise required("grant.operations")
    if len(asked) > _MAX_OPERATIONS:
        raise too_large("grant.operations", _MAX_OPERATIONS, "operations")
    for operation in asked:
        if operation not in _OPERATIONS:
            raise invalid("grant.operations", f"names {operation!r}, which cannot be granted")
    return tuple(dict.fromkeys(asked))


def _constraint_context(constraint: grant_pb2.GrantConstraint) -> EncryptionContext:
    kind = constraint.WhichOneof("kind")
    if kind is None:
        return encryption_context.NONE
    field = f"grant.constraint.{kind}.pairs"
    pairs = dict(getattr(constraint, kind).pairs)
    if kind == "context_contains" and not pairs:
        raise required(field)
    return encryption_context.of(pairs, field)
