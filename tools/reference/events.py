"""What an event of the audit log holds, and every action that one can be of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.reference.contracts import contracts, field_path, type_of
from tools.reference.markdown import code, document, table

_SCHEMA = Path(__file__).resolve().parents[2] / "services/keystore/access/policies/strongroom.cedarschema.json"
_EVENT = "strongroom.audit.v1.Event"
_LEAD = """\
Every call is an event: [the audit log](../audit.md) says how events are read, proved and kept, what their attributes
mean, and what their fields are in OpenTelemetry and OCSF. This page lists what there is.
"""
_ACTIONS = """\
An action is what was authorized. Policies permit and forbid the same names. Besides these, the services record what
they do by themselves, such as `audit:WatchStorage`.
"""


def page() -> str:
    """The page."""
    return document("Events", _lines())


def _lines() -> Iterator[str]:
    yield _LEAD
    yield "## Fields"
    yield ""
    yield from table(("field", "type", "what"), _fields())
    yield "## Actions"
    yield ""
    yield _ACTIONS
    for service, actions in sorted(_actions().items()):
        yield f"### {service}"
        yield ""
        yield from table(("action", "on"), ((code(name), ", ".join(on)) for name, on in sorted(actions.items())))


def _fields() -> Iterator[tuple[str, str, str]]:
    for contract in contracts():
        for path, name, message in contract.messages():
            if name == _EVENT:
                for index, one in enumerate(message.field):
                    kind = type_of(message, one).replace("google.protobuf.", "").replace("strongroom.audit.v1.", "")
                    yield code(one.name), code(kind), contract.comment(*field_path(path, index))


def _actions() -> dict[str, dict[str, list[str]]]:
    """The kinds of resources that each action is on, by service."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for name, action in json.loads(_SCHEMA.read_text())["Strongroom"]["actions"].items():
        service, colon, _ = name.partition(":")
        if colon:
            found[service][name] = sorted(action["appliesTo"]["resourceTypes"])
    return found
