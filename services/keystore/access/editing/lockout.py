"""No change may leave an account without anybody who can change its policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.keystore.access.records.resources import resource
from services.runtime.access.cedar_sets import statements_of
from services.runtime.access.decisions import NO_POLICIES, Account, Decider, Question, Resource
from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PrincipalRecord
from strongroom.access.v1.principal_pb2 import PRINCIPAL_KIND_ROLE

# What a policy may speak of is a policy in general, unless a change is about one.
_ANY_POLICY = "any"


def require_way_back(access: AccountAccess, call: Call, policy: str, account: Account, now_us: int) -> None:
    """Raises POLICY_LOCKOUT unless a user or workload of the account that is enabled may create policies, change,
    delete, attach and detach them (`policy`, where the change is about one), and attach them to itself, from where the
    change comes, now."""
    about = policy or f"accounts/{access.account}/policies/{_ANY_POLICY}"
    for who in _candidates(access, call.principal.name):
        asker = Principal(who.name, access.account)
        if all(
            _permits(account, Question(asker, action, on, source_address=call.source_address, time=now_us / 1e6))
            for action, on in _needed(access.account, who, about)
        ):
            return
    raise StrongroomError(
        Reason.POLICY_LOCKOUT,
        f"after this change nobody in accounts/{access.account} could change its policies any more",
        account=access.account,
    )


def permits(cedar: str) -> bool:
    """Whether a policy permits anything: without it, somebody may be able to do less."""
    return "permit" in _effects(cedar)


def forbids(cedar: str) -> bool:
    """Whether a policy forbids anything: with it, somebody may be able to do less."""
    return "forbid" in _effects(cedar)


def _effects(cedar: str) -> Iterator[str]:
    for statement in statements_of("policy", cedar):
        yield statement.effect


def _candidates(access: AccountAccess, caller: str) -> Iterable[PrincipalRecord]:
    """Who can act by itself, the caller first: it most often can go on as before. Roles depend on who assumes them."""
    enabled = [who for who in access.principals if who.kind != PRINCIPAL_KIND_ROLE and not who.disabled]
    return sorted(enabled, key=lambda who: who.name != caller)


def _needed(account: str, who: PrincipalRecord, policy: str) -> Iterator[tuple[str, Resource]]:
    """What whoever changes policies does, and on what."""
    yield "access:CreatePolicy", resource(f"accounts/{account}")
    for verb in ("Update", "Delete", "Attach", "Detach"):
        yield f"access:{verb}Policy", resource(policy)
    for verb in ("Attach", "Detach"):
        yield f"access:{verb}Policy", resource(who.name, tags=dict(who.tags))


def _permits(account: Account, question: Question) -> bool:
    _, decision = Decider(question, account, NO_POLICIES, []).decide(question)
    return decision.allowed
