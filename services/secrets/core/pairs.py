"""Which values may be sent where: the pairs of a credential and a destination that a secret's record stands for.

The service logs in to targets by its own authority, for nobody. So whoever makes a new pair of a value and a place must
be able to read that value: its own, and the master's. A pair is new when anything that decides where a value goes is
changed, and when a version that was never sent there comes to a stage that is. `services.secrets.core.editing.write`
refuses a change that makes a pair for which nobody was asked, so no method can leave the question out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy import Connection

from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.secrets.core import store
from services.secrets.core.model import CURRENT, Secret
from services.secrets.core.stages import OWN_STAGES

_LENT = b"lent"
"""The destination of a secret's values where it is another's master: wherever those who may read it have said."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A credential and where it may be sent."""

    credential: ResourceName
    """A version of the secret itself, or the master secret."""
    destination: bytes
    """What two destinations are compared by."""


Permitted = Mapping[Pair, int]
"""Pairs for which the caller was asked, with the version of the master secret that it was found to be able to read; 0
for a version of the secret's own."""

NONE: Permitted = {}


def destination(secret: Secret) -> bytes:
    """Everything that decides where a secret's values go, to be compared; empty where they go nowhere."""
    if secret.target is None:
        return b""
    parts = [secret.target.SerializeToString(deterministic=True)]
    if secret.target.WhichOneof("kind") == "grpc":
        # A rotator is told the tags with every step, and may choose by them.
        parts += [f"{key}={value}".encode() for key, value in sorted(secret.tags.items())]
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def pairs(secret: Secret, *, lent: bool = False, keyed: bool = False) -> frozenset[Pair]:
    """What may be sent where. With `lent` the secret is the master of another; with `keyed` its key counts though it
    goes nowhere."""
    where = destination(secret)
    if not where and not lent and not keyed:
        return frozenset()
    # Under another key others can read what rotation makes, or somebody puts, next.
    under = where + secret.key.encode() if where or keyed else _LENT
    staged = {number for stage, number in secret.stages.items() if stage in OWN_STAGES}
    found = {Pair(secret.version_name(number), under) for number in staged}
    if secret.master is not None:
        found.add(Pair(secret.master, where))
    return frozenset(found)


def new_pairs(before: Secret | None, after: Secret, *, lent: bool = False) -> frozenset[Pair]:
    """The pairs that a change makes."""
    if before is None:
        return pairs(after, lent=lent)
    keyed = before.key != after.key
    return pairs(after, lent=lent, keyed=keyed) - pairs(before, lent=lent, keyed=keyed)


def own_pair(secret: Secret, number: int) -> Permitted:
    """Permits the pair of one version, whose value its caller or rotator has made."""
    wanted = secret.version_name(number)
    found = pairs(replace(secret, stages={CURRENT: number}), lent=True)
    return {pair: 0 for pair in found if pair.credential == wanted}


def require_permitted(connection: Connection, before: Secret | None, after: Secret, permitted: Permitted) -> None:
    """Raises STAGE_CONFLICT when a change makes a pair that is not among those permitted, or when the master's value is
    another by now than the one that the caller was found to be able to read."""
    moved = before is not None and before.stages != after.stages
    lent = moved and (after.lent or bool(store.users_of_master(connection, after.name)))
    for pair in new_pairs(before, after, lent=lent):
        read = permitted.get(pair)
        if read is None or (read and _current(connection, pair.credential) != read):
            raise StrongroomError(
                Reason.STAGE_CONFLICT, f"{after.name} or its master secret changed meanwhile: try again"
            )
        if pair.credential == after.master:
            store.lend(connection, pair.credential)


def _current(connection: Connection, name: ResourceName) -> int:
    master = store.secret(connection, name, lock=True)
    return master.stages.get(CURRENT, 0) if master is not None else 0
