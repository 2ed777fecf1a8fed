"""Cedar policies, taken apart so that a decision evaluates only those statements that can bear on it.

What a statement's scope names (principal, action, resource), which attributes of the context it reads, and which pair
of the encryption context it cannot do without are known beforehand; the rest is Cedar's to evaluate.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import cedarpy

from services.runtime.access.cedar_cost import CALL, MAX_DECISION
from services.runtime.access.cedar_sets import (
    EVERYTHING,
    NOTHING,
    Pair,
    PolicySet,
    Statement,
    Verdict,
    refused,
    statements_of,
)
from services.runtime.access.cedar_text import Json
from services.runtime.access.shares import SharedCache
from strongroom.access.v1.access_record_service_pb2 import PolicyRecord

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "Evaluator",
    "Json",
    "Parsed",
    "Piece",
    "Statement",
    "StatementIndex",
    "Verdict",
    "uid",
]

log = logging.getLogger(__name__)

TOO_COSTLY = "policies-too-costly"

_NAMESPACE = "Strongroom"
_CAPACITY = 256 * 1024 * 1024
_BYTES_A_STATEMENT = 1_024
_MAX_UNUSABLE = 1_000


def uid(kind: str, name: str) -> Json:
    """An entity of the schema."""
    return {"type": f"{_NAMESPACE}::{kind}", "id": name}


class Evaluator:
    """Evaluates some statements for one principal, action and resource, again and again with other contexts.

    Those that do not read the context are evaluated once. What would cost more than `MAX_DECISION` is not evaluated:
    it forbids.
    """

    __slots__ = ("_entities", "_fixed", "_pieces", "_request", "reads")

    def __init__(
        self,
        statements: Sequence[Statement],
        request: Json,
        entities: Sequence[Json],
        pieces: Sequence[Piece] = (),
    ) -> None:
        """`pieces` are statements that others evaluate too."""
        pieces = [*pieces, Piece(statements)] if statements else pieces
        self._request = request
        self._entities = cedarpy.Entities.from_json_str(json.dumps(list(entities)))
        self.reads: frozenset[str] = frozenset().union(*(piece.reads for piece in pieces))
        """Attributes of the context whose values the verdict depends on."""
        self._pieces = [piece for piece in pieces if piece.reads]
        self._fixed = self._evaluated([piece.still for piece in pieces if piece.still], {}, 0)

    def verdict(self, context: Json, pairs: Iterable[Pair]) -> Verdict:
        """What the statements make of a context. `pairs` is its encryption context."""
        if TOO_COSTLY in self._fixed.forbids:
            return self._fixed
        pairs = list(pairs)
        policies = [piece.always for piece in self._pieces if piece.always]
        policies += [found for piece in self._pieces for found in piece.of_pairs(pairs)]
        told = len(pairs) + len(context.get("session_tags", ()))
        return self._fixed + self._evaluated(policies, context, told)

    def _evaluated(self, policies: Sequence[PolicySet], context: Json, told: int) -> Verdict:
        if sum(one.cost(told) for one in policies) > MAX_DECISION:
            return Verdict((), (TOO_COSTLY,))
        verdict = NOTHING
        for one in policies:
            verdict += one.verdict({**self._request, "context": context}, self._entities)
        return verdict


class Piece:
    """Statements that bear on the same requests as far as action and resource go."""

    __slots__ = ("_by_pair", "_pair_sets", "always", "cost", "reads", "still")

    def __init__(self, statements: Sequence[Statement]) -> None:
        reading = [statement for statement in statements if statement.reads]
        self.reads: frozenset[str] = frozenset().union(*(statement.reads for statement in reading))
        """Attributes of the context whose values the verdict depends on."""
        self.still = PolicySet([statement for statement in statements if not statement.reads])
        """Those that do not read the context."""
        self.always = PolicySet([statement for statement in reading if statement.required_pair is None])
        """Those that read it, and require no pair."""
        self._by_pair: dict[Pair, list[Statement]] = {}
        for statement in reading:
            if statement.required_pair is not None:
                self._by_pair.setdefault(statement.required_pair, []).append(statement)
        self._pair_sets: dict[Pair, PolicySet] = {}
        of_pairs = (CALL + sum(one.cost for one in statements) for statements in self._by_pair.values())
        self.cost = sum(one.cost() for one in (self.still, self.always) if one) + max(of_pairs, default=0)
        """Of evaluating it where the encryption context is short and has one of the required pairs."""

    def of_pairs(self, pairs: Iterable[Pair]) -> Iterator[PolicySet]:
        """Those that require one of these pairs."""
        if self._by_pair:
            for pair in pairs:
                if pair in self._by_pair:
                    yield self._of_pair(pair)

    def _of_pair(self, pair: Pair) -> PolicySet:
        found = self._pair_sets.get(pair)
        if found is None:
            found = self._pair_sets[pair] = PolicySet(self._by_pair[pair])
        return found


class StatementIndex:
    """Statements by the action and resource that their scopes name."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        self._by_scope: dict[tuple[str, str], list[Statement]] = {}
        for statement in statements:
            for action in statement.actions or ("",):
                self._by_scope.setdefault((action, statement.resource), []).append(statement)
        self._pieces: dict[tuple[str, str], Piece] = {}

    def __bool__(self) -> bool:
        return bool(self._by_scope)

    def matching(self, action: str, resource: str) -> list[Statement]:
        """Those whose scope admits the action on the resource, as far as action and resource go."""
        found = [one for scope in self._scopes(action, resource) for one in self._by_scope[scope]]
        # One whose scope lists both the action and its group.
        return list(dict.fromkeys(found))

    def pieces(self, action: str, resource: str) -> Iterator[Piece]:
        """These statements in pieces, by what their scopes name: each piece is one object for all actions and resources
        that it fits."""
        for scope in self._scopes(action, resource):
            piece = self._pieces.get(scope)
            yield self._pieces.setdefault(scope, Piece(self._by_scope[scope])) if piece is None else piece

    @cached_property
    def highest_cost(self) -> int:
        """What the statements cost at most for one action on one resource, in the units of `cedar_cost`."""
        of_any: dict[str, int] = {}
        of_one: dict[str, int] = {}
        for (action, resource), statements in self._by_scope.items():
            cost = Piece(statements).cost
            if resource:
                of_one[action] = max(of_one.get(action, 0), cost)
            else:
                of_any[action] = cost

        def of(action: str) -> int:
            return of_any.get(action, 0) + of_one.get(action, 0)

        actions = {action for action, _ in self._by_scope if ":" in action}
        groups = {action for action, _ in self._by_scope if ":" not in action} - {""}
        alone = (of(group) for group in groups)
        return of("") + max((*(of(one) + of(one.partition(":")[0]) for one in actions), *alone), default=0)

    def _scopes(self, action: str, resource: str) -> Iterator[tuple[str, str]]:
        group = action.partition(":")[0]
        scopes = ((a, r) for a in (action, group, "") for r in dict.fromkeys((resource, "")))
        return (scope for scope in scopes if scope in self._by_scope)


class Parsed:
    """Policies, read once: an account's come again with each change in it. One tenant's take no other's place."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        """`capacity` is in bytes."""
        self._statements: SharedCache[tuple[str, str, bool], list[Statement]] = SharedCache(capacity // 2)
        self._indexes: SharedCache[tuple[Statement, ...], StatementIndex] = SharedCache(capacity // 2)
        self.unusable: dict[str, str] = {}
        """Policies that cannot be evaluated, by name, and why; no more than 1,000."""

    def statements(self, record: PolicyRecord) -> list[Statement]:
        """The statements of a policy."""
        tenant, key = _tenant_of(record.name), (record.name, record.cedar, record.refused)
        statements = self._statements.get(tenant, key)
        if statements is None:
            statements = statements_of(record.name, record.cedar)
            if record.refused:
                statements = [refused(statement) for statement in statements]
            self._statements.put(tenant, key, statements, _size(statements))
        self._note(record.name, statements)
        return statements

    def index(self, tenant: str, statements: Sequence[Statement]) -> StatementIndex:
        """An index of statements, the same object for the same ones."""
        key = tuple(dict.fromkeys(statements))
        index = self._indexes.get(tenant, key)
        if index is None:
            index = StatementIndex(key)
            self._indexes.put(tenant, key, index, _size(key))
        return index

    def _note(self, name: str, statements: Sequence[Statement]) -> None:
        problem = next((statement.problem for statement in statements if statement.problem), "")
        if problem and name not in self.unusable and len(self.unusable) < _MAX_UNUSABLE:
            log.warning(
                "a policy cannot be evaluated; it denies by itself",
                extra={"fields": {"policy": name, "problem": problem}},
            )
            self.unusable[name] = problem
        elif not problem:
            self.unusable.pop(name, None)


def _tenant_of(name: str) -> str:
    parts = name.split("/")
    return parts[1] if len(parts) > 1 else ""


def _size(statements: Sequence[Statement]) -> int:
    return sum(_BYTES_A_STATEMENT + len(statement.body) * 2 for statement in statements)
