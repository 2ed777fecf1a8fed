"""Failures of every kind over two of each service on PostgreSQL with SoftHSM2, under load: `make storm`.

Not among the tests that `make test` collects: it needs a machine to itself. What of it holds on any machine is
`tests/faults/test_storm.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.dev.postgres import find_postgres
from deploy.dev.redis_server import find_redis
from deploy.dev.softhsm import find_module
from tests.faults.storm.databases import Databases
from tests.faults.storm.report import LONGEST_REFUSAL_SECONDS, Pace, storm

SECONDS = float(os.environ.get("STRONGROOM_STORM_SECONDS", "1200"))
SEED = int(os.environ.get("STRONGROOM_STORM_SEED", "1"))
CALLS_PER_SECOND = float(os.environ.get("STRONGROOM_STORM_CALLS", "20"))
# Names of events, or how they begin, joined by commas: the others do not happen.
KINDS = tuple(filter(None, os.environ.get("STRONGROOM_STORM_KINDS", "").split(",")))
# A round that has begun comes to its end, and what was acknowledged is looked for one by one.
JUDGING_SECONDS = 900.0


@pytest.mark.timeout(3 * SECONDS + JUDGING_SECONDS)
def test_a_storm_loses_nothing_and_is_over_when_it_is_over(tmp_path: Path) -> None:
    binaries = find_postgres()
    if binaries is None or find_redis() is None or find_module() is None:
        pytest.skip("PostgreSQL's server, redis-server or SoftHSM2 is not installed")
    with Databases(binaries) as databases:
        report = storm(
            databases,
            tmp_path,
            SEED,
            Pace(
                SECONDS,
                CALLS_PER_SECOND,
                settle_seconds=2.0,
                over_limits_seconds=12.0,
                busy_seconds=4.0,
                calm_seconds=10.0,
                kinds=KINDS,
            ),
        )
    # Whoever waited for it wants the figures whatever they are.
    print(*report.lines(), sep="\n")  # noqa: T201  # the figures are what it is run for
    assert report.verdict.lost == []
    assert report.verdict.duplicated == []
    assert report.verdict.wrong == []
    assert report.broken() == []
    assert report.failed_in_rolls() == []
    assert report.grown() == []
    assert report.slow(LONGEST_REFUSAL_SECONDS) == {}
