"""Every step of a key's and a version's life that is legal, and each of the others refused."""

from __future__ import annotations

from itertools import product

import pytest

from services.keystore.store.states import KeyEvent, VersionEvent, next_state, next_version_state
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1 import key_pb2 as k

E, D, P, X = k.KEY_STATE_ENABLED, k.KEY_STATE_DISABLED, k.KEY_STATE_PENDING_DELETION, k.KEY_STATE_DESTROYED
W = k.KEY_STATE_PENDING_IMPORT
VE, VD, VX = k.KEY_VERSION_STATE_ENABLED, k.KEY_VERSION_STATE_DISABLED, k.KEY_VERSION_STATE_DESTROYED
VW, VP = k.KEY_VERSION_STATE_PENDING_IMPORT, k.KEY_VERSION_STATE_PENDING_DESTRUCTION

# Written down a second time on purpose, by event: what each leads to from which state.
LEGAL = {
    KeyEvent.ENABLE: {E: E, D: E},
    KeyEvent.DISABLE: {E: D, D: D},
    KeyEvent.DESCRIBE: {E: E, D: D, W: W, P: P},
    KeyEvent.PROTECT: {E: E, D: D, W: W},
    KeyEvent.PLAN_ROTATION: {E: E, D: D, W: W},
    KeyEvent.ROTATE: {E: E},
    KeyEvent.CHOOSE_PRIMARY: {E: E, D: D, W: E},
    KeyEvent.CHANGE_VERSION: {E: E, D: D, W: W},
    KeyEvent.SCHEDULE_DELETION: {E: P, D: P, W: P},
    KeyEvent.GAIN_MATERIAL: {E: E, D: D, W: E},
    KeyEvent.LOSE_MATERIAL: {E: W, D: W, P: P},
    KeyEvent.CANCEL_DELETION: {P: D},
    KeyEvent.DESTROY: {P: X},
}
LEGAL_OF_VERSIONS = {
    VersionEvent.ENABLE: {VD: VE},
    VersionEvent.DISABLE: {VE: VD},
    VersionEvent.CHOOSE: {VE: VE},
    VersionEvent.IMPORT: {VE: VE, VD: VD, VW: VE},
    VersionEvent.LOSE_MATERIAL: {VE: VW, VD: VW, VP: VP},
    VersionEvent.PLAN_DESTRUCTION: {VD: VP},
    VersionEvent.CANCEL_DESTRUCTION: {VP: VD},
    VersionEvent.DESTROY: {VD: VX, VW: VX, VP: VX},
    VersionEvent.DESTROY_WITH_KEY: {VE: VX, VD: VX, VW: VX, VP: VX, VX: VX},
}


@pytest.mark.parametrize(("state", "event"), list(product((E, D, W, P, X), KeyEvent)))
def test_a_key_moves_as_it_may_and_not_otherwise(state: k.KeyState.ValueType, event: KeyEvent) -> None:
    following = LEGAL[event].get(state)
    if following is not None:
        assert next_state(state, event) == following
        return
    with pytest.raises(StrongroomError) as refused:
        next_state(state, event)
    assert refused.value.reason is Reason.KEY_STATE_INVALID
    assert refused.value.metadata["state"] == k.KeyState.Name(state).removeprefix("KEY_STATE_")


@pytest.mark.parametrize(("state", "event"), list(product((VE, VD, VW, VP, VX), VersionEvent)))
def test_a_version_moves_as_it_may_and_not_otherwise(state: k.KeyVersionState.ValueType, event: VersionEvent) -> None:
    following = LEGAL_OF_VERSIONS[event].get(state)
    if following is not None:
        assert next_version_state(state, event) == following
        return
    with pytest.raises(StrongroomError) as refused:
        next_version_state(state, event)
    assert refused.value.reason is Reason.KEY_STATE_INVALID


def test_nothing_brings_back_what_is_destroyed() -> None:
    assert all(X not in targets for targets in LEGAL.values())
