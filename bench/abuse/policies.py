"""A hostile tenant whose policies cost as much as any that are accepted, with eight callers at full tilt.

They ask for a key that does not exist, so that no answer is remembered and every call is a decision.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.abuse.town import Town
from bench.load import Method, Shape
from bench.report import Target
from strongroom import StrongroomError
from strongroom.crypto.v1.crypto_pb2 import EncryptRequest

NAME = "tenant_policies"
TARGETS = {f"{NAME}_p99_vs_quiet": Target(2.0, at_most=True)}

_CALLERS = 8
_POLICIES = 40
_TEXT = "".join(
    f'permit (principal, action, resource) when {{ resource.hasTag("t") && resource.getTag("t") like "*{letters}" }};'
    for letters in ("a" * 100 + str(number) for number in range(40))
)


def measure(town: Town, *, quick: bool) -> Mapping[str, float]:
    """Figures of the victim's calls."""
    hostile = town.tenant("hostile")
    for number in range(_POLICIES):
        try:
            hostile.access.policies.create(f"dense-{number}", _TEXT, attached_to=[hostile.names.account])
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
