"""The direct way into the audit log, ended at seeded moments: nothing that a call was told of is lost.

`STRONGROOM_APPEND_CUTS` says how often (`make appends`: 500), `STRONGROOM_APPEND_SEED` at which moments.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.dev.certificates import DevelopmentAuthority
from services.runtime import extension
from services.runtime.errors import Reason
from tests.support.appending import AppendingMesh, Calls
from tests.support.clients import until
from tests.support.cutting_proxy import CuttingProxy

CUTS = int(os.environ.get("STRONGROOM_APPEND_CUTS", "24"))
SEED = int(os.environ.get("STRONGROOM_APPEND_SEED", "17"))
FAILURES = {"", Reason.AUDIT_UNREACHABLE, Reason.AUDIT_TIMEOUT}
_AT_ONCE = 40


class Ends:
    """A log behind a proxy, and how the way to it ends: the connection, the log's process, the appending one."""

    def __init__(self, mesh: AppendingMesh, moments: random.Random) -> None:
        self._mesh = mesh
        self._moments = moments
        self._target, self.port = mesh.port(), mesh.port()
        self._serving = ExitStack()
        self._proxy = CuttingProxy(self.port, self._target)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serves until the end."""
        with self._proxy:
            self._serve()
            try:
                yield
            finally:
                self._serving.close()

    def one(self, calls: Calls) -> None:
        """Makes calls, and ends something at one moment of them."""
        end = self._moments.choice((self._cut, self._cut, self._log_ends, self._appends_end))
        calls.begin(self._moments.randint(1, _AT_ONCE))
        end(calls)
        calls.begin(self._moments.randint(1, _AT_ONCE))

    def _cut(self, _calls: Calls) -> None:
        self._proxy.cut_at(self._moments.randint(1, 4), let_through=self._moments.random() < 0.5)

    def _log_ends(self, _calls: Calls) -> None:
        time.sleep(self._moments.random() * 0.01)
        self._serving.close()
        time.sleep(self._moments.random() * 0.05)
        self._serve()

    def _appends_end(self, calls: Calls) -> None:
        time.sleep(self._moments.random() * 0.01)
        calls.close()

    def _serve(self) -> None:
        self._serving.enter_context(self._mesh.serving(self._target))


@pytest.mark.skipif(not extension.is_built(), reason="the native listener is not built (make native)")
def test_nothing_is_acknowledged_without_its_event_however_the_way_ends(tmp_path: Path) -> None:
    mesh = AppendingMesh(DevelopmentAuthority(tmp_path / "authority"))
    ends = Ends(mesh, random.Random(SEED))
    with ends.running(), mesh.client(ends.port, deadline_seconds=5.0) as client:
        calls = Calls(client)
        for number in range(CUTS):
            if number % 4 == 0:
                # So that it is the direct way that ends, and not what follows it.
                until(lambda: client.directly, 20)
            ends.one(calls)
        until(calls.all_told, 60)
        until(lambda: client.directly, 20)
    assert {len(told) for told in calls.told.values()} == {1}
    reasons = {told[0] for told in calls.told.values()}
    assert reasons <= FAILURES, reasons
    acknowledged = {one for one, told in calls.told.items() if told == [""]}
    assert acknowledged <= mesh.log.kept
    # Ends are short, and deadlines long: hardly a call failed.
    assert len(acknowledged) > 0.9 * len(calls.told)
