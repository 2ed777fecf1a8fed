"""A hostile tenant whose changes of access are refused, after all of its account was looked at, one after the other.

It has many users with policies of their own; what it asks for would lock all of them out. The victim changes a key.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.abuse.town import Town
from bench.load import Method, Shape
from bench.report import Target
from strongroom.access.v1.access_service_pb2 import CreatePolicyRequest
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, Policy
from strongroom.keystore.v1.key_pb2 import Key
from strongroom.keystore.v1.key_service_pb2 import UpdateKeyRequest

NAME = "tenant_changes"
TARGETS = {f"{NAME}_p99_vs_quiet": Target(4.0, at_most=True)}

_CALLERS = 8
# Few, so that none waits for another.
_RATE = 5.0
_LOCKING = 'forbid (principal, action == Strongroom::Action::"access:DetachPolicy", resource);'


def measure(town: Town, *, quick: bool) -> Mapping[str, float]:
    """Figures of the victim's calls."""
    hostile = town.tenant("builder")
    for number in range(60 if quick else 300):
        hostile.access.principals.create(f"users/u{number}", tags={"number": str(number)})
    everything = "".join(
        f'permit (principal, action, resource) when {{ principal.hasTag("number") || {number} == 99 }};'
        for number in range(99)
    )
    hostile.access.policies.create("everything", everything, attached_to=[hostile.names.account])
    locking = Policy(kind=POLICY_KIND_IDENTITY, cedar=_LOCKING, attached_to=[hostile.names.account])
    public = town.mesh.address("keystore", "public")
    attack = Method(
        public,
        "/strongroom.access.v1.AccessService/CreatePolicy",
        CreatePolicyRequest(parent=hostile.names.account, policy_id="locking", policy=locking).SerializeToString(),
        hostile.access.sessions.create().token,
    )
    request = UpdateKeyRequest(key=Key(name=town.key, description="changed"))
    change = Method(
        public,
        "/strongroom.keystore.v1.KeyService/UpdateKey",
        request.SerializeToString(),
        town.victim.access.sessions.create().token,
    )
    callers = Shape(connections=_CALLERS, streams=1)
    rounds, seconds = (1, 10.0) if quick else (5, 20.0)
    return town.beside(
        NAME, lambda: town.flood(attack, callers), rounds=rounds, seconds=seconds, method=change, rate=_RATE
    )
