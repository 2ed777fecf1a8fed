"""Policies as their authors write them: checked against the published schema, with the place of each problem."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import cedarpy

from services.runtime.errors import Reason, StrongroomError, required, too_large
from strongroom.access.v1.policy_pb2 import (
    POLICY_KIND_IDENTITY,
    PROBLEM_SEVERITY_ERROR,
    PROBLEM_SEVERITY_WARNING,
    PolicyKind,
    ProblemSeverity,
)

SCHEMA_FILE = Path(__file__).with_name("strongroom.cedarschema")
JSON_SCHEMA_FILE = Path(__file__).with_name("strongroom.cedarschema.json")
"""Made from the other by `tools/cedar_schema`."""

MAX_BYTES = 32_768
MAX_SESSION_POLICY_BYTES = 2_048
_MAX_STATEMENTS = 100
_MAX_PROBLEMS = 100

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
    """The same schema as JSON."""
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
    statements = list(_statements(cedar))
    problems = [problem for statement in statements for problem in _misspelt(cedar, statement)]
    if not problems:
        problems = _mistaken(cedar, statements, kind, account)
    if not statements:
        problems = [Problem(PROBLEM_SEVERITY_ERROR, 0, 0, "there is no policy in it")]
    if len(statements) > _MAX_STATEMENTS:
        problems = [Problem(PROBLEM_SEVERITY_ERROR, 0, 0, f"has more than {_MAX_STATEMENTS} policies")]
    return sorted(problems, key=lambda problem: (problem.line, problem.column))[:_MAX_PROBLEMS]


def require_valid(cedar: str, kind: PolicyKind.ValueType, account: str, field: str, max_bytes: int = MAX_BYTES) -> None:
    """Raises POLICY_INVALID with line, column and the first error in the metadata; FIELD_REQUIRED, FIELD_TOO_LARGE."""
    if not cedar.strip():
        raise required(field)
    if len(cedar.encode()) > max_bytes:
        raise too_large(field, max_bytes)
    _raise_first(check(cedar, kind, account), field)


def require_valid_trust(cedar: str, account: str, field: str) -> None:
    """The same for a role's trust policy, which may speak of `access:AssumeRole` and `access:TagSession` alone."""
    require_valid(cedar, PolicyKind.POLICY_KIND_RESOURCE, account, field)
    for statement in _statements(cedar):
        action = _parsed(statement.text)["action"]
        named = {entity["id"] for entity in action.get("entities", [action.get("entity", {"id": ""})])}
        if not named <= _OF_TRUST:
            problem = _at(cedar, statement.begin, f"a trust policy is over {' and '.join(sorted(_OF_TRUST))} alone")
            _raise_first([problem], field)


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


def _statements(cedar: str) -> Iterator[_Statement]:
    """The statements, each with its semicolon; what stands behind the last one is a statement too, unfinished."""
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


def _misspelt(cedar: str, statement: _Statement) -> Iterator[Problem]:
    """Why a statement does not parse. Cedar's errors tell no place: it is where the text first fails as it does."""
    message = _parse_error(statement.text)
    if message is None:
        return
    good, bad = 0, len(statement.text)
    while bad - good > 1:
        middle = (good + bad) // 2
        if _parse_error(statement.text[:middle]) == message:
            bad = middle
        else:
            good = middle
    named = _named(message)
    if named:
        offset = max(statement.text.rfind(named, 0, bad), 0)
    else:
        offset = len(statement.text) if message == _UNFINISHED else bad - 1
    yield _at(cedar, statement.begin + offset, message)


def _mistaken(cedar: str, statements: list[_Statement], kind: PolicyKind.ValueType, account: str) -> list[Problem]:
    """What is wrong with statements that parse."""
    problems: list[Problem] = []
    for statement in statements:
        parsed = _parsed(statement.text)
        if not parsed:
            problems.append(_at(cedar, statement.begin, "templates are not supported"))
            continue
        for error in cedarpy.validate_policies(statement.text, schema().parsed).errors:
            message = str(error.error).replace("for policy `policy0`, ", "")
            offset = max(statement.text.find(_named(message)), 0)
            problems.append(_at(cedar, statement.begin + offset, message))
        if kind == POLICY_KIND_IDENTITY:
            for name in _named_principals(parsed):
                if name.startswith("accounts/") and _account_of(name) != account:
                    offset = max(statement.text.find(name), 0)
                    message = f"names {name}, which is not of this account: only a resource policy can"
                    problems.append(_at(cedar, statement.begin + offset, message))
        if any(condition == {"kind": "when", "body": {"Value": False}} for condition in parsed["conditions"]):
            problems.append(
                _at(cedar, statement.begin, "never applies: its condition is false", PROBLEM_SEVERITY_WARNING)
            )
    return list(dict.fromkeys(problems))


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


def _parse_error(text: str) -> str | None:
    try:
        cedarpy.policies_to_json_str(text)
    except ValueError as error:
        return str(error)
    return None


def _parsed(statement: str) -> Any:
    """The statement as Cedar's JSON has it; nothing for a template."""
    return next(iter(json.loads(cedarpy.policies_to_json_str(statement))["staticPolicies"].values()), None)


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
