"""What a process loads stays in its memory for as long as it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("service", "unneeded"),
    [
        ("crypto", {"psycopg", "sqlalchemy", "redis"}),
        ("keystore", {"psycopg"}),
        ("secrets", {"psycopg"}),
        ("audit", {"psycopg", "redis"}),
    ],
)
def test_a_service_loads_no_library_that_it_may_never_need(service: str, unneeded: set[str]) -> None:
    said = f"import sys, services.{service}.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", said], capture_output=True, check=True, text=True).stdout.split()
    assert not unneeded & set(loaded)
