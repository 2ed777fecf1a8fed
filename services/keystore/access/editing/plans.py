"""What a change would make of an account's access, and whether that may be.

It is looked at before the change begins, as of one moment: it takes as long as the account is large, and from the
change's number to its commit nobody else in the mesh can change anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection

from services.keystore.access.editing import lockout
from services.keystore.access.records import contents, policy_store, store
from services.keystore.access.records.resources import ClientKey, OidcProvider, Policy, Principal, account_of
from services.keystore.store.store import tags_text
from services.runtime.access import decisions
from services.runtime.access.cedar import Parsed
from services.runtime.access.cedar_cost import MAX_DECISION
from services.runtime.access.decisions import Account
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, PolicyRecord, PrincipalRecord
from strongroom.access.v1.policy_pb2 import POLICY_KIND_RESOURCE

MAX_ACCOUNT_CHARACTERS = 4_000_000
"""Of an account's principals and identity policies, and of what else decisions rest on, in all; as UTF-8 less than the
largest message between services."""
MAX_PRINCIPALS = 10_000
"""So many users, workloads and roles an account has."""
MAX_RECORDS = 50_000
"""Of principals, what they are known by, policies, attachments, client keys and OIDC providers in all: what an account
holds is bound to it as a set with each change."""
MAX_PRINCIPALS_KEPT = 50_000
"""So many principals an account has, or had and has to end the grants of still: new ones alone meet this."""
MAX_CLIENT_KEYS_KEPT = 20_000
"""So many client keys an account has, or had within the time of a session: new ones alone meet this."""
RESERVED_RECORDS, RESERVED_CHARACTERS = 5_000, 150_000
"""Beyond the limits, for what must not wait until somebody has made room: a policy that only forbids, and the client
key that takes another's place."""
MAX_ON_RESOURCE = 100
"""So many policies can be attached to one key or secret: they are read with it, as a whole."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be looked at before a change."""

    room: bool = False
    """It may make what decisions rest on larger, or costlier."""
    way_back: bool = False
    """It may take permissions away."""


class Plan:
    """One record of an account as it is and as it would be; None where it is not there."""

    def __init__(self, account: str, before: object | None, after: object | None, needs: Needs) -> None:
        self._account = account
        self._before = before
        self._after = after
        self._needs = needs
        self._policy = next((one.name for one in (after, before) if isinstance(one, Policy)), "")
        self._on_resources = any(_is_of_resources(one) for one in (before, after))
        self._seen: AccountAccess | None = None
        self._on_each: dict[str, list[PolicyRecord]] = {}

    def read(self, connection: Connection, now_us: int) -> None:
        """Reads what it takes to decide. Raises LIMIT_EXCEEDED where there would be too much of anything."""
        if self._needs.room:
            self._require_few(connection)
        decided_by = isinstance(self._after or self._before, Policy | Principal) and not self._on_resources
        if decided_by and (self._needs.room or self._needs.way_back):
            self._seen = store.account_access(connection, self._account, now_us)
        elif self._on_resources and self._needs.room and isinstance(self._after, Policy):
            self._read_resources(connection, self._after)

    def require(self, call: Call, parsed: Parsed, now_us: int) -> None:
        """Raises LIMIT_EXCEEDED where a decision would cost more than the services spend on it, and more than before;
        POLICY_LOCKOUT where nobody could change the account's policies any more."""
        for target, records in self._on_each.items():
            policies = decisions.resource_policies(records, parsed, self._account)
            require_cheap(target, policies.index.highest_cost)
        if self._seen is None:
            return
        planned = AccountAccess()
        planned.CopyFrom(self._seen)
        _replace(planned, self._before, self._after)
        account = Account(planned, parsed)
        if self._needs.room:
            self._require_cheap(account, parsed)
        if self._needs.way_back:
            lockout.require_way_back(planned, call, self._policy, account, now_us)

    def _require_few(self, connection: Connection) -> None:
        is_new = isinstance(self._after, Principal) and self._before is None
        if is_new and store.count_principals(connection, self._account) >= MAX_PRINCIPALS:
            raise _too_many(self._account, MAX_PRINCIPALS, "principals")
        if is_new and contents.has_principals_kept(connection, self._account, MAX_PRINCIPALS_KEPT):
            raise _too_many(self._account, MAX_PRINCIPALS_KEPT, "principals, with those whose grants have yet to end,")
        if isinstance(self._after, ClientKey) and self._before is None:
            _require_few_client_keys(connection, self._account)
        records = _records(self._after) - _records(self._before)
        characters = _characters(self._after) - _characters(self._before)
        only_forbids = isinstance(self._after, Policy) and not lockout.permits(self._after.cedar)
        require_room(connection, self._account, records, characters, reserved=only_forbids)

    def _read_resources(self, connection: Connection, wanted: Policy) -> None:
        crowded = policy_store.crowded(connection, wanted.name, wanted.attached_to, MAX_ON_RESOURCE)
        if crowded is not None:
            raise StrongroomError(
                Reason.LIMIT_EXCEEDED, f"{crowded} has {MAX_ON_RESOURCE} policies already", limit=str(MAX_ON_RESOURCE)
            )
        record = PolicyRecord(name=wanted.name, cedar=wanted.cedar, kind=wanted.kind)
        for target in wanted.attached_to:
            others = (one for one in store.resource_policies(connection, target) if one.name != wanted.name)
            self._on_each[target] = [*others, record]

    def _require_cheap(self, account: Account, parsed: Parsed) -> None:
        dear = [
            (principal, cost)
            for principal in account.principals
            if (cost := account.highest_cost(principal)) > MAX_DECISION
        ]
        if dear and self._seen is not None:
            before = Account(self._seen, parsed)
            for principal, cost in dear:
                present = before.principal(principal.name)
                if present is None or before.highest_cost(present) < cost:
                    require_cheap(principal.name, cost)


def require_room(
    connection: Connection, account: str, records: int, characters: int, *, reserved: bool = False
) -> None:
    """Raises LIMIT_EXCEEDED when, with so much more, what decisions in an account rest on would be more than every
    worker of every service is to read and to keep, as a whole, after each change of it. What makes it less is never
    refused, and what is `reserved` room only beyond that."""
    most = MAX_RECORDS + (RESERVED_RECORDS if reserved else 0)
    if records > 0 and contents.count(connection, account) + records > most:
        what = "principals, identities, policies, attachments, client keys and OIDC providers"
        raise _too_many(account, MAX_RECORDS, what)
    longest = MAX_ACCOUNT_CHARACTERS + (RESERVED_CHARACTERS if reserved else 0)
    if characters > 0 and store.account_characters(connection, account) + characters > longest:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"the principals and identity policies of accounts/{account} are more than {MAX_ACCOUNT_CHARACTERS}"
            " characters",
            limit=str(MAX_ACCOUNT_CHARACTERS),
        )


def require_room_for_successor(connection: Connection, name: str) -> None:
    """Raises LIMIT_EXCEEDED where an account has no room for a client key that takes another's place. It has to have
    it: who had made sure that there is none would hold the other's secret for good."""
    require_room(connection, account_of(name), 1, store.characters(name), reserved=True)


def _require_few_client_keys(connection: Connection, account: str) -> None:
    if contents.count_client_keys_kept(connection, account) >= MAX_CLIENT_KEYS_KEPT:
        raise _too_many(account, MAX_CLIENT_KEYS_KEPT, "client keys, with those that were deleted lately,")


def require_cheap(on: str, cost: int) -> None:
    """Raises LIMIT_EXCEEDED when the policies on something cost more than a decision may."""
    if cost > MAX_DECISION:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"evaluating the policies that apply to {on} would cost {cost} units, more than {MAX_DECISION}: narrow them"
            " by action, resource or encryption context, or attach fewer",
            limit=str(MAX_DECISION),
        )


def _too_many(account: str, limit: int, what: str) -> StrongroomError:
    return StrongroomError(Reason.LIMIT_EXCEEDED, f"accounts/{account} has {limit} {what} already", limit=str(limit))


def _is_of_resources(record: object | None) -> bool:
    return isinstance(record, Policy) and record.kind == POLICY_KIND_RESOURCE


def _records(record: object | None) -> int:
    """How many rows of the account's contents it is."""
    if isinstance(record, Policy):
        return 1 + len(record.attached_to)
    if isinstance(record, Principal):
        return 1 + len(record.spiffe_ids) + len(record.oidc_bindings)
    return 0 if record is None else 1


def _characters(record: object | None) -> int:
    """How many characters of what decisions rest on a record is."""
    if isinstance(record, Policy) and record.kind != POLICY_KIND_RESOURCE:
        return store.characters(record.name, record.cedar) + sum(map(store.characters, record.attached_to))
    if isinstance(record, Principal):
        ended = json.dumps(dict(record.ended_sessions)) if record.ended_sessions else ""
        own = store.characters(record.name, json.dumps(list(record.roles)), tags_text(record.tags), ended)
        return own + store.characters(record.name)  # its quota
    return store.characters(record.name) if isinstance(record, ClientKey | OidcProvider) else 0


def _replace(access: AccountAccess, before: object | None, after: object | None) -> None:
    """Puts what a record would be in the place of what it is."""
    name = getattr(before or after, "name", "")
    if isinstance(before or after, Policy):
        refused = any(one.refused for one in access.policies if one.name == name)
        _keep(access, [one for one in access.policies if one.name != name])
        if isinstance(after, Policy) and after.attached_to:
            everybody = f"accounts/{access.account}" in after.attached_to
            access.policies.add(
                name=name,
                cedar=after.cedar,
                kind=after.kind,
                attached_to=() if everybody else after.attached_to,
                refused=refused,
            )
    elif isinstance(before or after, Principal):
        others = [one for one in access.principals if one.name != name]
        del access.principals[:]
        access.principals.extend(others)
        if isinstance(after, Principal):
            access.principals.append(_record(after))
        else:
            _forget(access, name)


def _keep(access: AccountAccess, policies: list[PolicyRecord]) -> None:
    del access.policies[:]
    access.policies.extend(policies)


def _forget(access: AccountAccess, name: str) -> None:
    """Takes what is gone off those who hold it and from what is attached to it."""
    for holder in access.principals:
        if name in holder.roles:
            holder.roles.remove(name)
    attached = [policy for policy in access.policies if list(policy.attached_to) != [name]]
    for policy in attached:
        if name in policy.attached_to:
            policy.attached_to.remove(name)
    # One that is attached to nothing else is for nobody; without any target it would be for everybody.
    _keep(access, attached)


def _record(principal: Principal) -> PrincipalRecord:
    return PrincipalRecord(
        name=principal.name,
        kind=principal.kind,
        disabled=principal.disabled,
        roles=principal.roles,
        tags=principal.tags,
    )
