"""What there is: secrets and versions, without their values."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from services.runtime.access.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading
from services.runtime.storage.sql_filters import Condition
from services.secrets.core import store
from services.secrets.core.editing import SecretEditor
from services.secrets.core.model import Secret, Version


class Catalog:
    """An account's secrets and their versions. Every method first asks whether the caller may."""

    def __init__(self, engine: Engine, editor: SecretEditor, authorizer: Authorizer) -> None:
        self._engine = engine
        self._editor = editor
        self._authorizer = authorizer

    def get(self, call: Call, name: ResourceName) -> Secret:
        """A secret in whatever state. Raises SECRET_NOT_FOUND."""
        return self._editor.permitted(call, "secrets:GetSecret", name)[1]

    def secrets_page(
        self, call: Call, account: str, after: str, limit: int, conditions: Sequence[Condition]
    ) -> list[Secret]:
        """An account's secrets that meet the conditions, in the order of their ids, from the first behind `after`."""
        self._authorizer.authorize(call, "secrets:ListSecrets", account_resource(account))
        with reading(self._engine) as connection:
            return store.secrets_page(connection, account, after, limit, conditions)

    def versions_page(
        self, call: Call, name: ResourceName, before: int, limit: int, conditions: Sequence[Condition]
    ) -> tuple[Secret, list[Version]]:
        """A secret and its versions that meet the conditions, newest first, from the first below `before`. Raises
        SECRET_NOT_FOUND."""
        _, secret = self._editor.permitted(call, "secrets:ListSecretVersions", name)
        with reading(self._engine) as connection:
            return secret, store.versions_page(connection, secret, before, limit, conditions)
