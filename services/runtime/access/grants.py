"""Grants as a worker knows them: what each principal may do with a key beyond its policies.

A principal's grants on a key are read once, all of them while they are few. Where there are many, such as one for each
disk, they are looked up for each action and encryption context, at a cost that does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

from services.runtime.changes import Change, ChangeFeed
from services.runtime.clock import Clock, microseconds, seconds, system_clock
from strongroom.access.v1.access_record_service_pb2 import GrantRecord
from strongroom.access.v1.grant_pb2 import GrantConstraint
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind

FEW = 100
CREATE_GRANT, RETIRE_GRANT = "access:CreateGrant", "access:RetireGrant"
_GET_KEY = "keystore:GetKey"
_CACHED_KEYS = 100_000
_CACHED_PER_PRINCIPAL = 10_000
_DIGEST_BYTES = 32


def is_grantable(action: str) -> bool:
    """Whether a grant can permit the action by itself."""
    return action.startswith("crypto:") or action == _GET_KEY


class FindGrants(Protocol):
    """Looks grants up."""

    def __call__(
        self, key: str, principal: str, action: str, pairs: Mapping[str, str], limit: int
    ) -> tuple[Sequence[GrantRecord], int]:
        """The grants on a key of a principal and the roles that it holds, at most `limit` of them, and the revision as
        of which they were read.

        Without an action: whatever they permit. With one: those that permit it under this encryption context.
        """


@dataclass(frozen=True, slots=True)
class Grant:
    """Some operations on one key, delegated to one principal."""

    name: str
    operations: frozenset[str]
    constraint: GrantConstraint
    expires: float
    """In seconds since the Unix epoch; infinity for never."""

    def permits(self, action: str, pairs: Mapping[str, str], now: float) -> bool:
        """Whether it permits the action under this encryption context."""
        return action in self.operations and now < self.expires and admits(self.constraint, pairs)


def admits(constraint: GrantConstraint, pairs: Mapping[str, str]) -> bool:
    """Whether an encryption context meets a grant's constraint."""
    kind = constraint.WhichOneof("kind")
    if kind == "context_equals":
        return dict(constraint.context_equals.pairs) == pairs
    if kind == "context_contains":
        return all(pairs.get(key) == value for key, value in constraint.context_contains.pairs.items())
    return True


@dataclass(slots=True)
class _Known:
    """What is known of one principal's grants on one key."""

    grants: tuple[Grant, ...]
    whole: bool
    """Whether these are all that it has."""
    by_context: dict[tuple[str, bytes], tuple[Grant, ...]] = field(default_factory=dict)
    """Otherwise: those that were looked up, by action and the digest of the encryption context, which itself may have
    8 KiB."""


class Grants:
    """Finds the grant that permits a use of a key, if there is one."""

    def __init__(self, find_grants: FindGrants, feed: ChangeFeed, clock: Clock = system_clock) -> None:
        self._find_grants = find_grants
        self._feed = feed
        self._clock = clock
        self._by_key: dict[bytes, dict[str, _Known]] = {}
        feed.age(self._by_key)
        feed.listen(self._changed, self._by_key.clear)

    def find(
        self, key_uid: bytes, key: str, principal: str, action: str, pairs: Mapping[str, str], canonical: bytes
    ) -> str:
        """The name of a grant that permits the principal, or a role it holds, the action on the key under this
        encryption context; empty without one. `canonical` identifies the context."""
        self._feed.require_fresh()
        grants = self._known(key_uid, key, principal, action, pairs, canonical)
        now = seconds(self._clock.now_us())
        if any(grant.expires <= now for grant in grants):
            # Beside those that have ended there may be others, which were left out.
            self._by_key.get(key_uid, {}).pop(principal, None)
            grants = self._known(key_uid, key, principal, action, pairs, canonical)
        return next((grant.name for grant in grants if grant.permits(action, pairs, now)), "")

    def knows(self, key_uid: bytes, principal: str) -> bool:
        """Whether `find` need not ask for a principal's grants on a key."""
        return principal in self._by_key.get(key_uid, {})

    def may_permit(self, key_uid: bytes, principal: str, action: str) -> bool:
        """Whether what `find` has read leaves it open that a grant permits the action under some encryption context."""
        known = self._by_key.get(key_uid, {}).get(principal)
        return known is None or not known.whole or any(action in grant.operations for grant in known.grants)

    def _known(
        self, key_uid: bytes, key: str, principal: str, action: str, pairs: Mapping[str, str], canonical: bytes
    ) -> tuple[Grant, ...]:
        known = self._by_key.get(key_uid, {}).get(principal)
        if known is None:
            known = self._read_all(key_uid, key, principal)
        if known.whole:
            return known.grants
        context = blake2b(canonical, digest_size=_DIGEST_BYTES).digest()
        found = known.by_context.get((action, context))
        return self._look_up(known, key, principal, action, pairs, context) if found is None else found

    def _read_all(self, key_uid: bytes, key: str, principal: str) -> _Known:
        records, as_of_revision = self._find_grants(key, principal, "", {}, FEW)
        known = _Known(_grants(records), whole=len(records) < FEW)
        with self._feed.lock:
            if self._feed.has_applied(as_of_revision):
                if len(self._by_key) >= _CACHED_KEYS:
                    self._by_key.clear()
                self._by_key.setdefault(key_uid, {})[principal] = known
        return known

    def _look_up(
        self, known: _Known, key: str, principal: str, action: str, pairs: Mapping[str, str], context: bytes
    ) -> tuple[Grant, ...]:
        records, as_of_revision = self._find_grants(key, principal, action, pairs, 1)
        grants = _grants(records)
        with self._feed.lock:
            # A change that came meanwhile has taken `known` out of the cache: what is put in then is never seen.
            if self._feed.has_applied(as_of_revision):
                if len(known.by_context) >= _CACHED_PER_PRINCIPAL:
                    known.by_context.clear()
                known.by_context[action, context] = grants
        return grants

    def _changed(self, change: Change) -> None:
        if change.kind == ChangeKind.CHANGE_KIND_GRANT:
            if "/roles/" in change.resource:
                # Others may hold the role.
                self._by_key.pop(change.key_uid, None)
            else:
                self._by_key.get(change.key_uid, {}).pop(change.resource, None)
        elif change.kind == ChangeKind.CHANGE_KIND_PRINCIPAL:
            # Which roles it holds may have changed.
            for known in self._by_key.values():
                known.pop(change.resource, None)


def _grants(records: Iterable[GrantRecord]) -> tuple[Grant, ...]:
    return tuple(
        Grant(
            record.name,
            frozenset(record.operations),
            record.constraint,
            seconds(microseconds(record.expire_time)) if record.HasField("expire_time") else float("inf"),
        )
        for record in records
    )
