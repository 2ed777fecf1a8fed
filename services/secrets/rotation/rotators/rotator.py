"""What a rotator is: the steps of a rotation that know the target. What else there is to know of its type of secret is
declared in `services.secrets.kinds`.

Each step is repeated after anything that may have happened in the middle of it, also by another process, and then ends
the same. Errors are StrongroomErrors with the reasons TARGET_UNREACHABLE, TARGET_LOGIN_REFUSED, TARGET_CHANGE_REFUSED,
MASTER_LOGIN_REFUSED and ROTATOR_FAILED; whoever calls a rotator takes the credentials that it was given out of their
messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import MeshChannel
from services.runtime.mesh.tls import Identity
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.model import Secret
from services.secrets.kinds.declaration import DEFAULT_TIMEOUT_SECONDS
from services.secrets.kinds.known import place_of
from services.secrets.kinds.texts import is_plain
from services.secrets.rotation.rotators.reach import Reach
from services.secrets.values import passwords
from services.secrets.values.json_fields import json_object, with_members
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.secret_pb2 import VALUE_FORMAT_TEXT, ValueFormat
from strongroom.secrets.v1.target_pb2 import RotationTarget, TargetAddress


@dataclass(frozen=True, slots=True)
class Credential:
    """A value of a secret."""

    version: str
    """The version's full name."""
    value: SensitiveBytes
    format: ValueFormat.ValueType

    @property
    def fields(self) -> dict[str, Any]:
        """The members of a JSON value; none of another. Keep them local."""
        return json_object(self.value) or {}


@dataclass(frozen=True, slots=True)
class RotationContext:
    """What every step is told."""

    secret: Secret
    rotation: str
    """The rotation's full name; empty for a check and for a repair."""
    attempt: int
    """Which try of the step it is, from 1."""
    fencing_token: int
    master: Credential | None
    """The value of the target's master secret."""
    reach: Reach | None = None
    """Where the step may connect; None for anywhere."""
    until: float | None = None
    """When whoever asked waits no longer, by `time.monotonic`; None where the step's own limit is the only one."""
    found: str | StrongroomError = ""
    """What `address` answers or raises, where that was found out already."""

    def resolved(self) -> RotationContext:
        """For a step that finds no address of a name once it has begun."""
        try:
            return replace(self, found=self.address())
        except StrongroomError as error:
            return replace(self, found=error)

    def address(self) -> str:
        """What to connect to: an address that was checked, or the target's host where none is to be. Raises
        DESTINATION_NOT_ALLOWED, TARGET_UNREACHABLE."""
        if isinstance(self.found, StrongroomError):
            raise self.found.renewed()
        if self.found:
            return self.found
        place = place_of(self.secret)
        if place is None:
            raise StrongroomError(Reason.ROTATOR_FAILED, f"{self.secret.name} has no target on the network")
        return self.reach.address(place) if self.reach is not None else place.host

    @property
    def target(self) -> RotationTarget:
        """Where the value is valid."""
        return self.secret.target or RotationTarget()

    @property
    def rule(self) -> PasswordRule:
        """What passwords look like."""
        return self.secret.password_rule or PasswordRule()


class Rotator(Protocol):
    """Makes values of one type of secret valid."""

    def check(self, context: RotationContext, current: Credential | None) -> None:
        """Finds out, without changing anything, whether a rotation could work."""

    def create(self, context: RotationContext, current: Credential | None) -> NewValue:
        """A new value; the target does not hear of it."""

    def set(
        self,
        context: RotationContext,
        pending: Credential,
        current: Credential | None,
        previous: Credential | None,
    ) -> None:
        """Makes the target accept `pending`. In a cancellation or repair that may be an older value."""

    def test(self, context: RotationContext, credential: Credential) -> None:
        """Logs in. Raises TARGET_LOGIN_REFUSED when that is refused, TARGET_UNREACHABLE when nobody was asked."""

    def finish(self, context: RotationContext, current: Credential, previous: Credential | None) -> None:
        """Makes the target refuse what is older, as far as that is wanted; `current` is the new value by now."""


class Identities(Protocol):
    """Where certificates come from."""

    def current(self) -> Identity:
        """The one to connect with now."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """How one step reaches a team's RotatorService without the service's key."""

    endpoint: str
    """Where gRPC finds a connection that another process protects."""
    token: str
    """For this step alone."""


@dataclass(frozen=True, slots=True)
class Supplies:
    """What rotators are made from. Each rotator's module has a function `rotator` that takes them."""

    identities: Identities | None = None
    """None in a process that does steps at targets on the network, as are the others but `relayed`."""
    keystore: MeshChannel | None = None
    relayed: Relayed | None = None


def new_password(context: RotationContext) -> str:
    """A password by the secret's rule."""
    return passwords.generate(context.rule)


def login_value(current: Credential | None, **fields: Any) -> NewValue:
    """A login in JSON: the value before, byte for byte, with `fields` in their place; None leaves one out."""
    before = current.value if current else SensitiveBytes(b"{}")
    return NewValue(with_members(before, fields), VALUE_FORMAT_TEXT)


def require_credential(credential: Credential | None, secret: Secret) -> Credential:
    """The credential that a step cannot do without. Raises ROTATOR_FAILED."""
    if credential is None:
        raise StrongroomError(Reason.ROTATOR_FAILED, f"{secret.name} has neither a current value nor a master secret")
    return credential


def seconds_of(address: TargetAddress) -> float:
    """How long to wait for a connection or an answer."""
    return address.timeout.ToTimedelta().total_seconds() or DEFAULT_TIMEOUT_SECONDS


def require_plain(*texts: str) -> None:
    """Raises TARGET_LOGIN_REFUSED for a text that a protocol or connection string cannot hold, such as one with a NUL,
    wherever it comes from."""
    if not all(map(is_plain, texts)):
        raise StrongroomError(
            Reason.TARGET_LOGIN_REFUSED, "the login has a control character, such as NUL, in it", incurable="true"
        )
