"""Many callers use HSM keys while sessions are dropped and the token goes and comes: `bench hsm-soak`, in short."""

from __future__ import annotations

from bench import hsm_soak
from tests.conftest import POSTGRES_SOFTHSM, PrivateMeshes

SECONDS = 12.0
SECONDS_BETWEEN_OUTAGES = 4.0


def test_no_crash_no_wrong_answer_and_no_caller_left_alone(private_mesh: PrivateMeshes) -> None:
    mesh = private_mesh(POSTGRES_SOFTHSM)
    figures = hsm_soak.soak(mesh, SECONDS, SECONDS_BETWEEN_OUTAGES)
    for never in ("crashes", "wrong_answers", "internal_errors", "stuck_callers"):
        assert figures[never] == 0, figures
    assert figures["calls"] > hsm_soak.CALLERS
    assert figures["reconnects"] >= 1
