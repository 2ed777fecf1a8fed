"""Keystore's access records as the other services read them, and as keystore itself does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from services.runtime.changes import Change, Changes, ListChanges
from services.runtime.mesh.channels import KEYSTORE, MeshChannel
from strongroom.access.v1 import access_record_service_pb2 as pb
from strongroom.access.v1.access_record_service_pb2_grpc import AccessRecordServiceStub
from strongroom.keystore.v1.key_record_service_pb2 import ListChangesRequest, ListChangesResponse

_TIMEOUT_SECONDS = 1.0


def remote_changes(list_changes: Callable[..., ListChangesResponse]) -> ListChanges:
    """Keystore's changes, asked for by KeyRecordService.ListChanges."""

    def asked(since: int, /, *, timeout: float) -> Changes:
        told = list_changes(ListChangesRequest(since=since), timeout=timeout)
        found = [Change(one.revision, one.resource, one.kind, one.account, one.key_uid) for one in told.changes]
        return Changes(told.revision, found, told.more, told.start_over)

    return asked


class AccessRecords(Protocol):
    """Reads access records; each answer comes with the revision as of which it was read."""

    def account_access(self, account: str) -> tuple[pb.AccountAccess | None, int]:
        """Principals and policies of an account, or None when there is no such account."""

    def resource_policies(self, resource: str) -> tuple[Sequence[pb.PolicyRecord], int]:
        """The policies that are attached to a key or secret, by its name."""

    def find_grants(
        self, key: str, principal: str, action: str, pairs: Mapping[str, str], limit: int
    ) -> tuple[Sequence[pb.GrantRecord], int]:
        """Up to `limit` grants on a key that fit a principal, an action and the pairs of an encryption context."""

    def resolve_identity(self, spiffe_id: str) -> tuple[str | None, int]:
        """The name of the principal that a SPIFFE id is bound to, or None."""

    def token_keys(self) -> tuple[Sequence[pb.TokenKey], int]:
        """The public keys under which session tokens are valid now."""


class RemoteAccessRecords:
    """Access records over keystore's internal service. Raises KEYSTORE_UNREACHABLE when it does not answer."""

    def __init__(self, keystore: MeshChannel) -> None:
        self._get_account_access = _method(keystore, "GetAccountAccess")
        self._find_resource_policies = _method(keystore, "FindResourcePolicies")
        self._find_grants = _method(keystore, "FindGrants")
        self._resolve_identity = _method(keystore, "ResolveIdentity")
        self._list_token_keys = _method(keystore, "ListTokenKeys")

    def account_access(self, account: str) -> tuple[pb.AccountAccess | None, int]:
        """Asks keystore for an account's principals and policies."""
        response = self._get_account_access(pb.GetAccountAccessRequest(account=account))
        return (response.access if response.HasField("access") else None), response.as_of_revision

    def resource_policies(self, resource: str) -> tuple[Sequence[pb.PolicyRecord], int]:
        """Asks keystore for the policies that are attached to a key or secret."""
        response = self._find_resource_policies(pb.FindResourcePoliciesRequest(resource=resource))
        return list(response.policies), response.as_of_revision

    def find_grants(
        self, key: str, principal: str, action: str, pairs: Mapping[str, str], limit: int
    ) -> tuple[Sequence[pb.GrantRecord], int]:
        """Asks keystore for the grants of one key that fit a principal, an action and a context."""
        request = pb.FindGrantsRequest(
            key=key, principal=principal, action=action, encryption_context=pairs, limit=limit
        )
        response = self._find_grants(request)
        return list(response.grants), response.as_of_revision

    def resolve_identity(self, spiffe_id: str) -> tuple[str | None, int]:
        """Asks keystore for the principal of a SPIFFE id."""
        response = self._resolve_identity(pb.ResolveIdentityRequest(spiffe_id=spiffe_id))
        return (response.principal.name if response.HasField("principal") else None), response.as_of_revision

    def token_keys(self) -> tuple[Sequence[pb.TokenKey], int]:
        """Asks keystore for the public keys under which session tokens are valid."""
        response = self._list_token_keys(pb.ListTokenKeysRequest())
        return list(response.token_keys), response.as_of_revision


def _method(keystore: MeshChannel, name: str) -> Callable[..., Any]:
    return KEYSTORE.method(keystore, AccessRecordServiceStub, name, _TIMEOUT_SECONDS)
