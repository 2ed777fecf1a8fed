"""Every kind of failure once over two of each service, under load: `make storm` is the long one.

What `make storm` holds on a machine of its own holds here too, within bounds that leave room for a loaded one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.dev.postgres import find_postgres
from deploy.dev.redis_server import find_redis
from deploy.dev.softhsm import find_module
from tests.faults.storm.databases import Databases
from tests.faults.storm.report import Pace, storm

SEED = 15
PACE = Pace(0, 8.0, settle_seconds=0.5, over_limits_seconds=6.0, busy_seconds=1.0, calm_seconds=1.0)
# At so few calls one of the rarer ones is answered seconds after the mesh is well again.
LONGEST_REFUSAL_SECONDS = 15.0
LARGEST_GROWTH = 1.6


def test_nothing_acknowledged_is_lost_in_a_storm_and_nothing_needs_a_person(tmp_path: Path) -> None:
    binaries = find_postgres()
    if binaries is None or find_redis() is None or find_module() is None:
        pytest.skip("PostgreSQL's server, redis-server or SoftHSM2 is not installed")
    with Databases(binaries) as databases:
        report = storm(databases, tmp_path, SEED, PACE)
    verdict, figures = report.verdict, "\n".join(report.lines())
    assert verdict.lost == [], figures
    assert verdict.duplicated == [], figures
    assert verdict.wrong == [], figures
    assert report.broken() == [], figures
    assert report.failed_in_rolls() == [], figures
    assert report.slow(LONGEST_REFUSAL_SECONDS) == {}, figures
    assert report.grown(LARGEST_GROWTH) == [], figures
    assert verdict.writes > 0, figures
    assert verdict.events > 0, figures
