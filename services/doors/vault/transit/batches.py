"""Batches: items with an outcome each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.doors.listening.exchange import Response
from services.doors.vault import answers, errors
from services.doors.vault.answers import Raw
from services.doors.vault.requests import Request, text_in

MAX_ITEMS = 1000

Outcome = dict[str, Any]
"""What became of an item: its members, or `error`."""
Told = Outcome | Raw
"""An outcome, or one that is none of an error and is written already: a batch has many of those."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The items of a request, and how it wants to be told that some of them failed."""

    items: Sequence[dict[str, Any]]
    partial_failure: int

    @classmethod
    def of(cls, request: Request) -> Batch | None:
        """The batch that a request is; None for a single item. Raises HttpError."""
        items = request.parameters.get("batch_input")
        if items is None:
            return None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise errors.invalid("batch_input is no list of objects")
        if not 1 <= len(items) <= MAX_ITEMS:
            raise errors.invalid(f"batch_input has 1 to {MAX_ITEMS} items")
        for item in items:
            text_in(item, "reference")
        partial = request.number("partial_failure_response_code", 400)
        if not 200 <= partial < 500:
            raise errors.invalid("partial_failure_response_code is no status from 200 to 499")
        return cls(items, partial)


def answered(batch: Batch, outcomes: Sequence[Told]) -> Response:
    """The outcomes in the order of their items, each with its item's reference. All that failed is an error; some that
    did is what the request says, by default an error too."""
    texts = [_text(item, outcome) for item, outcome in zip(batch.items, outcomes, strict=True)]
    failed = sum(isinstance(outcome, dict) and "error" in outcome for outcome in outcomes)
    status = 200 if not failed else 400 if failed == len(outcomes) else batch.partial_failure
    return answers.data({"batch_results": Raw(f"[{','.join(texts)}]")}, status=status)


def _text(item: dict[str, Any], outcome: Told) -> str:
    text = outcome.text if isinstance(outcome, Raw) else json.dumps(outcome, separators=(",", ":"))
    reference = item.get("reference")
    return f'{text[:-1]},"reference":{json.dumps(reference)}}}' if reference else text
