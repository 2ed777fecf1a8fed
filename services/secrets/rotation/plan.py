"""What a rotation does in each of its steps, for one rotator: made before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.runtime.errors import Reason, StrongroomError
from services.secrets.core.model import CURRENT, PENDING, PREVIOUS
from services.secrets.kinds.declaration import Declaration
from services.secrets.rotation.rotators.rotator import Credential, Rotator
from services.secrets.rotation.targets.access import Credentials
from services.secrets.values.sealing import NewValue
from strongroom.secrets.v1.rotation_pb2 import (
    ROTATION_STEP_CREATE,
    ROTATION_STEP_FINISH,
    ROTATION_STEP_SET,
    ROTATION_STEP_TEST,
    RotationStep,
)

StepWork = Callable[[Credentials], NewValue | None]
"""Does a step with the values that it needs; CREATE answers the new value. Raises what the rotator raises, and
SECRET_VERSION_DESTROYED."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a rotation."""

    step: RotationStep.ValueType
    needs: frozenset[str]
    """The stages whose values it works with; Pending is the version that the rotation makes."""
    work: StepWork | None
    """None where this rotator has nothing to do in it."""
    moves_current: bool = False
    """Whether Current moves to the new version before the step begins."""
    wait_s: int = 0
    """How long after that it begins, in seconds."""

    @property
    def begins_at_once(self) -> bool:
        """Whether there is something to do as soon as the step before is done."""
        return self.work is not None and not self.wait_s


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a rotation, in order."""

    steps: tuple[PlannedStep, ...]

    def at(self, step: RotationStep.ValueType) -> PlannedStep:
        """What is planned for a step."""
        return next(planned for planned in self.steps if planned.step == step)

    def after(self, step: RotationStep.ValueType) -> Iterator[PlannedStep]:
        """What is planned for the steps that come after one."""
        numbers = [planned.step for planned in self.steps]
        return iter(self.steps[numbers.index(step) + 1 :])


def plan(rotator: Rotator, kind: Declaration, grace_period_s: int) -> Plan:
    """The plan of a rotation of a secret of this type, whose Previous is to work for the grace period where its type
    has one."""

    def create(known: Credentials) -> NewValue:
        return rotator.create(known.context, known.current)

    def make_valid(known: Credentials) -> None:
        rotator.set(known.context, _there(known, known.pending), known.current, known.previous)

    def test(known: Credentials) -> None:
        rotator.test(known.context, _there(known, known.pending))

    def finish(known: Credentials) -> None:
        rotator.finish(known.context, _there(known, known.current), known.previous)

    has_target = kind.target is not None
    return Plan(
        (
            PlannedStep(ROTATION_STEP_CREATE, frozenset({CURRENT}), create),
            PlannedStep(ROTATION_STEP_SET, frozenset({PENDING, CURRENT, PREVIOUS}), make_valid if has_target else None),
            PlannedStep(ROTATION_STEP_TEST, frozenset({PENDING}), test if has_target else None),
            PlannedStep(
                ROTATION_STEP_FINISH,
                frozenset({CURRENT, PREVIOUS}),
                finish if kind.cleans_up else None,
                moves_current=True,
                wait_s=grace_period_s if kind.has_grace_period else 0,
            ),
        )
    )


def _there(known: Credentials, credential: Credential | None) -> Credential:
    if credential is None:
        raise StrongroomError(
            Reason.SECRET_VERSION_DESTROYED,
            f"{known.context.rotation} has no value left to go on with",
            incurable="true",
        )
    return credential
