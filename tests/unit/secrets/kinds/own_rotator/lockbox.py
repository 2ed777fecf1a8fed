"""LOCKBOX: a type of secret of the tests' own, whole in this one module. Its target is a dict in memory."""

from __future__ import annotations

from typing import cast

from services.runtime.errors import Reason, StrongroomError
from services.secrets.kinds.declaration import Declaration, Target
from services.secrets.kinds.fields import TargetFields
from services.secrets.kinds.texts import Text
from services.secrets.rotation.rotators.rotator import (
    Credential,
    RotationContext,
    Rotator,
    Supplies,
    login_value,
    new_password,
)
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.secret_pb2 import SecretType
from strongroom.secrets.v1.target_pb2 import RedisTarget

LOCKBOX = cast(SecretType.ValueType, 99)
OPENS: dict[str, set[str]] = {}
"""The codes that open each box."""


class Lockboxes:
    """The rotator: a box is opened by its old code to be given a new one."""

    def check(self, context: RotationContext, current: Credential | None) -> None:
        if current is not None:
            self.test(context, current)

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        return login_value(current, code=new_password(context))

    def set(
        self, context: RotationContext, pending: Credential, current: Credential | None, previous: Credential | None
    ) -> None:
        _codes(context).add(pending.fields["code"])

    def test(self, context: RotationContext, credential: Credential) -> None:
        if credential.fields["code"] not in _codes(context):
            raise StrongroomError(Reason.TARGET_LOGIN_REFUSED, "the box stays shut")

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        _codes(context).intersection_update({current.fields["code"]})


def _codes(context: RotationContext) -> set[str]:
    return OPENS.setdefault(context.target.redis.username, set())


def _check(target: RedisTarget, fields: TargetFields) -> None:
    fields.text("username", target.username, 8)


def rotator(_supplies: Supplies) -> Rotator:
    return Lockboxes()


DECLARATION = Declaration(
    LOCKBOX,
    rotator=__name__,
    # Tests do not change the contract: a member that it has serves them.
    target=Target("redis", _check),
    members={"code": Text(64)},
    cleans_up=True,
)
