"""What a type of secret declares: where its values are valid, what they look like, and which rotator makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.secrets.core.destinations import Place
from services.secrets.kinds.fields import TargetFields
from services.secrets.kinds.texts import Text
from strongroom.secrets.v1.secret_pb2 import SecretType
from strongroom.secrets.v1.target_pb2 import TargetAddress

DEFAULT_TIMEOUT_SECONDS = 10.0
"""How long to wait for a connection or an answer where the target does not say."""

# Connecting, logging in and changing each may take the target's timeout.
_TIMEOUTS_A_STEP = 3


@dataclass(frozen=True, slots=True)
class Target:
    """Where the values of a type are valid. The functions take the member of the target, such as a RedisTarget."""

    member: str
    """Which member of RotationTarget it is."""
    check: Callable[[Any, TargetFields], None]
    """Raises FIELD_REQUIRED, FIELD_INVALID, FIELD_TOO_LARGE and NAME_MALFORMED for what a request may not ask."""
    place: Callable[[Any], Place] | None = None
    """Where it is on the network; None for what is in the mesh itself. The server there may be a hostile tenant's, so
    steps are done in a process of their own."""
    step_seconds: Callable[[Any, float], float] = lambda _target, most: most
    """How long one step may take as a whole, where the service's own limit is the second argument."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A type of secret."""

    type: SecretType.ValueType
    rotator: str
    """The module whose function `rotator` makes the rotator from `Supplies`. It is loaded with the first secret that
    needs it: the libraries that talk to databases and over SSH are as large as the rest of the service."""
    target: Target | None = None
    """None where a value is valid wherever it is read."""
    members: Mapping[str, Text] = field(default_factory=dict)
    """The texts that every value has, which is a JSON object then; none where a value may be anything."""
    needs_value: bool = True
    """Whether a rotation starts from a value that somebody put."""
    cleans_up: bool = False
    """Whether there is anything to finish in the target once Current has moved."""
    has_grace_period: bool = False
    """Whether what was replaced goes on to work for the secret's grace period."""
    needs_identity: bool = False
    """Whether the rotator connects with the service's certificate, which no other is shown."""

    @property
    def is_outside(self) -> bool:
        """Whether its target is on the network, and may be a hostile tenant's."""
        return self.target is not None and self.target.place is not None


def place_at(address: TargetAddress, usual_port: int) -> Place:
    """Where an address is."""
    return place(address.host, address.port or usual_port)


def place(host: str, port: int) -> Place:
    """A place by the host that a target names."""
    return Place(host.strip("[]").lower(), port)


def seconds_for(timeout_seconds: float, most: float) -> float:
    """How long one step may take at a target that answers within its timeout; 0 for the usual one."""
    return min(_TIMEOUTS_A_STEP * (timeout_seconds or DEFAULT_TIMEOUT_SECONDS), most)
