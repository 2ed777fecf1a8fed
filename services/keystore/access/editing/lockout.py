"""No change may leave an account without anybody who can change its policies."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from functools import cache

from services.keystore.access.records.resources import resource
from services.runtime.access.cedar import StatementIndex
from services.runtime.access.cedar_cost import MAX_DECISION
from services.runtime.access.cedar_sets import statements_of
from services.runtime.access.decisions import NO_POLICIES, Account, Decider, Question, Resource
from services.runtime.call import Call, Principal
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PrincipalRecord
from strongroom.access.v1.principal_pb2 import PRINCIPAL_KIND_ROLE

# What a policy may speak of is a policy in general, unless a change is about one.
_ANY_POLICY = "any"
# In the units of `cedar_cost`: what asking about one principal takes beside its policies, and all of a search. That is
# half a second.
_ASKING = 2_000
_SEARCH = 40 * MAX_DECISION
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def require_way_back(access: AccountAccess, call: Call, policy: str, account: Account, now_us: int) -> None:
    """Raises POLICY_LOCKOUT unless a user or workload of the account that is enabled may create policies, change,
    delete, attach and detach them (`policy`, where the change is about one), and attach them to itself, from where the
    change comes, now; and where nobody was found who may among as many as are looked at."""
    about = policy or f"accounts/{access.account}/policies/{_ANY_POLICY}"
    spent = 0
    for who in _candidates(access, account, call.principal.name, about):
        asker = Principal(who.name, access.account)
        if all(
            _permits(account, Question(asker, action, on, source_address=call.source_address, time=now_us / 1e6))
            for action, on in (*_of_policies(access.account, about), *_of_itself(who))
        ):
            return
        spent += _ASKING + account.highest_cost(who)
        if spent > _SEARCH:
            break
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


def _candidates(access: AccountAccess, account: Account, caller: str, about: str) -> Iterable[PrincipalRecord]:
    """Who can act by itself, and is permitted something: the caller first, who most often can go on as before, then one
    of all that policies treat alike. Roles depend on who assumes them."""
    enabled = [who for who in access.principals if who.kind != PRINCIPAL_KIND_ROLE and not who.disabled]
    yield from (who for who in enabled if who.name == caller)
    likeness = _Likeness(access)
    seen: set[Hashable] = set()

    @cache
    def bears(index: StatementIndex, action: str, on: str) -> bool:
        return any(statement.effect == "permit" for statement in index.matching(action, on))

    for who in enabled:
        alike = likeness.of(who)
        if alike not in seen:
            seen.add(alike)
            indexes = account.indexes(who)
            if all(
                any(bears(index, action, on.name) for index in indexes)
                for action, on in _of_policies(access.account, about)
            ):
                yield who


class _Likeness:
    """What an account's policies can tell of its principals: the same of two for whom every decision is the same."""

    def __init__(self, access: AccountAccess) -> None:
        self._named = {found[1] for policy in access.policies for found in _STRING.finditer(policy.cedar)}
        self._targets = {target for policy in access.policies for target in policy.attached_to}

    def of(self, who: PrincipalRecord) -> Hashable:
        """Where a policy names a tag in a way of its own, two may be taken for the same that are not: then less is
        found than there is."""
        itself = who.name if who.name in self._named or who.name in self._targets else ""
        tags = tuple(sorted((key, value) for key, value in who.tags.items() if key in self._named))
        return who.kind, itself, tuple(who.roles), tags


def _of_policies(account: str, policy: str) -> Iterator[tuple[str, Resource]]:
    """What whoever changes policies does, and on what."""
    yield "access:CreatePolicy", resource(f"accounts/{account}")
    for verb in ("Update", "Delete", "Attach", "Detach"):
        yield f"access:{verb}Policy", resource(policy)


def _of_itself(who: PrincipalRecord) -> Iterator[tuple[str, Resource]]:
    """What it does with policies on itself."""
    for verb in ("Attach", "Detach"):
        yield f"access:{verb}Policy", resource(who.name, tags=dict(who.tags))


def _permits(account: Account, question: Question) -> bool:
    _, decision = Decider(question, account, NO_POLICIES, []).decide(question)
    return decision.allowed
