"""Cedar policies, taken apart so that a decision evaluates only those statements that can bear on it.

What a statement's scope names (principal, action, resource), which attributes of the context it reads, and which pair
of the encryption context it cannot do without are known beforehand; the rest is Cedar's to evaluate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cedarpy

from strongroom.access.v1.access_record_service_pb2 import PolicyRecord

Json = dict[str, Any]
Pair = tuple[str, str]

_NAMESPACE = "Strongroom"
_CONTEXT: Json = {"Var": "context"}
_ENCRYPTION_CONTEXT: Json = {".": {"left": _CONTEXT, "attr": "encryption_context"}}

_ERROR = re.compile(r"error while evaluating policy `(\w+)`: (.*)", re.DOTALL)

EVERYTHING = "*"
"""In `Statement.reads`: the statement looks at the context as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One `permit` or `forbid` of a policy."""

    name: str
    """The policy's, with `#` and the number from 0 where it has several."""
    parsed: Json
    """In Cedar's JSON format."""
    actions: tuple[str, ...]
    """What its scope limits it to: actions or groups of them; empty for any."""
    resource: str
    """The one resource that its scope limits it to; empty for any."""
    reads: frozenset[str]
    """Attributes of the context whose values its outcome depends on."""
    required_pair: Pair | None
    """A pair of the encryption context without which it does not apply."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What statements make of one request: the names of those that permit, and of those that forbid."""

    permits: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    """Statements that could not be evaluated, and why; they neither permit nor forbid."""

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.permits + other.permits, self.forbids + other.forbids, self.errors + other.errors)


NOTHING = Verdict()


def uid(kind: str, name: str) -> Json:
    """An entity of the schema."""
    return {"type": f"{_NAMESPACE}::{kind}", "id": name}


class Parsed:
    """Statements of policies, parsed once: an account's policies come again with each change in it."""

    def __init__(self, capacity: int = 65_536) -> None:
        self._statements: dict[tuple[str, str], list[Statement]] = {}
        self._capacity = capacity

    def statements(self, record: PolicyRecord) -> list[Statement]:
        """The statements of a policy."""
        key = (record.name, record.cedar)
        statements = self._statements.get(key)
        if statements is None:
            if len(self._statements) >= self._capacity:
                self._statements.clear()
            statements = self._statements[key] = _parsed(record)
        return statements


class StatementIndex:
    """Statements by the action and resource that their scopes name."""

    def __init__(self, statements: Iterable[Statement]) -> None:
        self._by_scope: dict[tuple[str, str], list[Statement]] = {}
        for statement in statements:
            for action in statement.actions or ("",):
                self._by_scope.setdefault((action, statement.resource), []).append(statement)

    def __bool__(self) -> bool:
        return bool(self._by_scope)

    def matching(self, action: str, resource: str) -> list[Statement]:
        """Those whose scope admits the action on the resource, as far as action and resource go."""
        group = action.partition(":")[0]
        found = [
            statement
            for scope in ((a, r) for a in (action, group, "") for r in (resource, ""))
            for statement in self._by_scope.get(scope, ())
        ]
        # One whose scope lists both the action and its group.
        return list(dict.fromkeys(found))


class Evaluator:
    """Evaluates some statements for one principal, action and resource, again and again with other contexts.

    Those that do not read the context are evaluated once.
    """

    __slots__ = ("_always", "_by_pair", "_entities", "_fixed", "_pair_sets", "_request", "reads")

    def __init__(self, statements: Sequence[Statement], request: Json, entities: Sequence[Json]) -> None:
        self._request = request
        self._entities = cedarpy.Entities.from_json_str(json.dumps(list(entities)))
        reading = [statement for statement in statements if statement.reads]
        self.reads: frozenset[str] = frozenset().union(*(statement.reads for statement in reading))
        """Attributes of the context whose values the verdict depends on."""
        still = [statement for statement in statements if not statement.reads]
        self._fixed = self._evaluated(_PolicySet(still), {}) if still else NOTHING
        always = [statement for statement in reading if statement.required_pair is None]
        self._always = _PolicySet(always) if always else None
        self._by_pair: dict[Pair, list[Statement]] = {}
        for statement in reading:
            if statement.required_pair is not None:
                self._by_pair.setdefault(statement.required_pair, []).append(statement)
        self._pair_sets: dict[Pair, _PolicySet] = {}

    def verdict(self, context: Json, pairs: Iterable[Pair]) -> Verdict:
        """What the statements make of a context. `pairs` is its encryption context."""
        verdict = self._fixed
        if self._always is not None:
            verdict += self._evaluated(self._always, context)
        if self._by_pair:
            for pair in pairs:
                if pair in self._by_pair:
                    verdict += self._evaluated(self._of_pair(pair), context)
        return verdict

    def _of_pair(self, pair: Pair) -> _PolicySet:
        found = self._pair_sets.get(pair)
        if found is None:
            found = self._pair_sets[pair] = _PolicySet(self._by_pair[pair])
        return found

    def _evaluated(self, policies: _PolicySet, context: Json) -> Verdict:
        return policies.verdict({**self._request, "context": context}, self._entities)


class _PolicySet:
    """Statements as Cedar evaluates them."""

    __slots__ = ("_names", "_policies")

    def __init__(self, statements: Sequence[Statement]) -> None:
        self._names = {f"s{number}": statement.name for number, statement in enumerate(statements)}
        bodies = {f"s{number}": statement.parsed for number, statement in enumerate(statements)}
        text = json.dumps({"staticPolicies": bodies, "templates": {}, "templateLinks": []})
        self._policies = cedarpy.PolicySet.from_json_str(text)

    def verdict(self, request: Json, entities: cedarpy.Entities) -> Verdict:
        """Where any forbids, those that permit are not told."""
        result = cedarpy.is_authorized(request, self._policies, entities)
        decisive = tuple(sorted(self._names[reason] for reason in result.diagnostics.reasons))
        errors = tuple(self._explained(error) for error in result.diagnostics.errors)
        return Verdict(decisive, (), errors) if result.allowed else Verdict((), decisive, errors)

    def _explained(self, error: str) -> tuple[str, str]:
        identifier, message = _ERROR.fullmatch(error).groups()  # type: ignore[union-attr]  # Cedar's own form
        return self._names[identifier], message


def _parsed(record: PolicyRecord) -> list[Statement]:
    bodies = list(json.loads(cedarpy.policies_to_json_str(record.cedar))["staticPolicies"].values())
    names = (f"{record.name}#{number}" for number in range(len(bodies))) if len(bodies) > 1 else (record.name,)
    return [_statement(name, body) for name, body in zip(names, bodies, strict=True)]


def _statement(name: str, body: Json) -> Statement:
    return Statement(
        name,
        body,
        tuple(_scope_entities(body["action"])),
        _only_resource(body["resource"]),
        frozenset(_reads(body["conditions"])),
        _required_pair(body["conditions"]),
    )


def _scope_entities(scope: Json) -> Iterator[str]:
    if "entity" in scope:
        yield scope["entity"]["id"]
    for entity in scope.get("entities", ()):
        yield entity["id"]


def _only_resource(scope: Json) -> str:
    return str(scope["entity"]["id"]) if scope["op"] == "==" else ""


def _reads(node: Any) -> Iterator[str]:
    """The attributes of the context that an expression reads."""
    if node == _CONTEXT:
        yield EVERYTHING
    elif isinstance(node, list):
        for part in node:
            yield from _reads(part)
    elif isinstance(node, dict):
        for operator, operands in node.items():
            if operator in (".", "has") and operands["left"] == _CONTEXT:
                yield operands["attr"]
            elif operator == "Record":
                # Its attributes can have the names of operators.
                yield from _reads(list(operands.values()))
            elif operator != "Value":
                yield from _reads(operands)


def _required_pair(conditions: Sequence[Json]) -> Pair | None:
    """The first pair that `context.encryption_context.contains({key: …, value: …})` asks for among what a `when`
    joins by `&&`."""
    for condition in conditions:
        if condition["kind"] == "when":
            for term in _conjuncts(condition["body"]):
                pair = _contained_pair(term)
                if pair is not None:
                    return pair
    return None


def _conjuncts(body: Json) -> Iterator[Json]:
    if "&&" in body:
        yield from _conjuncts(body["&&"]["left"])
        yield from _conjuncts(body["&&"]["right"])
    else:
        yield body


def _contained_pair(term: Json) -> Pair | None:
    contains = term.get("contains")
    if contains is None or contains["left"] != _ENCRYPTION_CONTEXT:
        return None
    record: Mapping[str, Json] = contains["right"].get("Record", {})
    key, value = record.get("key", {}).get("Value"), record.get("value", {}).get("Value")
    return (key, value) if isinstance(key, str) and isinstance(value, str) else None
