"""Every metric of the services, from where it is made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.reference.markdown import code, document, table

_SERVICES = Path(__file__).resolve().parents[2] / "services"
_LEAD = """\
Metrics go to the collector that `telemetry.otlp_endpoint` names, over OTLP. Each has the resource attribute
`service.name`. Names that begin with a service's are that service's alone.
"""
_KINDS = {
    "create_counter": "counter",
    "create_histogram": "histogram",
    "create_up_down_counter": "counter, up and down",
    "create_gauge": "gauge",
    "create_observable_counter": "counter",
    "create_observable_gauge": "gauge",
    "create_observable_up_down_counter": "counter, up and down",
}


class UnreadableMetricError(Exception):
    """A metric whose name is not written where it is made, so that no page can name it."""


@dataclass(frozen=True, order=True)
class Metric:
    """One metric."""

    name: str
    kind: str
    unit: str
    description: str


def page() -> str:
    """The page."""
    return document("Metrics", _lines())


def found(folder: Path = _SERVICES) -> list[Metric]:
    """Every metric that code below a folder makes. Raises UnreadableMetricError."""
    return sorted({metric for path in folder.rglob("*.py") for metric in _in(path)})


def _lines() -> Iterator[str]:
    yield _LEAD
    rows = ((code(one.name), one.kind, code(one.unit), one.description) for one in found())
    yield from table(("metric", "kind", "unit", "what"), rows)


def _in(path: Path) -> Iterator[Metric]:
    tree = ast.parse(path.read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _KINDS:
            yield from _made(path, node, loops)


def _made(path: Path, call: ast.Call, loops: list[ast.For]) -> Iterator[Metric]:
    """The metrics that one call makes: one for each round of the loop over literals that it stands in."""
    assert isinstance(call.func, ast.Attribute)  # noqa: S101  # the caller has looked
    kind = call.func.attr
    places = ("name", "unit", "description") if "observable" not in kind else ("name", "", "unit", "description")
    given: dict[str, ast.expr] = dict(zip(places, call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for values in _rounds(call, loops):
        texts = {place: _text(given.get(place), values) for place in ("name", "unit", "description")}
        if not texts["name"]:
            raise UnreadableMetricError(f"{path}:{call.lineno}: the metric's name is not written here")
        yield Metric(texts["name"], _KINDS[kind], texts["unit"], texts["description"])


def _rounds(call: ast.Call, loops: list[ast.For]) -> Iterator[dict[str, ast.expr]]:
    for loop in loops:
        if any(node is call for node in ast.walk(loop)) and isinstance(loop.iter, ast.Tuple):
            targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
            for row in loop.iter.elts:
                cells = row.elts if isinstance(row, ast.Tuple) else [row]
                yield {
                    target.id: one for target, one in zip(targets, cells, strict=True) if isinstance(target, ast.Name)
                }
            return
    yield {}


def _text(expression: ast.expr | None, values: dict[str, ast.expr]) -> str:
    if isinstance(expression, ast.Name):
        expression = values.get(expression.id)
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return expression.value
    return ""
