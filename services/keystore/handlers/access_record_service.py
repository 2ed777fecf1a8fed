"""`AccessRecordService`: what the mesh reads in order to authenticate and authorize."""

from __future__ import annotations

from services.keystore.access.records.reading import LocalAccessRecords
from services.runtime.call import Call
from services.runtime.errors import invalid, required
from services.runtime.requests import names
from strongroom.access.v1 import access_record_service_pb2 as pb

_MOST_GRANTS = 100
_SOME_GRANTS = 10


class AccessRecordService:
    """Handlers of the internal service."""

    def __init__(self, records: LocalAccessRecords) -> None:
        self._records = records

    def GetAccountAccess(self, request: pb.GetAccountAccessRequest, call: Call) -> pb.GetAccountAccessResponse:
        """An account's principals and identity policies."""
        del call
        if not request.account:
            raise required("account")
        access, as_of_revision = self._records.account_access(request.account)
        return pb.GetAccountAccessResponse(access=access, as_of_revision=as_of_revision)

    def FindResourcePolicies(
        self, request: pb.FindResourcePoliciesRequest, call: Call
    ) -> pb.FindResourcePoliciesResponse:
        """The policies that are attached to one key or secret."""
        del call
        names.parse(request.resource, "resource", "keys", "secrets")
        policies, as_of_revision = self._records.resource_policies(request.resource)
        return pb.FindResourcePoliciesResponse(policies=policies, as_of_revision=as_of_revision)

    def ResolveIdentity(self, request: pb.ResolveIdentityRequest, call: Call) -> pb.ResolveIdentityResponse:
        """The principal that a SPIFFE id is bound to."""
        del call
        if not request.spiffe_id:
            raise required("spiffe_id")
        principal, as_of_revision = self._records.principal_of_identity(request.spiffe_id)
        return pb.ResolveIdentityResponse(principal=principal, as_of_revision=as_of_revision)

    def FindGrants(self, request: pb.FindGrantsRequest, call: Call) -> pb.FindGrantsResponse:
        """The grants on a key of a principal and the roles that it holds."""
        del call
        if not request.principal:
            raise required("principal")
        if not 0 <= request.limit <= _MOST_GRANTS:
            raise invalid("limit", f"is not 0 to {_MOST_GRANTS}")
        grants, as_of_revision = self._records.find_grants(
            request.key,
            request.principal,
            request.action,
            dict(request.encryption_context),
            request.limit or _SOME_GRANTS,
        )
        return pb.FindGrantsResponse(grants=grants, as_of_revision=as_of_revision)

    def ListTokenKeys(self, request: pb.ListTokenKeysRequest, call: Call) -> pb.ListTokenKeysResponse:
        """The public keys under which session tokens are valid."""
        del request, call
        token_keys, as_of_revision = self._records.token_keys()
        return pb.ListTokenKeysResponse(token_keys=token_keys, as_of_revision=as_of_revision)
