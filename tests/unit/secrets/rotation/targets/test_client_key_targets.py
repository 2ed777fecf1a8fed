"""Targets whose client key rotates: whose it may be, and how long it has to last."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName
from services.secrets.core.model import Secret
from services.secrets.rotation.policy import require_outlives
from services.secrets.rotation.targets.targets import TargetRules
from strongroom.secrets.v1.rotation_pb2 import RotationPolicy
from strongroom.secrets.v1.secret_pb2 import SECRET_STATE_ENABLED, SECRET_TYPE_CLIENT_KEY
from strongroom.secrets.v1.target_pb2 import ClientKeyTarget, RotationTarget

PRINCIPAL = "accounts/acme/workloads/batch"
HOUR, DAY = 3600, 86_400
FIELD = "secret.target.client_key"


def target(lifetime: Duration | None = None, principal: str = PRINCIPAL) -> RotationTarget:
    return RotationTarget(client_key=ClientKeyTarget(principal=principal, client_key_lifetime=lifetime))


def secret(lifetime_s: int | None, period_s: int, grace_s: int) -> Secret:
    lifetime = Duration(seconds=lifetime_s) if lifetime_s is not None else None
    return Secret(
        ResourceName("acme", "secrets", "s"),
        SECRET_TYPE_CLIENT_KEY,
        SECRET_STATE_ENABLED,
        key="",
        description="",
        tags={},
        retained_versions=10,
        latest_version=0,
        revision=1,
        created_us=0,
        updated_us=0,
        stages={},
        target=target(lifetime),
        rotation_policy=RotationPolicy(period=Duration(seconds=period_s)),
        grace_period_s=grace_s,
    )


@pytest.mark.parametrize("lifetime", [None, Duration(), Duration(seconds=HOUR), Duration(seconds=366 * DAY)])
@pytest.mark.parametrize("principal", [PRINCIPAL, "accounts/acme/users/ann"])
def test_a_user_or_workload_of_the_account_is_accepted(lifetime: Duration | None, principal: str) -> None:
    asked = target(lifetime, principal)
    assert TargetRules().check(SECRET_TYPE_CLIENT_KEY, asked, "acme") == asked


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        (target(principal=""), "FIELD_REQUIRED", "principal"),
        (target(principal="accounts/acme/roles/operator"), "NAME_MALFORMED", "principal"),
        (target(principal="accounts/other/users/ann"), "FIELD_INVALID", "principal"),
        (target(Duration(seconds=HOUR - 1)), "FIELD_INVALID", "client_key_lifetime"),
        (target(Duration(seconds=366 * DAY + 1)), "FIELD_INVALID", "client_key_lifetime"),
        (target(Duration(seconds=HOUR, nanos=1)), "FIELD_INVALID", "client_key_lifetime"),
        (target(Duration(seconds=-DAY)), "FIELD_INVALID", "client_key_lifetime"),
    ],
)
def test_anything_else_is_refused_by_its_field(asked: RotationTarget, reason: str, field: str) -> None:
    with pytest.raises(StrongroomError) as caught:
        TargetRules().check(SECRET_TYPE_CLIENT_KEY, asked, "acme")
    assert (caught.value.reason, caught.value.field) == (reason, f"{FIELD}.{field}")


@pytest.mark.parametrize(
    ("lifetime_s", "period_s", "grace_s", "outlives"),
    [
        (None, 89 * DAY, HOUR, True),
        (None, 89 * DAY, DAY, False),
        (None, 90 * DAY, 0, False),
        (30 * DAY + 1, 30 * DAY, 0, True),
        (30 * DAY, 30 * DAY, 0, False),
    ],
)
def test_a_client_key_outlives_the_rotation_that_replaces_it(
    lifetime_s: int | None, period_s: int, grace_s: int, *, outlives: bool
) -> None:
    asked = secret(lifetime_s, period_s, grace_s)
    if outlives:
        require_outlives(asked)
        return
    with pytest.raises(StrongroomError) as caught:
        require_outlives(asked)
    assert caught.value.field == f"{FIELD}.client_key_lifetime"
