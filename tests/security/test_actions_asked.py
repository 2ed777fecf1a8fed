"""Every action that a policy can forbid is asked for somewhere, and nothing is asked for that no policy can name.

An action is asked for where it reaches `Authorizer.authorize` or `refuse`: given to them, or to a function that gives
one of its parameters on to them. A list that it stands in, or an event, asks for nothing.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import services
from services.keystore.access.policies.policy_text import schema

_ACTION = re.compile(r"(?:access|audit|crypto|keystore|secrets):[A-Z][A-Za-z]+")
_ASKED = {"authorize": {"action"}, "refuse": {"action"}}
# Names what only events are of: what a service does by itself.
_OF_EVENTS_ALONE = {"audit:FindLoss", "audit:WatchStorage"}


@cache
def _modules() -> dict[Path, ast.Module]:
    root = Path(services.__file__).parent
    return {path: ast.parse(path.read_text()) for path in sorted(root.rglob("*.py"))}


@cache
def _functions() -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = defaultdict(list)
    for module in _modules().values():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                found[node.name].append(node)
    return found


def _called(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _given(call: ast.Call, asking: dict[str, set[str]]) -> Iterator[ast.expr]:
    """The arguments of a call that are actions which it asks for."""
    name, arguments = _called(call.func), call.args
    if name == "partial" and arguments:
        name, arguments = _called(arguments[0]), arguments[1:]
    wanted = asking.get(name, set())
    yield from (keyword.value for keyword in call.keywords if keyword.arg in wanted)
    for function in _functions().get(name, []):
        parameters = [one.arg for one in (*function.args.posonlyargs, *function.args.args) if one.arg != "self"]
        yield from (value for parameter, value in zip(parameters, arguments, strict=False) if parameter in wanted)


@cache
def _asking() -> dict[str, set[str]]:
    """The functions that ask for what they are given, with the parameters that are actions."""
    asking = {name: set(parameters) for name, parameters in _ASKED.items()}
    passing = [
        (function, actions, [node for node in ast.walk(function) if isinstance(node, ast.Call)])
        for functions in _functions().values()
        for function in functions
        if (actions := _actions_of(function))
    ]
    while True:
        before = {name: set(parameters) for name, parameters in asking.items()}
        for function, actions, calls in passing:
            values = [value for node in calls for value in _given(node, asking)]
            passed = actions & _names_behind(function, values) if values else set()
            if passed:
                asking.setdefault(function.name, set()).update(passed)
        if asking == before:
            return asking


def _actions_of(function: ast.FunctionDef) -> set[str]:
    parameters = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return {one.arg for one in parameters if "action" in one.arg}


def _names_behind(scope: ast.AST, values: list[ast.expr]) -> set[str]:
    """The names that expressions rest on, through what is assigned to them and what they are taken from one by one."""
    names = {node.id for value in values for node in ast.walk(value) if isinstance(node, ast.Name)}
    while True:
        before = set(names)
        for target, value in _bound(scope):
            if names & {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}:
                names |= {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
        if names == before:
            return names


def _bound(scope: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned to what, and what is taken from what."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            yield from ((target, node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            yield node.func.value, node.args[0]
        elif isinstance(node, ast.For | ast.comprehension):
            yield node.target, node.iter
        elif isinstance(node, ast.FunctionDef):
            # What a function of the module answers, under its name.
            for answer in ast.walk(node):
                if isinstance(answer, ast.Return) and answer.value is not None:
                    yield ast.Name(node.name), answer.value


@cache
def _asked() -> set[str]:
    asking = _asking()
    found = set()
    for module in _modules().values():
        values = [value for node in ast.walk(module) if isinstance(node, ast.Call) for value in _given(node, asking)]
        names = _names_behind(module, values)
        values += [value for target, value in _everywhere() if isinstance(target, ast.Name) and target.id in names]
        values += [
            value
            for target, value in _bound(module)
            if names & {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
        ]
        for value in values:
            found |= {
                one.value for one in ast.walk(value) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }
    return {text for text in found if _ACTION.fullmatch(text)}


@cache
def _everywhere() -> list[tuple[ast.expr, ast.expr]]:
    """Constants of modules, which others import by their names."""
    found: list[tuple[ast.expr, ast.expr]] = []
    for module in _modules().values():
        for node in module.body:
            if isinstance(node, ast.Assign):
                targets, value = node.targets[0], node.value
                several = isinstance(targets, ast.Tuple) and isinstance(value, ast.Tuple)
                pairs = zip(targets.elts, value.elts, strict=True) if several else [(targets, value)]  # type: ignore[attr-defined]
                found += [(one, of_it) for one, of_it in pairs if isinstance(one, ast.Name) and one.id.isupper()]
    return found


def test_every_action_of_the_schema_is_asked_for() -> None:
    assert schema().actions - _asked() == set()


def test_what_is_asked_for_is_in_the_schema() -> None:
    assert _asked() - schema().actions - _OF_EVENTS_ALONE == set()
