"""Targets of rotations as requests describe them: each type of secret declares which fields its target has."""

from __future__ import annotations

from collections.abc import Collection

from services.runtime.errors import invalid, required
from services.secrets.kinds.fields import TargetFields
from services.secrets.kinds.known import declarations, type_name
from strongroom.secrets.v1.secret_pb2 import SecretType
from strongroom.secrets.v1.target_pb2 import RotationTarget


class TargetRules:
    """Checks targets. `plaintext` lists the `host` or `host:port` that may be talked to without TLS."""

    def __init__(self, plaintext: Collection[str] = ()) -> None:
        self._plaintext = frozenset(plaintext)

    def check(
        self,
        kind: SecretType.ValueType,
        target: RotationTarget | None,
        account: str,
        field: str = "secret.target",
    ) -> RotationTarget | None:
        """The target of a secret of this type; None for a type without one. Raises FIELD_REQUIRED, FIELD_INVALID,
        FIELD_TOO_LARGE, NAME_MALFORMED."""
        wanted = declarations()[kind].target
        given = target.WhichOneof("kind") if target is not None else None
        if wanted is None:
            if given is not None:
                raise invalid(field, f"is not for secrets of type {type_name(kind)}")
            return None
        if given is None or target is None:
            raise required(f"{field}.{wanted.member}")
        if given != wanted.member:
            raise invalid(f"{field}.{given}", f"is not for secrets of type {type_name(kind)}")
        wanted.check(getattr(target, given), TargetFields(f"{field}.{given}", account, self._plaintext))
        return target
