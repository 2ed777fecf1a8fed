"""Client keys that secrets hold and rotate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from strongroom.calls.client_keys import ClientKeyCalls
from strongroom.calls.rotations import RotationCalls
from strongroom.calls.secrets import RotationPolicy, Secret, span
from strongroom.errors import StrongroomError
from strongroom.secrets.v1.target_pb2 import ClientKeyTarget, RotationTarget

# After these it may have been made all the same.
_UNDECIDED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class ClientKeySecretCalls(RotationCalls, ClientKeyCalls):
    """Methods that need both keystore and secrets."""

    def create_client_key_secret(
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
        """Makes a client key of a user or workload (`users/{id}`, `workloads/{id}`), and a secret of type CLIENT_KEY
        that holds and rotates it: JSON with `client_key` and `secret`. Nobody has seen it then.

        Each client key is valid for `lifetime`, 1 hour to 366 days, which must be longer than the policy's period and
        the grace period. Raises what `create_client_key` and `create_secret` do; the client key is deleted again when
        no secret was made.
        """
        made = self.create_client_key(
            principal,
            description=f"First of secret {secret_id}",
            expire_time=datetime.now(UTC) + lifetime,
            timeout=timeout,
        )
        value = {"client_key": made.client_key.name, "secret": made.secret}
        target = ClientKeyTarget(principal=made.client_key.principal, client_key_lifetime=span(lifetime))
        try:
            return self.create_secret(
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
                self.delete_client_key(made.client_key.name, timeout=timeout)
            raise
