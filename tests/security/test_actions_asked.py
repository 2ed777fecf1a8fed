"""Every action that a policy can forbid is asked for somewhere, and nothing is asked for that no policy can name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import services
from services.keystore.access.policies.policy_text import schema
from services.runtime.access import grants

_ACTION = re.compile(r"(?:access|audit|crypto|keystore|secrets):[A-Z][A-Za-z]+")
# Which actions a grant may permit, and what each assumes: lists that ask for nothing.
_LISTS = ("runtime/access/grants.py", "runtime/access/decisions.py")
# What a service does by itself, as its events have it, and a method that is asked for as two actions.
_OF_EVENTS_ALONE = {"audit:SetEventAside", "audit:WatchStorage", "crypto:ReEncrypt"}
# Asked for by the name that `runtime/access/grants.py` gives them.
_BY_CONSTANT = {grants.CREATE_GRANT, grants.RETIRE_GRANT}


def _named() -> set[str]:
    root = Path(services.__file__).parent
    paths = [path for path in root.rglob("*.py") if not path.as_posix().endswith(_LISTS)]
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if _ACTION.fullmatch(text)}


def test_every_action_of_the_schema_is_asked_for_somewhere() -> None:
    assert schema().actions - _named() - _BY_CONSTANT == set()


def test_what_is_asked_for_is_in_the_schema() -> None:
    assert _named() - schema().actions - _OF_EVENTS_ALONE == set()
