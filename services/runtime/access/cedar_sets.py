"""Statements of policies: what is known of each beforehand, and what Cedar makes of several.

One that Cedar cannot evaluate fails by itself: a `permit` permits nothing, a `forbid` forbids what its scope covers.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cedarpy

from services.runtime.access import cedar_text
from services.runtime.access.cedar_cost import CALL, MAX_RUNNABLE_DEPTH, PAIR, READ_PAIR, measured
from services.runtime.access.cedar_text import Json

log = logging.getLogger(__name__)

Pair = tuple[str, str]

_CONTEXT: Json = {"Var": "context"}
_ACTION = "Strongroom::Action"
_ENCRYPTION_CONTEXT: Json = {".": {"left": _CONTEXT, "attr": "encryption_context"}}

NOT_EVALUATED = "policies-not-evaluated"

_FORBIDS_ALL = json.dumps(
    {"effect": "forbid", **{part: {"op": "All"} for part in ("principal", "action", "resource")}, "conditions": []}
)
# What Cedar says when it has no stack left.
_RECURSION = "recursion limit"
# Of JSON: what takes Cedar a millisecond and more to read is read without stopping other threads.
_LONG = 16_384
# In units: what Cedar evaluates at once. It keeps the interpreter meanwhile, so others get it between two such parts.
_AT_ONCE = 900
_BREATH_SECONDS = 0.0001
# Pairs and session tags: more of them, and to hand them over with each part costs more than it is good for.
_TOLD_WITH_PARTS = 8
_ERROR = re.compile(r"error while evaluating policy `(\w+)`: (.*)", re.DOTALL)

EVERYTHING = "*"
"""In `Statement.reads`: the statement looks at the context as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One `permit` or `forbid` of a policy."""

    name: str
    """The policy's, with `#` and the number from 0 where it has several, or `#unusable` where they are not known."""
    effect: str
    body: str = field(repr=False)
    """What is evaluated, in Cedar's JSON format; without the list of actions that its scope has, which `actions`
    tells."""
    actions: tuple[str, ...] = ()
    """What its scope limits it to: actions or groups of them; empty for any."""
    resource: str = ""
    """The one resource that its scope limits it to; empty for any."""
    reads: frozenset[str] = frozenset()
    """Attributes of the context whose values its outcome depends on."""
    required_pair: Pair | None = None
    """A pair of the encryption context without which it does not apply."""
    cost: int = 0
    """Of evaluating it, at most, in the units of `cedar_cost`."""
    set_reads: int = 0
    """How often it looks at every pair of the encryption context."""
    problem: str = ""
    """Why it cannot be evaluated. A `permit` permits nothing then, a `forbid` forbids what its scope covers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What statements make of one request: the names of those that permit, and of those that forbid."""

    permits: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    """Statements that could not be evaluated, and why; they do not permit."""
    unusable: tuple[str, ...] = ()
    """Those among them that never can."""

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.permits + other.permits,
            self.forbids + other.forbids,
            self.errors + other.errors,
            self.unusable + other.unusable,
        )


NOTHING = Verdict()


class PolicySet:
    """Statements as Cedar evaluates them; made ready when they are evaluated first."""

    __slots__ = ("_compiled", "_cost", "_parts", "_set_reads", "statements")

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.statements = statements
        """The statements, as they are evaluated."""
        self._cost = CALL + sum(statement.cost for statement in statements)
        self._set_reads = sum(statement.set_reads for statement in statements)
        self._compiled: cedarpy.PolicySet | None = None
        self._parts: Sequence[PolicySet] = ()

    def __bool__(self) -> bool:
        return bool(self.statements)

    def cost(self, told: int = 0) -> int:
        """What evaluating them costs at most, with so many pairs and session tags in the context."""
        return self._cost + told * (PAIR + self._set_reads * READ_PAIR)

    def verdict(self, request: Json, entities: cedarpy.Entities) -> Verdict:
        """Where any forbids, those that permit are not told. What cannot be evaluated at all forbids."""
        context = request["context"]
        told = len(context.get("encryption_context", ())) + len(context.get("session_tags", ()))
        if self._cost <= _AT_ONCE or len(self.statements) == 1 or told > _TOLD_WITH_PARTS:
            return self._evaluated(request, entities)
        self._parts = self._parts or _parts(self.statements)
        verdict = self._parts[0].verdict(request, entities)
        for part in self._parts[1:]:
            time.sleep(_BREATH_SECONDS)
            verdict += part.verdict(request, entities)
        return replace(verdict, permits=()) if verdict.forbids else verdict

    def _evaluated(self, request: Json, entities: cedarpy.Entities) -> Verdict:
        try:
            if self._compiled is None:
                self.statements, self._compiled = _compiled(self.statements)
            result = cedarpy.is_authorized(request, self._compiled, entities)
            return self._verdict(result)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a panic of Cedar is no Exception
            log.error(  # noqa: TRY400  # what it says may hold names of entities
                "policies could not be evaluated; the call is denied", extra={"fields": {"error": type(error).__name__}}
            )
            return Verdict((), (NOT_EVALUATED,))

    def _verdict(self, result: cedarpy.AuthzResult) -> Verdict:
        if result.decision is cedarpy.Decision.NoDecision:
            raise ValueError("no decision")
        decisive = [self._statement(reason) for reason in result.diagnostics.reasons]
        failed = [self._failed(error) for error in result.diagnostics.errors]
        errors = [(one.name, why) for one, why in failed]
        unusable = [one for one in decisive if one.problem]
        errors += [(one.name, one.problem) for one in unusable]
        names = sorted(one.name for one in decisive if not one.problem or one.effect == "forbid")
        forbids = [] if result.allowed else names
        forbids += [one.name for one, why in failed if one.effect == "forbid" and _RECURSION in why]
        permits = names if result.allowed and not forbids else []
        return Verdict(tuple(permits), tuple(forbids), tuple(errors), tuple(sorted(one.name for one in unusable)))

    def _failed(self, error: str) -> tuple[Statement, str]:
        identifier, message = _ERROR.fullmatch(error).groups()  # type: ignore[union-attr]  # Cedar's own form
        return self._statement(identifier), message

    def _statement(self, identifier: str) -> Statement:
        return self.statements[int(identifier.removeprefix("s"))]


def statements_of(name: str, cedar: str) -> list[Statement]:
    """The statements of a policy. Of a text that Cedar cannot read the effects are not known: it is one statement that
    forbids everything."""
    try:
        bodies = cedar_text.statements(cedar)
        names = [name] if len(bodies) == 1 else [f"{name}#{number}" for number in range(len(bodies))]
        return [_statement(one, body) for one, body in zip(names, bodies, strict=True)]
    except cedar_text.PolicyUnreadableError as error:
        problem = str(error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  # one policy must not stop what others decide; a panic is no Exception
        problem = type(error).__name__
    return [Statement(f"{name}#unusable", "forbid", _FORBIDS_ALL, problem=problem)]


def refused(statement: Statement) -> Statement:
    """A statement of a policy that is not what keystore stored: a `permit` permits nothing, a `forbid` forbids what its
    scope covers."""
    body = _without_conditions(json.loads(statement.body))
    problem = statement.problem or "is not what keystore stored"
    return replace(statement, body=body, problem=problem, reads=frozenset(), required_pair=None, cost=0, set_reads=0)


def problems_of(cedar: str) -> list[str]:
    """Why each statement of a text cannot be evaluated, empty where it can: it is done, as the services do it."""
    statements = statements_of("policy", cedar)
    request = {part: {"type": "Strongroom::Service", "id": ""} for part in ("principal", "resource")}
    request |= {"action": {"type": "Strongroom::Action", "id": ""}, "context": {}}
    entities = cedarpy.Entities.from_json_str("[]")
    problems = []
    for statement in statements:
        policies = PolicySet([statement])
        verdict = policies.verdict(request, entities)
        (evaluated,) = policies.statements
        failed = NOT_EVALUATED in verdict.forbids or any(_RECURSION in why for _, why in verdict.errors)
        problems.append(evaluated.problem or ("Cedar fails" if failed else ""))
    return problems


def _statement(name: str, body: Json) -> Statement:
    conditions = body["conditions"]
    measure = measured(conditions)
    scope = (tuple(_scope_entities(body["action"])), _only_resource(body["resource"]))
    if measure.depth > MAX_RUNNABLE_DEPTH:
        problem = f"nests more than {MAX_RUNNABLE_DEPTH} terms"
        return Statement(name, body["effect"], _without_conditions(body), *scope, problem=problem)
    return Statement(
        name,
        body["effect"],
        json.dumps(_for_any_action(body)),
        *scope,
        frozenset(_reads(conditions)),
        _required_pair(conditions),
        measure.cost,
        measure.set_reads,
    )


def _for_any_action(body: Json) -> Json:
    """A statement without the list of actions in its scope: whoever evaluates it has chosen it by them, and Cedar would
    take as long again for each of them as for the rest."""
    scope = body["action"]
    entities = scope.get("entities") or [scope.get("entity", {})]
    if scope["op"] != "in" or any(entity.get("type") != _ACTION for entity in entities):
        return body
    return {**body, "action": {"op": "All"}}


def _without_conditions(body: Json) -> str:
    return json.dumps({**body, "conditions": []})


def _parts(statements: Sequence[Statement]) -> list[PolicySet]:
    """The statements as sets of which each is evaluated at once."""
    parts: list[list[Statement]] = [[]]
    cost = CALL
    for statement in statements:
        if parts[-1] and cost + statement.cost > _AT_ONCE:
            parts.append([])
            cost = CALL
        parts[-1].append(statement)
        cost += statement.cost
    return [PolicySet(part) for part in parts]


def _compiled(statements: Sequence[Statement]) -> tuple[Sequence[Statement], cedarpy.PolicySet]:
    """Statements ready to be evaluated. One that Cedar does not take has a problem from then on."""
    try:
        return statements, _policy_set(statements)
    except ValueError:
        usable = [one if _is_usable(one) else _unusable(one) for one in statements]
        return usable, _policy_set(usable)


def _is_usable(statement: Statement) -> bool:
    try:
        _policy_set([statement])
    except ValueError:
        return False
    return True


def _unusable(statement: Statement) -> Statement:
    return replace(statement, body=_without_conditions(json.loads(statement.body)), problem="Cedar does not take it")


def _policy_set(statements: Sequence[Statement]) -> cedarpy.PolicySet:
    bodies = ", ".join(f'"s{number}": {statement.body}' for number, statement in enumerate(statements))
    text = f'{{"staticPolicies": {{{bodies}}}, "templates": {{}}, "templateLinks": []}}'
    return cedarpy.PolicySet.from_json_str(text, release_gil=len(text) > _LONG)


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
