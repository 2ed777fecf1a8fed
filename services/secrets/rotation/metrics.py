"""What is counted of rotations."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from services.secrets.kinds.known import type_name
from strongroom.secrets.v1.rotation_pb2 import RotationState, RotationStep
from strongroom.secrets.v1.secret_pb2 import SecretType


class RotationMetrics:
    """Counters and histograms, by type of secret."""

    def __init__(self, meter: Meter) -> None:
        self._attempts = meter.create_counter("secrets.rotation.attempts", description="steps tried, by error reason")
        self._ended = meter.create_counter("secrets.rotation.ended", description="rotations that ended or failed")
        self._duration = meter.create_histogram(
            "secrets.rotation.duration", unit="s", description="of those that ended"
        )
        self._lateness = meter.create_histogram("secrets.rotation.lateness", unit="s", description="begun after due")

    def tried(self, kind: SecretType.ValueType, step: RotationStep.ValueType, reason: str) -> None:
        """A step was tried; without a reason it went well."""
        self._attempts.add(1, {"type": type_name(kind), "step": _step(step), "reason": reason or "OK"})

    def ended(self, kind: SecretType.ValueType, state: RotationState.ValueType, seconds: float | None = None) -> None:
        """A rotation ended after so long, or waits for a person."""
        self._ended.add(
            1, {"type": type_name(kind), "state": RotationState.Name(state).removeprefix("ROTATION_STATE_")}
        )
        if seconds is not None:
            self._duration.record(seconds, {"type": type_name(kind)})

    def late(self, seconds: float) -> None:
        """A rotation began so long after it fell due."""
        self._lateness.record(seconds)


def _step(step: RotationStep.ValueType) -> str:
    return RotationStep.Name(step).removeprefix("ROTATION_STEP_")
