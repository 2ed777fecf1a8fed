"""Every kind of failure once over two of each service, under load: `make storm` is the long one.

Nothing here depends on how fast the machine is: how long callers were refused is for `make storm` to judge.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.dev.postgres import find_postgres
from deploy.dev.redis_server import find_redis
from deploy.dev.softhsm import find_module
from tests.faults.storm.databases import Databases
from tests.faults.storm.report import storm

SEED = 15
CALLS_PER_SECOND = 8.0
SETTLE_SECONDS = 0.5


def test_nothing_acknowledged_is_lost_in_a_storm_and_nothing_needs_a_person(tmp_path: Path) -> None:
    binaries = find_postgres()
    if binaries is None or find_redis() is None or find_module() is None:
        pytest.skip("PostgreSQL's server, redis-server or SoftHSM2 is not installed")
    with Databases(binaries) as databases:
        report = storm(
            databases,
            tmp_path,
            seed=SEED,
            seconds=0,
            calls_per_second=CALLS_PER_SECOND,
            settle_seconds=SETTLE_SECONDS,
        )
    verdict, figures = report.verdict, "\n".join(report.lines())
    assert verdict.lost == [], figures
    assert verdict.duplicated == [], figures
    assert verdict.wrong == [], figures
    assert report.broken() == [], figures
    assert verdict.writes > 0, figures
    assert verdict.events > 0, figures
