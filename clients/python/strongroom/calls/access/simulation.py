"""Decisions on access, and what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.access.v1 import access_service_pb2 as pb
from strongroom.access.v1 import policy_pb2
from strongroom.convert import enum_text


@dataclass(frozen=True, slots=True)
class Determinant:
    """A policy or grant that took part in a decision. `effect` is PERMIT or FORBID; `account` is the id of the account
    whose side it decided."""

    name: str
    effect: str
    account: str


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """Whether a call would be permitted, and why. `denying_accounts` are the sides of a call across accounts that did
    not permit it; `errors` are policies that could not be evaluated."""

    allowed: bool
    decided_by: str
    determinants: tuple[Determinant, ...]
    denying_accounts: tuple[str, ...]
    errors: Mapping[str, str]
    event_id: str


def decision_of(decision: pb.SimulateAccessResponse, event_id: str) -> AccessDecision:
    """A decision from the contract's message."""
    return AccessDecision(
        allowed=decision.allowed,
        decided_by=decision.decided_by,
        determinants=tuple(
            Determinant(one.name, enum_text(policy_pb2.Effect, "EFFECT_", one.effect), one.account)
            for one in decision.determinants
        ),
        denying_accounts=tuple(decision.denying_accounts),
        errors=dict(decision.errors),
        event_id=event_id,
    )
