"""`SecretService`: reads requests, calls the vault, writes responses."""

from __future__ import annotations

from services.runtime import names, paging
from services.runtime.call import Call
from services.runtime.repeats import repeatable
from services.secrets import messages
from services.secrets.stages import check_stages
from services.secrets.vault import Vault
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_pb2 import Secret, SecretValue, SecretVersion

# More than any version number.
_NEWEST = 1 << 31


class SecretService:
    """Handlers of the public service."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def CreateSecret(self, request: pb.CreateSecretRequest, call: Call) -> Secret:
        """A new secret, with its first value where the request brings one."""
        new = messages.new_secret(request)
        value = messages.new_value(request) if request.value else None
        created = self._vault.create(
            call, new, value, repeatable(request, redacted="value"), dry_run=request.validate_only
        )
        return messages.secret_message(created)

    def GetSecret(self, request: pb.GetSecretRequest, call: Call) -> Secret:
        """A secret without its value."""
        name = names.parse(request.name, "name", "secrets")
        return messages.secret_message(self._vault.get(call, name))

    def ListSecrets(self, request: pb.ListSecretsRequest, call: Call) -> pb.ListSecretsResponse:
        """A page of an account's secrets, by name."""
        account = names.parse_account(request.parent, "parent")
        messages.refuse_yet("filter", given=bool(request.filter))
        size = paging.page_size(request.page_size)
        after = paging.decode(request.parent, request.page_token)
        found = self._vault.secrets_page(call, account, after, size + 1)
        more = len(found) > size
        return pb.ListSecretsResponse(
            secrets=map(messages.secret_message, found[:size]),
            next_page_token=paging.encode(request.parent, found[size - 1].name.id) if more else "",
        )

    def PutSecretValue(self, request: pb.PutSecretValueRequest, call: Call) -> SecretVersion:
        """A new version of a secret."""
        name = names.parse(request.name, "name", "secrets")
        value = messages.new_value(request)
        added = self._vault.put(call, name, value, check_stages(request.stages), repeatable(request, redacted="value"))
        return messages.version_message(added.version, added.stages)

    def GetSecretValue(self, request: pb.GetSecretValueRequest, call: Call) -> SecretValue:
        """The value at a stage, or of a version."""
        name = names.parse(request.name, "name", "secrets", versioned="/versions/" in request.name)
        messages.refuse_yet("field", given=bool(request.field))
        return messages.value_message(self._vault.open(call, name, request.stage))

    def ListSecretVersions(self, request: pb.ListSecretVersionsRequest, call: Call) -> pb.ListSecretVersionsResponse:
        """A page of a secret's versions, newest first."""
        name = names.parse(request.parent, "parent", "secrets")
        messages.refuse_yet("filter", given=bool(request.filter))
        size = paging.page_size(request.page_size)
        before = paging.decode_number(request.parent, request.page_token, _NEWEST)
        secret, found = self._vault.versions_page(call, name, before, size + 1)
        more = len(found) > size
        return pb.ListSecretVersionsResponse(
            secret_versions=[
                messages.version_message(version, secret.stages_of(version.name.version)) for version in found[:size]
            ],
            next_page_token=paging.encode(request.parent, str(found[size - 1].name.version)) if more else "",
        )
