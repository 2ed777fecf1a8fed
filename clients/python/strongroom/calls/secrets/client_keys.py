"""Client keys that secrets hold and rotate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from strongroom.calls.access.client_keys import ClientKeys
from strongroom.calls.secrets.records import RotationPolicy, Secret
from strongroom.convert import duration
from strongroom.errors import StrongroomError
from strongroom.secrets.v1.target_pb2 import ClientKeyTarget, RotationTarget

if TYPE_CHECKING:
    from strongroom.calls.secrets.secrets import Secrets

# After these it may have been made all the same.
_UNDECIDED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class ClientKeySecrets:
    """Makes secrets of type CLIENT_KEY, which hold and rotate a client key."""

    def __init__(self, secrets: Secrets, client_keys: ClientKeys) -> None:
        self._secrets = secrets
        self._client_keys = client_keys

    def create(
        self,
        secret_id: str,
        principal: str,
        *,
        lifetime: timedelta = timedelta(days=90),
        key: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        rotation_policy: RotationPolicy | None = None,
        grace_period: timedelta | None = None,
        timeout: float | None = None,
    ) -> Secret:
        """Makes a client key of a user or workload, and a secret that holds and rotates it; nobody has seen it then.

        `principal` is `users/{id}` or `workloads/{id}`. The value is JSON with `client_key`, the full name, and
        `secret`. Each client key is valid for `lifetime`, 1 hour to 366 days, which must be longer than the policy's
        period and the grace period. Raises what `client.access.client_keys.create` and `client.secrets.create` do; the
        client key is deleted again when no secret was made.
        """
        made = self._client_keys.create(
            principal,
            description=f"First of secret {secret_id}",
            expire_time=datetime.now(UTC) + lifetime,
            timeout=timeout,
        )
        value = {"client_key": made.client_key.name, "secret": made.secret}
        target = ClientKeyTarget(principal=made.client_key.principal, client_key_lifetime=duration(lifetime))
        try:
            return self._secrets.create(
                secret_id,
                json.dumps(value).encode(),
                type="CLIENT_KEY",
                key=key,
                description=description,
                tags=tags,
                target=RotationTarget(client_key=target),
                rotation_policy=rotation_policy,
                grace_period=grace_period,
                timeout=timeout,
            )
        except StrongroomError as error:
            if error.code.name not in _UNDECIDED:
                self._client_keys.delete(made.client_key.name, timeout=timeout)
            raise
