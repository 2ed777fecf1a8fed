"""GRPC: a value that a team's own RotatorService makes and makes valid (`rotator_service.proto`)."""

from __future__ import annotations

from services.runtime.errors import too_large
from services.secrets.core.destinations import Place
from services.secrets.kinds.declaration import Declaration, Target, place
from services.secrets.kinds.fields import TargetFields
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_GRPC
from strongroom.secrets.v1.target_pb2 import GrpcTarget

DEFAULT_SECONDS = 30.0
"""How long a step may take where the target does not say."""

_STEP_SECONDS = (1, 300)
_MAX_PARAMETERS = 32
_MAX_PARAMETER_KEY = 128
_MAX_PARAMETER_VALUE = 1024


def _check(target: GrpcTarget, fields: TargetFields) -> None:
    fields.host_with_port("address", target.address)
    fields.certificates("ca_pem", target.ca_pem)
    fields.seconds("timeout", target.timeout, _STEP_SECONDS)
    fields.master("master_secret", target.master_secret)
    if len(target.parameters) > _MAX_PARAMETERS:
        raise too_large(fields.name("parameters"), _MAX_PARAMETERS, "pairs")
    for key, value in target.parameters.items():
        if not 1 <= len(key) <= _MAX_PARAMETER_KEY:
            raise fields.invalid("parameters", f"has a key that is not of 1 to {_MAX_PARAMETER_KEY} characters")
        if len(value) > _MAX_PARAMETER_VALUE:
            raise too_large(fields.name("parameters"), _MAX_PARAMETER_VALUE, "characters in a value")


def _place(target: GrpcTarget) -> Place:
    host, _, port = target.address.rpartition(":")
    return place(host, int(port))


def step_seconds(target: GrpcTarget) -> float:
    """How long a step may take as the target says."""
    return target.timeout.ToTimedelta().total_seconds() or DEFAULT_SECONDS


DECLARATION = Declaration(
    SECRET_TYPE_GRPC,
    rotator="services.secrets.rotation.rotators.remote",
    target=Target(
        "grpc",
        _check,
        place=_place,
        # The time that the target says is the team's own, whatever the service's limit is; a second more is for the
        # connection.
        step_seconds=lambda target, _most: step_seconds(target) + 1.0,
    ),
    needs_value=False,
    cleans_up=True,
    has_grace_period=True,
    needs_identity=True,
)
