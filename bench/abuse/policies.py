"""A hostile tenant whose policies cost as much as any that are accepted, with eight callers at full tilt.

They ask for a key that does not exist, so that no answer is remembered and every call is a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

from bench.abuse.town import Town
from bench.load import Method, Shape
from bench.report import Target
from services.keystore.access.policies import policy_text
from strongroom import StrongroomError
from strongroom.crypto.v1.crypto_pb2 import EncryptRequest

NAME = "tenant_policies"
TARGETS = {f"{NAME}_p99_vs_quiet": Target(2.0, at_most=True)}

_CALLERS = 8
_POLICIES = 200
_LONG = "a" * 10
_ACTIONS = ", ".join(f'Strongroom::Action::"{action}"' for action in sorted(policy_text.schema().actions))
_ROLES = ", ".join(f'Strongroom::Role::"accounts/hostile/roles/{number}"' for number in range(30))
# As many as a text has room for.
_STATEMENTS = 4


def _texts() -> Iterator[str]:
    """Of several shapes, in turn: patterns, scopes with every action, and entities, which take longest for what they
    count."""
    shapes: tuple[Callable[[int], str], ...] = (
        lambda number: (
            f'action, resource) when {{ resource.hasTag("t") && resource.getTag("t") like "*{_LONG}{number}" }};'
        ),
        lambda number: f"action in [{_ACTIONS}], resource) when {{ context has source_address && {number} == 99 }};",
        lambda number: f"action, resource) when {{ principal in [{_ROLES}] || {number} == 99 }};",
    )
    for shape in cycle(shapes):
        yield "".join(f"permit (principal, {shape(number)}" for number in range(_STATEMENTS))


def measure(town: Town, *, quick: bool) -> Mapping[str, float]:
    """Figures of the victim's calls."""
    hostile = town.tenant("hostile")
    for number, text in zip(range(_POLICIES), _texts(), strict=False):
        try:
            hostile.access.policies.create(f"dense-{number}", text, attached_to=[hostile.names.account])
        except StrongroomError as error:
            if error.reason != "LIMIT_EXCEEDED":
                raise
            break
    attack = Method(
        town.mesh.address("crypto", "public"),
        "/strongroom.crypto.v1.CryptoService/Encrypt",
        EncryptRequest(
            key=f"{hostile.names.account}/keys/absent", plaintext=b"x", encryption_context={"tenant": "a"}
        ).SerializeToString(),
        hostile.access.sessions.create().token,
    )
    callers = Shape(connections=_CALLERS, streams=1)
    rounds, seconds = (1, 3.0) if quick else (5, 10.0)
    return town.beside(NAME, lambda: town.flood(attack, callers), rounds=rounds, seconds=seconds)
