"""Whoever can change the least of an account keeps nobody from taking that away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from services.keystore.access.accounts.principals import Principals
from services.keystore.access.editing import plans
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import writes
from tests.unit.keystore.access.editing.test_order import ADMIN, ANN, EDITS, World


@pytest.mark.parametrize("removal", ["disable", "delete", "set_roles", "detach", "forbid"])
def test_no_small_changes_hold_off_a_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removal: str) -> None:
    world = World(tmp_path / "world")
    elsewhere = Principals(world.another_editor())
    read, alone = plans.Plan.read, [False]

    def reading_it(plan: plans.Plan, connection: Connection, now_us: int) -> None:
        alone[0] = writes(connection)
        read(plan, connection, now_us)

    def require(_plan: plans.Plan, *_arguments: Any) -> None:
        # Whenever anybody else can change anything, they do.
        if not alone[0]:
            elsewhere.revoke_sessions(world.call(), ANN)

    monkeypatch.setattr(plans.Plan, "read", reading_it)
    monkeypatch.setattr(plans.Plan, "require", require)
    edit = {
        "disable": EDITS["Principals.disable"],
        "delete": EDITS["Principals.delete"],
        "set_roles": EDITS["Principals.set_roles"],
        "detach": EDITS["Policies.detach"],
        "forbid": EDITS["Policies.create"],
    }
    edit[removal](world)
    assert alone == [True]


def test_what_is_planned_while_others_wait_is_still_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "world")
    monkeypatch.setattr("services.keystore.access.editing.planning._TRIES", 0)
    world.principals.disable(world.call(), ANN)
    with pytest.raises(StrongroomError) as refused:
        world.principals.disable(world.call(), ADMIN)
    assert refused.value.reason is Reason.POLICY_LOCKOUT
    assert not world.principals.get(world.call(), ADMIN).disabled


def test_a_stream_of_small_changes_does_not_hold_off_one_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, over = World(tmp_path / "world"), threading.Event()
    elsewhere = Principals(world.another_editor())
    checked = plans.Plan.require

    def slowly(plan: plans.Plan, *arguments: Any) -> None:
        # As if the account were large.
        over.wait(0.05)
        checked(plan, *arguments)

    def stream() -> int:
        made = 0
        while not over.wait(0.002):
            elsewhere.revoke_sessions(world.call(), ANN)
            made += 1
        return made

    monkeypatch.setattr(plans.Plan, "require", slowly)
    with ThreadPoolExecutor(1) as threads:
        streaming = threads.submit(stream)
        try:
            assert world.principals.disable(world.call(), ANN).disabled
        finally:
            over.set()
        assert streaming.result() > 0
