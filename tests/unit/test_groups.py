"""Which tests several processes do not share between them."""

from __future__ import annotations

import pytest


def test_those_of_a_module_stay_in_one_process(request: pytest.FixtureRequest) -> None:
    """What a module makes for all of its tests, a mesh perhaps, is made once then."""
    assert [mark.args for mark in request.node.iter_markers("xdist_group")] == [(f"{__name__}-",)]
    if getattr(request.config.option, "loadgroup", False):
        # By the end of its id xdist knows a test's group.
        assert request.node.nodeid.endswith(f"@{__name__}-")
