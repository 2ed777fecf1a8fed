"""Every reason of an error, with its cause and cure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from services.runtime.errors import CODE_OF, Reason
from strongroom.reasons import EXPLANATIONS
from tools.reference.markdown import code, document, table

_LEAD = """\
A call that is refused or fails has a reason. It is stable: programs may switch on it, and its meaning never changes.
In Python it is `StrongroomError.reason`; other languages find it in the `google.rpc.ErrorInfo` of the status, under
the domain `strongroom`. The message beside it is for people, names the field that is at fault, and may change.

Press Ctrl-F and type the reason, or type `strongroom help KEY_DISABLED` in a terminal.
"""


def page() -> str:
    """The page."""
    return document("Error reasons", _lines())


def _lines() -> Iterator[str]:
    yield _LEAD
    codes = {reason.value: CODE_OF[reason].name for reason in Reason}
    for subject, explanations in groupby(EXPLANATIONS.values(), lambda one: one.subject):
        yield f"## {subject}"
        yield ""
        yield from table(
            ("reason", "gRPC code", "what it means", "what to do"),
            ((code(one.reason), code(codes.get(one.reason, "")), one.cause, one.cure) for one in explanations),
        )
