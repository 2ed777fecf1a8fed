"""How large Cedar expressions are, and what evaluating them can cost.

The cost is that of a statement's conditions, and the same for each scope: which actions it is for is decided before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from services.runtime.access.cedar_text import Json

CALL = 60
"""In units: one call of Cedar, however small."""
PAIR = 40
"""In units: each pair of the encryption context, and each session tag, that a call hands to Cedar."""
READ_PAIR = 4
"""In units: each of them, for each time that a statement looks at all."""
MAX_DECISION = 6_000
"""In units, for each side of a decision: 2 ms, and up to 3 ms on a loaded core. Nobody else's Python runs in 0.3 ms of
it at once, or in all of it where one statement costs so much, or the context has more than a few pairs.

So it is of every shape of statement, since what a scope has beside one principal and one resource is not evaluated. To
read the statements of a side, once after each change, takes Cedar up to 50 ms more, while others' Python runs."""
MAX_RUNNABLE_DEPTH = 60
"""Cedar reads no statement from JSON whose terms nest deeper."""

# One unit is at most what looking for one entity among others takes: 0.35 µs; most take a third of that. Measured with
# cedarpy 4.12.
_STATEMENT = 10
_EXTENSION = 10
# The longest string that a pattern meets is a literal or a tag.
_MATCHED = 1_024
_STEPS_A_UNIT = 320
_PLAIN = frozenset(
    (
        *("!", "neg", "==", "!=", "in", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*"),
        *("contains", "containsAll", "containsAny", "isEmpty", "getTag", "hasTag", ".", "has", "is"),
        *("if-then-else", "Set", "Record", "Value", "Var", "Slot"),
    )
)
_CONTEXT = {"Var": "context"}
_SETS = ("encryption_context", "session_tags")


@dataclass(slots=True)
class Measure:
    """What is in the conditions of a statement."""

    depth: int = 0
    terms: int = 0
    """Operators, operands, and elements of sets and records."""
    cost: int = _STATEMENT
    """In units, at most, beside what `set_reads` cost."""
    set_reads: int = 0
    """How often it looks at every pair of the encryption context or every session tag."""
    wildcards: int = 0
    """In all patterns."""
    most_wildcards: int = 0
    """In one pattern."""
    longest_pattern: int = 0
    longest_literal: int = 0


def measured(conditions: Sequence[Json]) -> Measure:
    """The measure of a statement's conditions, as far as they nest no deeper than ten levels beyond what can run."""
    measure = Measure()
    waiting: list[tuple[Any, int]] = [(condition["body"], 1) for condition in conditions]
    while waiting:
        node, depth = waiting.pop()
        measure.terms += 1
        measure.cost += 1
        measure.depth = max(measure.depth, depth)
        for operator, operands in node.items():
            _measure_operator(operator, operands, measure)
            if depth < MAX_RUNNABLE_DEPTH + 10:
                waiting.extend((operand, depth + 1) for operand in _operands(operator, operands))
    return measure


def _measure_operator(operator: str, operands: Any, measure: Measure) -> None:
    if operator == "Value":
        _measure_value(operands, measure)
    elif operator == "like":
        _measure_pattern(operands["pattern"], measure)
    elif operator == "Var":
        # The context as a whole, or what is taken from it, which its attribute tells.
        measure.set_reads += operands == "context"
    elif operator == "has" or (operator == "." and operands["attr"] not in _SETS):
        measure.set_reads -= operands["left"] == _CONTEXT
    elif operator == "contains":
        # It is looked up.
        measure.set_reads -= _is_set(operands["left"])
    elif operator not in _PLAIN:
        measure.cost += _EXTENSION


def _is_set(node: Json) -> bool:
    member = node.get(".", {})
    return member.get("left") == _CONTEXT and member["attr"] in _SETS


def _operands(operator: str, operands: Any) -> Iterator[Json]:
    """The expressions that an operator has. Attributes, patterns, values and names of types are none."""
    if operator in ("Value", "Var", "Slot"):
        return
    if isinstance(operands, list):
        yield from operands
    elif operator == "Record":
        yield from operands.values()
    else:
        yield from (operand for operand in operands.values() if isinstance(operand, dict))


def _measure_value(value: Any, measure: Measure) -> None:
    """A literal; of several values where Cedar made one of a set or record of literals."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            measure.longest_literal = max(measure.longest_literal, len(one))
        elif isinstance(one, dict) and "__entity" in one:
            measure.longest_literal = max(measure.longest_literal, len(one["__entity"]["id"]))
        elif isinstance(one, list | dict):
            parts = list(one.values() if isinstance(one, dict) else one)
            measure.terms += len(parts)
            measure.cost += len(parts)
            waiting.extend(parts)


def _measure_pattern(pattern: Sequence[Any], measure: Measure) -> None:
    wildcards = sum(part == "Wildcard" for part in pattern)
    length = sum(len(part["Literal"]) for part in pattern if isinstance(part, dict))
    measure.wildcards += wildcards
    measure.most_wildcards = max(measure.most_wildcards, wildcards)
    measure.longest_pattern = max(measure.longest_pattern, length)
    # Without a wildcard the first letter that differs ends it.
    measure.cost += length * (_MATCHED if wildcards else 1) // _STEPS_A_UNIT
