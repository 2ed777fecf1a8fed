"""GENERIC: a random password by rule, without a target."""

from __future__ import annotations

from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.secrets.rotation.rotators.rotator import Credential, RotationContext, Rotator, Supplies, new_password
from services.secrets.values.json_fields import read_json
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.secret_pb2 import VALUE_FORMAT_BINARY, VALUE_FORMAT_TEXT


class GenericRotator:
    """The rotator of passwords without a target. Whoever uses the value reads it when it is needed."""

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work. Raises ROTATION_UNSUPPORTED for what no
        password can take the place of."""
        if current is not None and (
            current.format == VALUE_FORMAT_BINARY or isinstance(read_json(current.value), dict | list)
        ):
            raise StrongroomError(
                Reason.ROTATION_UNSUPPORTED,
                f"{current.version} is binary or JSON, which a password cannot take the place of",
                incurable="true",
            )

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""
        self.check(context, current)
        return NewValue(SensitiveBytes(new_password(context).encode()), VALUE_FORMAT_TEXT)

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`."""

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in."""

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Does nothing: there is no target."""


def rotator(_supplies: Supplies) -> Rotator:
    """The rotator of GENERIC."""
    return GenericRotator()
