"""Policies as their authors write them: checked against the published schema, with the place of each problem.

What is checked are the statements that the services evaluate, read by Cedar's parser from the whole text. Where a
problem stands is looked for afterwards, and decides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import cedarpy

from services.runtime.access import cedar_cost, cedar_sets, cedar_text
from services.runtime.access.cedar_text import (
    MAX_BYTES,
    Json,
    PolicyUnreadableError,
    TextTooLargeError,
    with_deep_stack,
)
from services.runtime.errors import Reason, StrongroomError, required, too_large
from strongroom.access.v1.policy_pb2 import (
    POLICY_KIND_IDENTITY,
    PROBLEM_SEVERITY_ERROR,
    PROBLEM_SEVERITY_WARNING,
    PolicyKind,
    ProblemSeverity,
)

__all__ = [
    "MAX_BYTES",
    "MAX_SESSION_POLICY_BYTES",
    "Problem",
    "check",
    "require_valid",
    "require_valid_trust",
    "schema",
]

SCHEMA_FILE = Path(__file__).with_name("strongroom.cedarschema")
JSON_SCHEMA_FILE = Path(__file__).with_name("strongroom.cedarschema.json")
"""Made from the other by `tools/cedar_schema`."""

MAX_SESSION_POLICY_BYTES = 2_048
_MAX_STATEMENTS = 100
_MAX_PROBLEMS = 100
# Looking for a place takes some fifteen parses.
_MAX_PLACES, _MAX_SEARCHED_BRACKETS = 20, 100
MAX_DEPTH = 50
"""Terms within terms. Cedar's evaluator takes 60 from JSON."""
MAX_TERMS = 2_000
"""In a policy: operators, operands, and elements of sets and records."""
MAX_WILDCARDS, MAX_WILDCARDS_IN_PATTERN, MAX_PATTERN = 100, 8, 256
MAX_LITERAL = 1_024
"""Characters of a string."""

# A string, a comment, the end of a statement, or anything else.
_LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|;|[^";/]+|[/"]')
_QUOTED = re.compile(r"`([^`]+)`|: (\w+)$")
_UNFINISHED = "unexpected end of input"
_OF_TRUST = frozenset(("access:AssumeRole", "access:TagSession"))
_PRINCIPALS = re.compile(r"accounts/([^/]+)(?:/(?:users|workloads|roles)/[^/]+)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a policy's text, and where: line and column count from 1, 0 where it is nowhere in
    particular."""

    severity: ProblemSeverity.ValueType
    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True)
class _Statement:
    """One `permit` or `forbid`, and where it begins in the text."""

    text: str
    begin: int


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema that policies are checked against."""

    cedar: str
    """In Cedar's own syntax."""
    parsed: cedarpy.Schema
    digest: bytes
    """SHA-256 of `cedar`."""
    json: str
    """The schema as JSON."""
    actions: frozenset[str]
    """Every action, groups of them left out."""


@cache
def schema() -> Schema:
    """The published schema, read once."""
    text, as_json = SCHEMA_FILE.read_text(), JSON_SCHEMA_FILE.read_text()
    actions = (action for action in json.loads(as_json)["Strongroom"]["actions"] if ":" in action)
    return Schema(text, cedarpy.Schema.from_str(text), sha256(text.encode()).digest(), as_json, frozenset(actions))


def check(cedar: str, kind: PolicyKind.ValueType, account: str) -> list[Problem]:
    """Errors and warnings of a policy's text, by place; none with an error means that it is accepted."""
    try:
        statements = cedar_text.statements(cedar)
    except TextTooLargeError as error:
        problems = [Problem(PROBLEM_SEVERITY_ERROR, 0, 0, str(error))]
    except PolicyUnreadableError as error:
        problems = _unreadable(cedar, str(error))
    else:
        problems = _mistaken(cedar, statements, kind, account)
    return sorted(problems, key=lambda problem: (problem.line, problem.column))[:_MAX_PROBLEMS]


def require_valid(cedar: str, kind: PolicyKind.ValueType, account: str, field: str, max_bytes: int = MAX_BYTES) -> None:
    """Raises POLICY_INVALID with line, column and the first error in the metadata; FIELD_REQUIRED, FIELD_TOO_LARGE."""
    if not cedar.strip():
        raise required(field)
    if len(cedar.encode()) > max_bytes:
        raise too_large(field, max_bytes)
    _raise_first(check(cedar, kind, account), field)


def require_valid_trust(cedar: str, account: str, field: str) -> None:
    """Raises as `require_valid` does for a role's trust policy, which may speak of `access:AssumeRole` and
    `access:TagSession` alone."""
    require_valid(cedar, PolicyKind.POLICY_KIND_RESOURCE, account, field)
    statements = cedar_text.statements(cedar)
    for number, statement in enumerate(statements):
        action = statement["action"]
        named = {entity["id"] for entity in action.get("entities", [action.get("entity", {"id": ""})])}
        if not named <= _OF_TRUST:
            place = _Places(cedar, len(statements))
            _raise_first([place.of(number, f"a trust policy is over {' and '.join(sorted(_OF_TRUST))} alone")], field)


def _raise_first(problems: list[Problem], field: str) -> None:
    for problem in problems:
        if problem.severity == PROBLEM_SEVERITY_ERROR:
            where = f"line {problem.line}, column {problem.column}: " if problem.line else ""
            raise StrongroomError(
                Reason.POLICY_INVALID,
                f"{field} is no valid policy: {where}{problem.message}",
                field=field,
                line=str(problem.line),
                column=str(problem.column),
                error=problem.message,
            )


class _Places:
    """Where statements stand in a text, for people. Nowhere in particular where it is not taken apart here as Cedar
    does it."""

    def __init__(self, cedar: str, count: int) -> None:
        self._cedar = cedar
        found = list(_pieces(cedar))
        self._pieces = found if len(found) == count else []

    def of(
        self, number: int, message: str, named: str = "", severity: ProblemSeverity.ValueType = PROBLEM_SEVERITY_ERROR
    ) -> Problem:
        """A problem of a statement, which stands where it first has `named`."""
        if not self._pieces:
            return Problem(severity, 0, 0, message)
        piece = self._pieces[number]
        offset = max(piece.text.find(named), 0)
        return _at(self._cedar, piece.begin + offset, message, severity)


def _pieces(cedar: str) -> Iterator[_Statement]:
    """About what the statements are, each with its semicolon; what stands behind the last one is one too,
    unfinished."""
    begin, meaningful = 0, False
    for found in _LEXEME.finditer(cedar):
        lexeme = found[0]
        if not meaningful and (lexeme.startswith("//") or not lexeme.strip()):
            begin = found.end()
            continue
        if not meaningful:
            begin, meaningful = begin + len(lexeme) - len(lexeme.lstrip()), True
        if lexeme == ";":
            yield _Statement(cedar[begin : found.end()], begin)
            begin, meaningful = found.end(), False
    if meaningful:
        yield _Statement(cedar[begin:], begin)


def _unreadable(cedar: str, message: str) -> list[Problem]:
    """Why a text is not read, where the place is found: of each piece of it that is not read by itself."""
    if message == str(cedar_text.TemplatesError()):
        return [_at(cedar, piece.begin, message) for piece in _pieces(cedar) if _unread(piece.text) == message] or [
            Problem(PROBLEM_SEVERITY_ERROR, 0, 0, message)
        ]
    found = (problem for piece in _pieces(cedar) for problem in _misspelt(cedar, piece))
    problems = list(islice(found, _MAX_PLACES))
    return problems or [Problem(PROBLEM_SEVERITY_ERROR, 0, 0, message)]


def _misspelt(cedar: str, statement: _Statement) -> Iterator[Problem]:
    """Why a statement does not parse. Cedar's errors tell no place: it is where the text first fails as it does."""
    message = _unread(statement.text)
    if message is None:
        return
    if statement.text.count("(") + statement.text.count("[") + statement.text.count("{") > _MAX_SEARCHED_BRACKETS:
        yield _at(cedar, statement.begin, message)
        return
    good, bad = 0, len(statement.text)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _unread(statement.text[:middle]) == message:
            bad = middle
        else:
            good = middle
    named = _named(message)
    if named:
        offset = max(statement.text.rfind(named, 0, bad), 0)
    else:
        offset = len(statement.text) if message == _UNFINISHED else bad - 1
    yield _at(cedar, statement.begin + offset, message)


def _mistaken(cedar: str, statements: list[Json], kind: PolicyKind.ValueType, account: str) -> list[Problem]:
    """What is wrong with statements that parse."""
    if not statements:
        return [Problem(PROBLEM_SEVERITY_ERROR, 0, 0, "there is no policy in it")]
    if len(statements) > _MAX_STATEMENTS:
        return [Problem(PROBLEM_SEVERITY_ERROR, 0, 0, f"has more than {_MAX_STATEMENTS} policies")]
    place = _Places(cedar, len(statements))
    # What is larger than it may be is not handed on to what would take its time with it.
    problems = list(_too_large(statements, place)) or list(_not_evaluated(cedar, place)) or _invalid(cedar, place)
    for number, statement in enumerate(statements):
        if kind == POLICY_KIND_IDENTITY:
            for name in _named_principals(statement):
                if name.startswith("accounts/") and _account_of(name) != account:
                    message = f"names {name}, which is not of this account: only a resource policy can"
                    problems.append(place.of(number, message, name))
        if any(condition == {"kind": "when", "body": {"Value": False}} for condition in statement["conditions"]):
            message = "never applies: its condition is false"
            problems.append(place.of(number, message, severity=PROBLEM_SEVERITY_WARNING))
    return list(dict.fromkeys(problems))


def _too_large(statements: list[Json], place: _Places) -> Iterator[Problem]:
    measures = [cedar_cost.measured(statement["conditions"]) for statement in statements]
    for number, measure in enumerate(measures):
        for value, most, what in (
            (
                measure.depth,
                MAX_DEPTH,
                "terms within terms; a set with `contains`, or several statements, say the same",
            ),
            (measure.most_wildcards, MAX_WILDCARDS_IN_PATTERN, "wildcards in a pattern"),
            (measure.longest_pattern, MAX_PATTERN, "characters in a pattern"),
            (measure.longest_literal, MAX_LITERAL, "characters in a string"),
        ):
            if value > most:
                yield place.of(number, f"has more than {most} {what}")
    for total, most, what in (
        (sum(measure.terms for measure in measures), MAX_TERMS, "terms in its conditions"),
        (sum(measure.wildcards for measure in measures), MAX_WILDCARDS, "wildcards in its patterns"),
    ):
        if total > most:
            yield Problem(PROBLEM_SEVERITY_ERROR, 0, 0, f"has more than {most} {what}")


def _not_evaluated(cedar: str, place: _Places) -> Iterator[Problem]:
    """What the services would not evaluate: they are asked."""
    for number, problem in enumerate(cedar_sets.problems_of(cedar)):
        if problem:
            yield place.of(number, f"cannot be evaluated: {problem}")


def _invalid(cedar: str, place: _Places) -> list[Problem]:
    """What the schema refuses."""
    result = with_deep_stack(lambda: cedarpy.validate_policies(cedar, schema().parsed, release_gil=True))
    problems = []
    for error in result.errors:
        message = str(error.error).replace(f"for policy `{error.policy_id}`, ", "")
        problems.append(place.of(int(error.policy_id.removeprefix("policy")), message, _named(message)))
    return problems


def _named_principals(parsed: Any) -> Iterator[str]:
    """Principals that a statement speaks of: in its scope, and what its conditions compare with `principal`."""
    scope = parsed["principal"]
    for part in (scope, scope.get("in") or {}):
        if "entity" in part:
            yield part["entity"]["id"]
    yield from _compared(parsed["conditions"])


def _compared(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for part in node:
            yield from _compared(part)
    elif isinstance(node, dict):
        for operator, operands in node.items():
            if operator in ("==", "in", "is", "!=") and {"Var": "principal"} in _operands(operands):
                yield from _entities(operands)
            yield from _compared(operands)


def _operands(operands: Any) -> list[Any]:
    return list(operands.values()) if isinstance(operands, dict) else []


def _entities(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for part in node:
            yield from _entities(part)
    elif isinstance(node, dict):
        entity = node.get("__entity")
        if isinstance(entity, dict):
            yield str(entity["id"])
        else:
            yield from _entities(list(node.values()))


def _account_of(name: str) -> str:
    found = _PRINCIPALS.fullmatch(name)
    return found[1] if found else ""


def _unread(text: str) -> str | None:
    """Why a part of a text is not read; None where it is."""
    try:
        cedar_text.statements(text)
    except PolicyUnreadableError as error:
        return str(error)
    return None


def _named(message: str) -> str:
    """What a message names, to find it in the text."""
    found = _QUOTED.search(message)
    return (found[1] or found[2]) if found else ""


def _at(
    cedar: str,
    offset: int,
    message: str,
    severity: ProblemSeverity.ValueType = PROBLEM_SEVERITY_ERROR,
) -> Problem:
    before = cedar[:offset]
    return Problem(severity, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1, message)
