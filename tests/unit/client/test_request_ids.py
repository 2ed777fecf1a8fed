"""Every request that can be repeated by its id has one: what was lost on the way is asked for again, not done twice."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import strongroom
from strongroom import calls

ROOM = Path(calls.__file__).parent


def _with_ids() -> set[str]:
    found = set()
    for module in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if module.name.endswith("_service_pb2"):
            messages = importlib.import_module(module.name).DESCRIPTOR.message_types_by_name
            found |= {name for name, message in messages.items() if "request_id" in message.fields_by_name}
    return found


def test_every_request_with_an_id_is_given_one() -> None:
    wanted, made = _with_ids(), {}
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in wanted:
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                made[node.func.attr] = given.get("request_id", "")
    assert made == dict.fromkeys(wanted, "new_request_id()")
