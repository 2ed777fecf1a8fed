"""Stages: which version each one is at, and how long a version's value is kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from services.runtime.errors import Reason, StrongroomError, invalid, required
from services.secrets.core.model import CURRENT, PENDING, PREVIOUS, Secret

MAX_CUSTOM_STAGES = 20

OWN_STAGES = frozenset((CURRENT, PREVIOUS, PENDING))
"""Those that the service itself gives a meaning."""

_STAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def check_stages(asked: Sequence[str], field: str = "stages") -> Sequence[str]:
    """The stages of a version that is put; Current when none is named. Raises FIELD_INVALID."""
    for stage in asked:
        check_stage(stage, field)
        if stage in (PREVIOUS, PENDING):
            raise invalid(field, f"cannot name {stage}, which follows by itself")
    if len(asked) > MAX_CUSTOM_STAGES:
        raise invalid(field, f"names more than {MAX_CUSTOM_STAGES}")
    return sorted(set(asked)) or [CURRENT]


def moves(secret: Secret, version: int, stages: Sequence[str]) -> Mapping[str, int]:
    """Where stages go when `version` is put at `stages`: what was Current becomes Previous. Raises LIMIT_EXCEEDED."""
    moved = dict.fromkeys(stages, version)
    if CURRENT in moved and CURRENT in secret.stages:
        moved[PREVIOUS] = secret.stages[CURRENT]
    check_stage_count(secret.stages.keys() | moved.keys())
    return moved


def check_stage(stage: str, field: str = "stage") -> str:
    """A stage of any kind. Raises FIELD_REQUIRED, FIELD_INVALID."""
    if not stage:
        raise required(field)
    if not _STAGE.fullmatch(stage):
        raise invalid(field, f"must match {_STAGE.pattern}")
    return stage


def check_stage_count(stages: Collection[str]) -> None:
    """Raises LIMIT_EXCEEDED when a secret would have more custom stages than it may."""
    if len(set(stages) - OWN_STAGES) > MAX_CUSTOM_STAGES:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"a secret has at most {MAX_CUSTOM_STAGES} stages of its own",
            limit=str(MAX_CUSTOM_STAGES),
        )


def outlived(kept: Sequence[int], staged: Mapping[str, int], retained: int) -> list[int]:
    """Which of the versions that still have a value, oldest first in `kept`, lose it so that `retained` are left.

    A version at a stage keeps its value; LIMIT_EXCEEDED when all that are too many are at one.
    """
    excess = len(kept) - retained
    if excess <= 0:
        return []
    at_stage = set(staged.values())
    oldest = [version for version in kept if version not in at_stage][:excess]
    if len(oldest) < excess:
        raise StrongroomError(
            Reason.LIMIT_EXCEEDED,
            f"every version that could be destroyed is at a stage, and {retained} are retained",
            limit=str(retained),
        )
    return oldest
