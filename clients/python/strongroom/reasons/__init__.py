"""Why calls fail: for every stable reason what it means, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.reasons.client import CLIENT
from strongroom.reasons.requests import REQUESTS
from strongroom.reasons.resources import RESOURCES
from strongroom.reasons.service import SERVICE
from strongroom.reasons.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a reason means (`cause`), what to do about it (`cure`), and what it is about (`subject`)."""

    reason: str
    subject: str
    cause: str
    cure: str


_TABLES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "The request, and who makes it": REQUESTS,
    "What is asked for": RESOURCES,
    "The target of a rotation": TARGETS,
    "The service, and what it needs": SERVICE,
    "The client and the command line": CLIENT,
}

EXPLANATIONS: Mapping[str, Explanation] = {
    reason: Explanation(reason, subject, cause, cure)
    for subject, table in _TABLES.items()
    for reason, (cause, cure) in table.items()
}
"""Every reason that a StrongroomError can have, in the order of the documentation."""
